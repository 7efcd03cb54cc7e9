"""One process of a DistributedDataParallel training.

`torchrun --nproc-per-node=2 -m selfcheck.distributed.torch_worker gloo|nccl` trains together;
`python -m selfcheck.distributed.torch_worker alone cpu|cuda` trains alone. Process 0 prints JSON:
the global batch's loss of every step, and how many took part.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import timedelta

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from ..distributed.share import joint_setup, shares
from ..training.torch_learner import TorchLearner

PATIENCE = timedelta(seconds=120)


def alone(device: str) -> list[float]:
    """Losses of one process."""
    setup = joint_setup(device)
    learner = TorchLearner(setup)
    return learner.numbers([learner.step(rows) for rows in shares(setup, 1, 0)])


def together(backend: str) -> list[float]:
    """Losses of all processes; the mean of their shares is the global batch's."""
    distributed.init_process_group(backend, timeout=PATIENCE)
    world, rank = distributed.get_world_size(), distributed.get_rank()
    device = "cpu"
    if backend == "nccl":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    setup = joint_setup(device)
    learner = TorchLearner(setup)
    learner.model = DistributedDataParallel(learner.model)
    losses = torch.stack([learner.step(rows) for rows in shares(setup, world, rank)])
    distributed.all_reduce(losses)
    distributed.barrier()
    return [float(loss) / world for loss in losses.cpu()]


def main(mode: str, device: str = "cpu") -> None:
    """Train, and let process 0 say how it went."""
    torch.backends.cudnn.allow_tf32 = False  # its rounding depends on the size of a batch
    losses = alone(device) if mode == "alone" else together(mode)
    if os.environ.get("RANK", "0") == "0":
        world = 1 if mode == "alone" else int(os.environ["WORLD_SIZE"])
        print(json.dumps({"world": world, "losses": losses}), flush=True)
    if mode != "alone":
        # Not destroy_process_group(): PyTorch 2.3 joins gloo's thread there while it holds the
        # interpreter lock that this thread may be waiting for: two of five runs hung.
        os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
