"""Run one command where programs of another architecture run by qemu; a separate program.

Uses the standard library only. Its one argument is JSON: {"qemu": path, "elf": 183, "argv": [...]}.
QEMU_CPU in the environment says which processor qemu plays.
The command gets its own user and mount namespaces with a binfmt_misc of their own, in which qemu is
registered: nothing is registered on this machine, and nothing is left behind (Linux 6.7 or newer).
Root keeps all ids; any other user becomes root there, with the ids of /etc/subuid and /etc/subgid.

Exit code 125 means that it was not possible and nothing was run; standard error says why.
"""

from __future__ import annotations

import ctypes
import json
import os
import pwd
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

REFUSED = 125
_NEWNS, _NEWUSER = 0x00020000, 0x10000000  # linux/sched.h
_REC, _PRIVATE = 16384, 1 << 18  # linux/mount.h
_PLACE = "/proc/sys/fs/binfmt_misc"
_ALL = 2**32 - 1  # ids, less the one that means none
_libc = ctypes.CDLL(None, use_errno=True)


def emulated(argv: Sequence[str], qemu: str, elf: int) -> list[str]:
    """Return the argument list that runs `argv`; `elf` is the e_machine that `qemu` is for."""
    job = {"qemu": qemu, "elf": elf, "argv": list(argv)}
    return [sys.executable, "-I", "-S", __file__, json.dumps(job)]


def main() -> None:
    """Run the job that the argument describes; exit with the command's exit code."""
    job = json.loads(sys.argv[1])
    ready, mapped = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _call("unshare", ctypes.c_int(_NEWUSER | _NEWNS))
            os.write(ready[1], b".")
            os.close(mapped[1])
            if not os.read(mapped[0], 1):
                os._exit(REFUSED)  # the parent has said why
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
            _call("mount", b"none", b"/", None, ctypes.c_ulong(_REC | _PRIVATE), None)
            _call("mount", b"binfmt_misc", _PLACE.encode(), b"binfmt_misc", ctypes.c_ulong(0), None)
            Path(_PLACE, "register").write_bytes(_registration(job["qemu"], job["elf"]))
            os.execvp(job["argv"][0], job["argv"])  # noqa: S606 - no shell is the point
        except OSError as error:
            _refuse(error)
    os.close(ready[1])
    if os.read(ready[0], 1):
        try:
            _map_ids(child)
            os.write(mapped[1], b".")
        except OSError as error:
            print(f"wheelyard: mapping ids: {error}", file=sys.stderr, flush=True)
    os.close(mapped[1])
    _, status = os.waitpid(child, 0)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _registration(qemu: str, elf: int) -> bytes:
    """Return binfmt_misc's line for programs of a machine, 64 bits and little-endian.

    F opens qemu now, so that it need not be in the root that the command enters.
    """
    kinds = b"\x02\x00" + elf.to_bytes(2, "little")  # an executable, or by the mask a library
    magic = b"\x7fELF\x02\x01\x01" + bytes(9) + kinds
    mask = b"\xff" * 7 + b"\x00" + b"\xff" * 8 + b"\xfe\xff\xff\xff"
    shown = ["".join(f"\\x{byte:02x}" for byte in part) for part in (magic, mask)]
    return f":wheelyard:M::{shown[0]}:{shown[1]}:{qemu}:F".encode()


def _map_ids(child: int) -> None:
    if os.geteuid() == 0:
        for kind in ("uid", "gid"):
            Path(f"/proc/{child}/{kind}_map").write_text(_kept(kind), encoding="ascii")
        return
    for kind, own in (("uid", os.geteuid()), ("gid", os.getegid())):
        first, count = _range(kind)
        argv = [f"new{kind}map", str(child), "0", str(own), "1", "1", first, count]
        if os.spawnvp(os.P_WAIT, argv[0], argv) != 0:  # noqa: S606 - no shell is the point
            raise OSError(1, f"{argv[0]} (package uidmap) failed")


def _kept(kind: str) -> str:
    """Return a map of every id that this namespace has to itself."""
    rows = [line.split() for line in Path(f"/proc/self/{kind}_map").read_text().splitlines()]
    return "".join(f"{inside} {inside} {min(int(n), _ALL)}\n" for inside, _, n in rows)


def _range(kind: str) -> tuple[str, str]:
    """Return first and number of the ids that an ordinary user has beside the own one."""
    known = (pwd.getpwuid(os.geteuid()).pw_name, str(os.geteuid()))
    for line in Path(f"/etc/sub{kind}").read_text(encoding="utf-8").splitlines():
        name, first, count = line.split(":")
        if name in known:
            return first, count
    raise OSError(2, f"/etc/sub{kind} has no ids for {known[0]}")


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def _refuse(error: OSError) -> NoReturn:
    print(f"wheelyard: {error.strerror or error}", file=sys.stderr, flush=True)
    os._exit(REFUSED)


if __name__ == "__main__":
    main()
