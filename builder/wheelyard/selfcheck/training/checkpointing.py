"""How fast a checkpoint is written and read where they are kept; and that it is the same."""

from __future__ import annotations

import importlib
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from ..frameworks import MODULES, import_framework
from ..gpu.bandwidth import judge_disk
from ..result import Outcome, failed

SIZES = {"cpu": 64 << 20, "cuda": 1 << 30}  # bytes
TIMES = 3


def check_checkpoint(framework: str, device: str, folder: Path | None) -> Outcome:
    """Write a state and read it back, from the disk where the file system lets go of it."""
    import_framework(framework)
    side = importlib.import_module(f"{__package__}.checkpoint_{MODULES[framework]}")
    state: Any = side.State(SIZES[device], device)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    written, read = [], []
    for _ in range(TIMES):
        with tempfile.TemporaryDirectory(prefix="selfcheck-", dir=folder) as scratch:
            start = time.perf_counter()
            state.save(Path(scratch))
            size = sum(_to_disk(path) for path in Path(scratch).iterdir())
            written.append(size / (time.perf_counter() - start) / 1e9)
            start = time.perf_counter()
            back = state.load(Path(scratch))
            same = state.equals(back)  # waits for the device
            read.append(size / (time.perf_counter() - start) / 1e9)
        if not same:
            return failed("a checkpoint does not bring back what was written")
    return judge_disk(str(folder or tempfile.gettempdir()), size, {"write": written, "read": read})


def _to_disk(path: Path) -> int:
    """Write a file to the disk and ask the kernel to forget it; return its size."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return os.fstat(file.fileno()).st_size
