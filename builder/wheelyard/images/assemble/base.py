"""The base's root file system, from locked .debs to a tar.

mmdebstrap installs from a folder that holds the locked packages and nothing else. They were checked
against the lock before; no network is used, so nothing that is not locked can be installed.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from wheelyard.architecture import ARCHITECTURES
from wheelyard.console.tasks import Reporter
from wheelyard.contract.exclusions import path_rules
from wheelyard.errors import BaseImageError
from wheelyard.images.assemble.roots import RootTar
from wheelyard.model import LockedDeb, PackageLock
from wheelyard.system.emulate import REFUSED, emulated
from wheelyard.system.subprocesses import run
from wheelyard.system.tools import require_tool

FORMAT = 2  # part of the key: raise it whenever the same packages result in another tar
# Packages are unpacked in one go, so /bin, /lib ... must be links to /usr before the first.
# qemu is registered in a user namespace of its own (system/emulate.py): mmdebstrap's check looks
# elsewhere for it, and device nodes, which no layer holds, cannot be made there.
_EMULATED = ("--skip=check/qemu,output/mknod,output/dev",)
_NOT_EMULATED = (
    "\nA base for another architecture is made by qemu in a user namespace with a binfmt_misc of "
    "its own: that takes Linux 6.7 or newer, and no container that forbids namespaces"
)
_MERGED_USR = "/usr/share/mmdebstrap/hooks/merged-usr"


def base_key(lock: PackageLock) -> str:
    """Return the hash (sha256 hex) of everything that the root file system depends on."""
    parts = [str(FORMAT), lock.suite, *path_rules(lock), *(deb.sha256 for deb in lock.packages)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def make_rootfs(
    lock: PackageLock,
    debs: Mapping[str, Path],
    sources_list: str,
    tar: Path,
    reporter: Reporter,
) -> RootTar:
    """Make the root file system of `lock`, as `tar`.

    `debs` maps SHA-256 to verified files; `sources_list` is for apt in the image. Raises
    ToolMissingError without mmdebstrap, and BaseImageError with the end of its log if it fails.
    """
    require_tool("mmdebstrap", reporter)
    with (
        reporter.task(f"base {lock.base}-{lock.flavour}", len(lock.packages), "items") as task,
        tempfile.TemporaryDirectory(prefix="wheelyard-base-") as folder,
    ):
        _bootstrap(lock, debs, Path(folder), tar, emulator(lock.architecture, reporter))
        task.advance(len(lock.packages))
    return RootTar(tar, sources_list)


def emulator(architecture: str, reporter: Reporter) -> str | None:
    """Return the program that runs an architecture's programs here; None: this machine does.

    Raises ToolMissingError if it is not installed and cannot be.
    """
    machine = ARCHITECTURES[architecture].machine
    if machine == platform.machine():
        return None
    return require_tool(f"qemu-{machine}-static", reporter)


def bootstrap_command(lock: PackageLock, repository: Path, tar: Path) -> list[str]:
    """Return the argument list for mmdebstrap."""
    names = ",".join(sorted(f"{deb.name}={deb.version}" for deb in lock.packages))
    machine = ARCHITECTURES[lock.architecture].machine
    return [
        "mmdebstrap",
        "--mode=auto",
        "--variant=apt",
        f"--architectures={lock.architecture}",
        *(_EMULATED if machine != platform.machine() else ()),
        f"--hook-dir={_MERGED_USR}",
        f"--include={names}",
        *(f"--dpkgopt={rule}" for rule in path_rules(lock)),
        lock.suite,
        str(tar),
        f"deb [trusted=yes] copy:{quote(str(repository))} ./",
    ]


def source_date(debs: Sequence[Path]) -> int:
    """Return the newest build time of the packages, in seconds since 1970.

    A .deb is an ar archive; its first member is dated with the package's build (deb(5)). No file in
    it is newer, so clamping to this date keeps the times that Debian's own bytecode refers to.
    """
    dates = []
    for path in debs:
        with path.open("rb") as file:
            header = file.read(8 + 60)
        dates.append(int(header[8 + 16 : 8 + 28]))
    return max(dates)


def _bootstrap(
    lock: PackageLock, debs: Mapping[str, Path], folder: Path, tar: Path, qemu: str | None
) -> None:
    folder.chmod(0o755)  # unprivileged modes read it as another user
    repository = folder / "repository"
    repository.mkdir(mode=0o755)
    files = [debs[deb.sha256] for deb in lock.packages]
    stanzas = [_offer(deb, debs[deb.sha256], repository) for deb in lock.packages]
    (repository / "Packages").write_text("\n".join(stanzas))
    # mmdebstrap 1.4 and newer choose essential packages by the suite that a Release file names.
    (repository / "Release").write_text(f"Suite: {lock.suite}\nCodename: {lock.suite}\n")
    output = folder / "root.tar"
    environment = {
        "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "SOURCE_DATE_EPOCH": str(source_date(files)),
    }
    command = bootstrap_command(lock, repository, output)
    if qemu is not None:
        architecture = ARCHITECTURES[lock.architecture]
        command = emulated(command, qemu, architecture.elf)
        environment["QEMU_CPU"] = architecture.qemu_cpu
    result = run(command, env=environment, error=None)
    if result.returncode:
        refused = qemu is not None and result.returncode == REFUSED
        raise BaseImageError(_failure(lock, result.tail) + (_NOT_EMULATED if refused else ""))
    shutil.move(output, tar)


def _offer(deb: LockedDeb, file: Path, repository: Path) -> str:
    """Add a package to the local repository; return its stanza of the index."""
    name = f"{deb.name}_{deb.sha256[:16]}.deb"
    shutil.copyfile(file, repository / name)
    return index_stanza(deb, file, f"./{name}")


def index_stanza(deb: LockedDeb, file: Path, name: str) -> str:
    """Return a package's entry in the index of an archive that has it as `name`."""
    control = run(
        ["dpkg-deb", "--field", str(file)],
        error=BaseImageError,
        what=f"reading the control file of {deb.name} {deb.version}",
    ).stdout
    return f"{control.rstrip()}\nFilename: {name}\nSize: {deb.size}\nSHA256: {deb.sha256}\n"


def _failure(lock: PackageLock, tail: str) -> str:
    message = f"mmdebstrap could not make the base {lock.base}-{lock.flavour}:\n{tail}"
    if os.geteuid() != 0:
        message += (
            "\nWithout root it needs user namespaces (newuidmap from the package `uidmap`, ranges "
            "for this user in /etc/subuid and /etc/subgid, and a kernel that lets users unshare) "
            "or the package `fakechroot`; or run this command as root once: the base is cached"
        )
    return message
