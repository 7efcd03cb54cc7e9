"""The processors that images are for, and what each calls itself in Debian, wheels and ELF files.

amd64 is the default: ids, tags, locks and labels of its images do not name it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Architecture:
    """One processor architecture under the names that it has in different places."""

    name: str  # "arm64": Debian's, the OCI's and our own
    machine: str  # "aarch64": as `uname -m` prints it, and in the names of wheels
    multiarch: str  # "aarch64-linux-gnu": Debian's folder of its libraries
    loader: str  # path of the dynamic loader, relative to the root
    elf: int  # e_machine in the header of its programs
    qemu_cpu: str = ""  # the processor that qemu plays where it runs them


AMD64 = Architecture("amd64", "x86_64", "x86_64-linux-gnu", "lib64/ld-linux-x86-64.so.2", 62)
# Vectors of 128 bits, as Grace has them: with the 2048 of qemu's own choice, which no processor
# has, NVIDIA's BLAS computes wrongly. And pointers signed by a quick function: emulating the real
# one makes everything take three times as long.
_GRACE = "max,sve-max-vq=1,pauth-impdef=on"
ARM64 = Architecture(
    "arm64", "aarch64", "aarch64-linux-gnu", "usr/lib/ld-linux-aarch64.so.1", 183, _GRACE
)
DEFAULT = AMD64
ARCHITECTURES = {x.name: x for x in (AMD64, ARM64)}


def of_machine(machine: str) -> Architecture | None:
    """Return the architecture of a machine, by any of its names; None for one without images.

    Windows calls x86_64 AMD64, and macOS aarch64 arm64.
    """
    name = machine.lower()
    return next((x for x in ARCHITECTURES.values() if name in (x.name, x.machine)), None)
