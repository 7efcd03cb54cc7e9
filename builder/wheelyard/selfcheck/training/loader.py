"""PyTorch's loader processes hand batches over in shared memory.

That is /dev/shm, 64 MiB in a container that was given no --shm-size.
"""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

from ..result import Outcome, failed, passed

WORKERS, BATCHES, NUMBERS = 2, 4, 1 << 20  # a batch of 4 MiB
SHARED = Path("/dev/shm")  # noqa: S108 - its size is what this is about
ENOUGH = 1 << 30  # bytes; image batches of several loaders fill less quickly


class Numbers(Dataset[tuple[torch.Tensor, int]]):  # type: ignore[misc]
    """Rows that say which one they are, and which process made them."""

    def __len__(self) -> int:
        return BATCHES

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return torch.full((NUMBERS,), float(row)), os.getpid()


def check_loader(device: str) -> Outcome:
    """Check that two loader processes deliver every batch, into pinned memory for a GPU."""
    free = shutil.disk_usage(SHARED).free if SHARED.is_dir() else 0
    try:
        rows, pinned, processes = delivered(device)
    except RuntimeError as error:  # of a bus error it says no more than that a process is gone
        if free >= ENOUGH:
            raise
        return failed(
            f"loader processes died with {free >> 20} MiB of {SHARED} free ({error}): start the "
            "container with --shm-size 1g or --ipc host", {"shared_memory_free_mib": free >> 20},
        )  # fmt: skip
    others = len(processes - {os.getpid()})
    seen = {
        "rows": rows,
        "pinned": pinned,
        "processes": others,
        "shared_memory_free_mib": free >> 20,
    }
    if rows != [float(row) for row in range(BATCHES)]:
        return failed("the loader processes delivered something else", seen)
    if others != WORKERS:
        return failed(f"{others} other processes made the batches, not {WORKERS}", seen)
    if device != "cpu" and not pinned:
        return failed("the loader's batches are not in pinned memory, as was asked for", seen)
    remark = f"{SHARED} has {free >> 20} MiB free: larger batches need --shm-size 1g or --ipc host"
    return passed(seen, reason=None if free >= ENOUGH else remark)


def delivered(device: str) -> tuple[list[float], bool, set[int]]:
    """Return what each batch holds on the device, whether all came pinned, and who made them."""
    rows, pinned, processes = [], [], set()
    loader = DataLoader(Numbers(), num_workers=WORKERS, pin_memory=device != "cpu")
    for batch, makers in loader:
        processes |= {int(maker) for maker in makers}
        pinned.append(device != "cpu" and batch.is_pinned())
        fetched = batch.to(device, non_blocking=True)
        least, most = float(fetched.min()), float(fetched.max())
        rows.append(least if least == most else math.nan)
    return rows, all(pinned), processes
