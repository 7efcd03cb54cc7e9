"""Run one command inside a root file system that is not trusted; started as a separate program.

Uses the standard library only. Its one argument is JSON: {"root": folder, "uid": 1000, "gid": 1000,
"groups": [900], "machine": true, "argv": [...], "env": {...}}. The command gets its own namespaces
(mounts, processes, network, IPC, host name), no capabilities, no new privileges, and no files
except those of the root. "machine" is for programs that expect one: /proc, a small /dev, loopback,
and a writable root. Without it the root is read-only and holds nothing else.

Any user may do this where the kernel allows user namespaces, and keeps their identity. Exit code
125 means that it was not possible and nothing was run; standard error says why.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import resource
import select
import signal
import socket
import stat
import struct
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

REFUSED = 125

# linux/sched.h, linux/mount.h, linux/prctl.h, linux/capability.h, linux/if.h
_NEWNS, _NEWUTS, _NEWIPC = 0x00020000, 0x04000000, 0x08000000
_NEWUSER, _NEWPID, _NEWNET = 0x10000000, 0x20000000, 0x40000000
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT = 1, 2, 4, 8, 32
_NOATIME, _NODIRATIME, _BIND, _REC, _PRIVATE, _RELATIME = 1024, 2048, 4096, 16384, 1 << 18, 1 << 21
_PDEATHSIG, _CAPBSET_DROP, _SET_NO_NEW_PRIVS = 1, 24, 38
_CAPABILITY_V3 = 0x20080522
_GETFLAGS, _SETFLAGS, _UP = 0x8913, 0x8914, 1
_LAST_CAPABILITY = 63
# What root keeps: what a package manager needs for its own files, nothing for the machine.
_ROOTS = frozenset({0, 1, 3, 4, 5, 6, 7})  # CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SET[GU]ID
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}
_HIDDEN = ("sys", "sysrq-trigger", "irq", "bus", "fs")  # of /proc, that root could write to
_LARGEST_FILE = 4 << 30  # bytes
_SAID = {
    True: 64 << 20,
    False: 64 << 10,
}  # bytes of output that are passed on: with "machine", without

_libc = ctypes.CDLL(None, use_errno=True)


def confined(
    root: Path,
    argv: Sequence[str],
    *,
    ids: tuple[int, int],
    groups: Sequence[int] = (),
    machine: bool = False,
    env: Mapping[str, str] | None = None,
) -> list[str]:
    """Return the argument list that runs `argv` in `root`; `ids` are user and group."""
    job = {
        "root": str(root),
        "uid": ids[0],
        "gid": ids[1],
        "groups": list(groups),
        "machine": machine,
        "argv": list(argv),
        "env": dict(env or {}),
    }
    return [sys.executable, "-I", "-S", __file__, json.dumps(job)]


def main() -> None:
    """Run the job that the argument describes; exit with the command's exit code."""
    job = json.loads(sys.argv[1])
    user = os.geteuid()
    pipes = [os.pipe(), os.pipe()]
    try:
        _unshare(user)
        # The first process of the namespace; when it ends, all others end.
        child = os.fork()
        if child == 0:
            for at, (_, end) in enumerate(pipes, 1):
                os.dup2(end, at)
            _enter(job, trusted=user == 0)
    except OSError as error:
        _refuse(error)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command decides itself
    for _, end in pipes:
        os.close(end)
    _pass_on({start: at for at, (start, _) in enumerate(pipes, 1)}, _SAID[job["machine"]])
    _, status = os.waitpid(child, 0)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _pass_on(streams: dict[int, int], limit: int) -> None:
    """Copy the command's output to our own streams, up to `limit` bytes of each."""
    left = dict.fromkeys(streams, limit)
    while streams:
        for source in select.select(list(streams), [], [])[0]:
            data = os.read(source, 1 << 16)
            if not data:
                del streams[source]
                continue
            kept = data[: left[source]]
            left[source] -= len(kept)
            while kept:
                kept = kept[os.write(streams[source], kept) :]


def _unshare(user: int) -> None:
    group = os.getegid()
    flags = _NEWNS | _NEWUTS | _NEWIPC | _NEWPID | _NEWNET
    _call("unshare", ctypes.c_int(flags if user == 0 else flags | _NEWUSER))
    if user != 0:
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{user} {user} 1")
        _write("/proc/self/gid_map", f"{group} {group} 1")
    _call("mount", b"none", b"/", None, ctypes.c_ulong(_REC | _PRIVATE), None)


def _enter(job: dict[str, Any], *, trusted: bool) -> NoReturn:
    root = job["root"]
    try:
        flags = _NOSUID | _NODEV | (0 if job["machine"] else _RDONLY)
        _bind(root, root, flags)
        # What was mounted below the old path is missing here; the path of the new one is looked up.
        os.chdir(root)
        if job["machine"]:
            _make_machine(root)
            _loopback()
            _call("sethostname", b"localhost", ctypes.c_size_t(9))  # a name that it can look up
        os.chroot(".")
        os.chdir("/")
        _drop(job, trusted=trusted)
        os.execve(job["argv"][0], job["argv"], job["env"])  # noqa: S606 - no shell is the point
    except OSError as error:
        _refuse(error)
    except BaseException as error:  # noqa: BLE001 - the fork must not go on as its parent
        print(f"wheelyard: {error!r}", file=sys.stderr, flush=True)
    os._exit(REFUSED)


def _bind(source: str, target: str, flags: int) -> None:
    """Make `source` visible at `target`, keeping the restrictions of its mount."""
    _call("mount", source.encode(), target.encode(), None, ctypes.c_ulong(_BIND), None)
    there = os.statvfs(target).f_flag  # a user namespace may not take these away
    kept = (_NOSUID, _NODEV, _NOEXEC, _RDONLY, _NOATIME, _NODIRATIME)
    flags |= sum(flag for flag in kept if there & flag)
    flags |= _RELATIME if there & 4096 else 0  # ST_RELATIME
    flags |= _REMOUNT | _BIND
    _call("mount", b"none", target.encode(), None, ctypes.c_ulong(flags), None)


def _make_machine(root: str) -> None:
    for name in ("proc", "dev"):
        if not stat.S_ISDIR(os.lstat(f"{root}/{name}").st_mode):
            raise NotADirectoryError(20, f"/{name} of the image is not a folder")
    _mount("proc", f"{root}/proc", "proc", _NOSUID | _NODEV | _NOEXEC)
    for name in _HIDDEN:
        with suppress(FileNotFoundError):
            _bind(f"{root}/proc/{name}", f"{root}/proc/{name}", _RDONLY)
    dev = f"{root}/dev"
    _mount("tmpfs", dev, "tmpfs", _NOSUID | _NOEXEC, "mode=755,size=64k")
    for name in _DEVICES:
        os.close(os.open(f"{dev}/{name}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        _bind(f"/dev/{name}", f"{dev}/{name}", _NOSUID | _NOEXEC)
    for name, target in _LINKS.items():
        Path(dev, name).symlink_to(target)
    Path(dev, "shm").mkdir()
    _mount("tmpfs", f"{dev}/shm", "tmpfs", _NOSUID | _NODEV, "mode=1777")
    Path(dev, "pts").mkdir()
    options = "newinstance,ptmxmode=0666,mode=620"
    with suppress(OSError):  # where terminals of one's own are not allowed
        _mount("devpts", f"{dev}/pts", "devpts", _NOSUID | _NOEXEC, options)
        Path(dev, "ptmx").symlink_to("pts/ptmx")
    _call("mount", b"none", dev.encode(), None,
          ctypes.c_ulong(_REMOUNT | _BIND | _RDONLY | _NOSUID | _NOEXEC), None)  # fmt: skip


def _loopback() -> None:
    """Bring up the loopback interface, on which processes that train together meet."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = struct.pack("16sh22x", b"lo", 0)
        flags = struct.unpack("16sh22x", fcntl.ioctl(any_socket, _GETFLAGS, asked))[1]
        fcntl.ioctl(any_socket, _SETFLAGS, struct.pack("16sh22x", b"lo", flags | _UP))


def _drop(job: dict[str, Any], *, trusted: bool) -> None:
    """Become the user irrevocably."""
    uid, gid = int(job["uid"]), int(job["gid"])
    kept = _ROOTS if trusted and uid == 0 else frozenset()
    for capability in range(_LAST_CAPABILITY + 1):
        if capability not in kept and not _prctl(_CAPBSET_DROP, capability):
            break  # the kernel knows no more
    if trusted:
        os.setgroups(job["groups"])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    if not kept:
        _call("capset", struct.pack("II", _CAPABILITY_V3, 0), bytes(24))
    if not _prctl(_SET_NO_NEW_PRIVS, 1):
        raise OSError(ctypes.get_errno(), "no new privileges")
    _prctl(_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not job["machine"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST_FILE, _LARGEST_FILE))
    os.umask(0o022)


def _mount(kind: str, target: str, source: str, flags: int, options: str = "") -> None:
    _call("mount", source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags),
          options.encode())  # fmt: skip


def _call(name: str, *arguments: Any) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def _prctl(what: int, value: int) -> bool:
    none = ctypes.c_ulong(0)
    return bool(_libc.prctl(what, ctypes.c_ulong(value), none, none, none) == 0)


def _write(path: str, text: str) -> None:
    Path(path).write_text(text, encoding="ascii")


def _refuse(error: OSError) -> NoReturn:
    print(f"wheelyard: {error.strerror or error}", file=sys.stderr, flush=True)
    os._exit(REFUSED)


if __name__ == "__main__":
    main()
