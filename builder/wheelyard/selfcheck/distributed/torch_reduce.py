"""One process of an all-reduce that is timed: `torchrun -m selfcheck.distributed.torch_reduce`.

`gloo` or `nccl`, then the bytes. Process 0 prints JSON: how many took part, the seconds of one
all-reduce in each window (the slowest process counts), the least and the largest of the sums.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import timedelta

import torch
from torch import distributed

WARM_UP, WINDOWS, TIMES = 3, 5, 5
PATIENCE = timedelta(seconds=120)


def timed(backend: str, size: int) -> dict[str, object]:
    """Sum up rank + 1 over all processes, again and again."""
    distributed.init_process_group(backend, timeout=PATIENCE)
    device = torch.device("cpu")
    if backend == "nccl":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    part = torch.empty(size // 4, device=device)

    def seconds(times: int) -> float:
        distributed.barrier()
        wait(device)
        start = time.perf_counter()
        for _ in range(times):
            distributed.all_reduce(part)
        wait(device)
        slowest = torch.tensor([time.perf_counter() - start], device=device)
        distributed.all_reduce(slowest, distributed.ReduceOp.MAX)
        return float(slowest) / times

    part.fill_(distributed.get_rank() + 1)
    distributed.all_reduce(part)
    sums = [float(part.min()), float(part.max())]
    part.zero_()  # sums of sums would overflow
    seconds(WARM_UP)
    return {
        "world": distributed.get_world_size(), "bytes": size, "sums": sums,
        "seconds": [seconds(TIMES) for _ in range(WINDOWS)],
    }  # fmt: skip


def wait(device: torch.device) -> None:
    """Wait for the GPU; a processor is done when a call returns."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    told = timed(sys.argv[1], int(sys.argv[2]))
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps(told), flush=True)
    os._exit(0)  # as torch_worker does: PyTorch 2.3 may hang in destroy_process_group()
