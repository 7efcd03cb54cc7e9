"""What an error of a framework or of the system means here, and what to do about it."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path

OUT_OF_MEMORY = ("OutOfMemoryError", "ResourceExhaustedError", "MemoryError")
FULL_MEMORY = re.compile(
    r"out of memory|can(?:'t|not) allocate memory(?! in static TLS)|std::bad_alloc|"
    r"RESOURCE_EXHAUSTED|"
    r"(?:CUBLAS|CUDNN)_STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)
LOST = re.compile(
    r"GPU is lost|fallen off the bus|unspecified launch failure|uncorrectable ECC|"
    r"illegal memory access|hardware error|"
    r"CUDA_ERROR_(?:ECC_UNCORRECTABLE|LAUNCH_FAILED|ILLEGAL_ADDRESS|CONTAINED)",
    re.IGNORECASE,
)
# A process of its own has the GPU to itself: nothing is broken.
BUSY = re.compile(r"busy or unavailable|CUDA_ERROR_DEVICE_UNAVAILABLE", re.IGNORECASE)
# CUDA's error 802: on machines with NVSwitches, GPUs wait for the host's fabric manager.
NO_FABRIC = re.compile(
    r"system not yet initialized|CUDA_ERROR_SYSTEM_NOT_READY|[Ee]rror 802\b", re.IGNORECASE
)
# CUDA's errors 803 and 804: libcuda of a cuda-compat package, over a driver or GPU it is not for.
UNFORWARDED = re.compile(
    r"unsupported display driver / cuda driver combination|forward compatibility was attempted|"
    r"CUDA_ERROR_(?:SYSTEM_DRIVER_MISMATCH|COMPAT_NOT_SUPPORTED_ON_DEVICE)|[Ee]rror 80[34]\b",
    re.IGNORECASE,
)
SHARED = re.compile(
    r"/dev/shm|shared memory|torch_\d+_\d+|shm_open|Bus error|DataLoader worker .* exited",  # noqa: S108
    re.IGNORECASE,
)
# What torch.save says of a full disk; it names neither.
UNWRITTEN = re.compile(r"inline_container\.cc|PytorchStreamWriter failed")
# A library that is another one than the caller was built with.
MISMATCHED = re.compile(r"undefined symbol|version `[^']+' not found")
# The second is Python 3.13's.
NAMELESS = re.compile(r"getpwuid\(\): uid not found: (\d+)|No username set in the environment")
NOEXEC = re.compile(r"(\S+): failed to map segment from shared object")
EXECUTABLE_TMP = "docker run --tmpfs /tmp:exec"  # Docker's own --tmpfs /tmp is noexec
REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
FULL = (errno.ENOSPC, errno.EDQUOT)


def explain(error: BaseException, free_memory: Callable[[], str | None] = lambda: None) -> str:
    """Say in a sentence what happened, and what to do where that is known.

    `free_memory` says how much GPU memory is free now, if anything can.
    """
    text = f"{type(error).__name__}: {error}".strip()
    first = text.splitlines()[0]
    if is_out_of_memory(error):
        return _out_of_memory(first, free_memory())
    if BUSY.search(text):
        return (
            f"the GPU is not free ({first}): another process has it to itself, which its compute "
            "mode allows; end that one (nvidia-smi), or set the mode back: nvidia-smi -c DEFAULT"
        )
    if NO_FABRIC.search(text):
        return (
            f"the GPUs are not ready ({first}): on a machine with NVSwitches, start "
            "nvidia-fabricmanager, of the driver's very version, on the host; under confidential "
            "computing, set them ready: nvidia-smi conf-compute -srs 1"
        )
    if UNFORWARDED.search(text):
        return (
            f"the forward compatibility package (cuda-compat) does not fit ({first}): it takes a "
            "data center GPU and a driver that it names; take it out of LD_LIBRARY_PATH, or "
            "update the host's driver"
        )
    if LOST.search(text):
        return (
            f"the GPU stopped answering in mid-run ({first}); look for Xid lines in the host's "
            "`dmesg`, then reset the GPU or restart the host"
        )
    if nameless := NAMELESS.search(text):
        return (
            f"user {nameless[1] or os.getuid()} has no name in this container: start the program "
            "by the image's entry point (docker exec ... /opt/wheelyard/entrypoint COMMAND), or "
            "set USER and HOME (-e USER=me -e HOME=/tmp)"
        )
    if program := _not_run(error, text):
        return (
            f"{program} may not be run where it lies, as that is mounted noexec: "
            f"{EXECUTABLE_TMP}, or set TMPDIR to another folder"
        )
    if SHARED.search(text):
        return (
            f"shared memory is too small ({first}): start the container with --shm-size 1g "
            "or --ipc host"
        )
    if UNWRITTEN.search(text):
        return (
            f"a checkpoint could not be written ({first}): most likely there is no room; name "
            "another folder with --logdir, and for temporary files with TMPDIR"
        )
    if MISMATCHED.search(text) and (path := os.environ.get("LD_LIBRARY_PATH")):
        return (
            f"a library of the image met another one's version ({first}): LD_LIBRARY_PATH={path} "
            "puts other libraries before the image's; unset it, no image needs it"
        )
    if type(error).__module__.startswith(f"{__package__}."):
        return str(error)
    return _of_files(error) or text


def is_known(line: str) -> bool:
    """Say whether a line of a log names a cause that `explain` has advice for."""
    causes = (FULL_MEMORY, BUSY, NO_FABRIC, UNFORWARDED, LOST, SHARED, UNWRITTEN, NAMELESS, NOEXEC)
    return any(cause.search(line) for cause in causes)


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether the memory of the GPU, or of the machine, was exhausted."""
    first = (f"{error}".strip().splitlines() or [""])[0]
    return type(error).__name__ in OUT_OF_MEMORY or bool(FULL_MEMORY.search(first))


def _out_of_memory(first: str, free: str | None) -> str:
    known = f"; {free}" if free else ""
    return (
        f"the memory did not suffice ({first}){known}: try a smaller batch (--batch), or end what "
        "else uses the GPU (nvidia-smi lists it)"
    )


def _not_run(error: BaseException, text: str) -> str | None:
    """Return the program or library that may be run but was refused, because of its file system."""
    if match := NOEXEC.search(text):
        return match[1]
    if not isinstance(error, PermissionError) or not isinstance(error.filename, str):
        return None
    program = Path(error.filename)
    try:
        refused = program.stat().st_mode & 0o111 and not os.access(program, os.X_OK)
    except OSError:
        return None
    return error.filename if refused else None


def _of_files(error: BaseException) -> str | None:
    if not isinstance(error, OSError):
        return None
    place = error.filename or "a temporary folder"
    if error.errno in REFUSED:
        return (
            f"cannot write {place}: {error.strerror}; name a writable folder with --logdir, and "
            f"for temporary files with TMPDIR ({EXECUTABLE_TMP})"
        )
    if error.errno in FULL:
        return f"cannot write {place}: {error.strerror}; make room, or set TMPDIR"
    if isinstance(error, FileNotFoundError) and "usable temporary directory" in str(error):
        return (
            "no folder for temporary files can be written: start the container with "
            f"{EXECUTABLE_TMP.partition('run ')[2]}, or set TMPDIR to a writable folder"
        )
    return None
