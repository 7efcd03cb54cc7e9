"""One process of a DistributedDataParallel training.

`torchrun --nproc-per-node=2 -m selfcheck.distributed.torch_worker gloo|nccl` trains together;
`python -m selfcheck.distributed.torch_worker alone cpu|cuda` trains alone. Process 0, with `gloo
all` every process, prints JSON: the global batch's loss of every step, and how many took part.
`elastic FOLDER` (CPU) does so after process 1 was killed once: torchrun starts the group again, and
it goes on from the last checkpoint in the folder.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from ..distributed.share import joint_setup, shares
from ..training.learner import Setup
from ..training.torch_learner import TorchLearner

PATIENCE = timedelta(seconds=120)
SAVED, KILLED = 3, 8  # a checkpoint every so many steps; the step before which process 1 is killed
JOURNAL = "losses.json"


def alone(device: str) -> list[float]:
    """Return the losses of one process."""
    setup = joint_setup(device)
    learner = TorchLearner(setup)
    return learner.numbers([learner.step(rows) for rows in shares(setup, 1, 0)])


def joined(backend: str) -> tuple[TorchLearner, Setup]:
    """Return a learner whose gradients are exchanged with the other processes."""
    distributed.init_process_group(backend, timeout=PATIENCE, **_again())
    device = "cpu"
    if backend == "nccl":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    setup = joint_setup(device)
    learner = TorchLearner(setup)
    learner.model = DistributedDataParallel(learner.model)
    return learner, setup


def _again() -> dict[str, Any]:
    """Return where a restarted group meets: PyTorch 2.15 else finds the killed one's addresses."""
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    if attempt == "0":
        return {}
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = distributed.TCPStore(host, port, is_master=False, timeout=PATIENCE)
    place = {"rank": int(os.environ["RANK"]), "world_size": int(os.environ["WORLD_SIZE"])}
    return {"store": distributed.PrefixStore(f"again/{attempt}", store), **place}


def together(backend: str) -> list[float]:
    """Return the losses of all processes: the mean of their shares is the global batch's."""
    learner, setup = joined(backend)
    world, rank = distributed.get_world_size(), distributed.get_rank()
    losses = torch.stack([learner.step(rows) for rows in shares(setup, world, rank)])
    distributed.all_reduce(losses)
    distributed.barrier()
    return [float(loss) / world for loss in losses.cpu()]


def elastic(folder: Path) -> dict[str, Any]:
    """Train in a group that is restarted; return losses, restarts and the step it resumed at."""
    learner, setup = joined("gloo")
    world, rank = distributed.get_world_size(), distributed.get_rank()
    restarts = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    losses: list[float] = []
    if (folder / JOURNAL).exists():
        losses = json.loads((folder / JOURNAL).read_text())
        learner.load(folder / str(len(losses)))
    resumed = len(losses)
    for at, rows in enumerate(shares(setup, world, rank)):
        if at < resumed:
            continue
        if (at, rank, restarts) == (KILLED, 1, 0):
            os.kill(os.getpid(), signal.SIGKILL)
        loss = learner.step(rows)
        distributed.all_reduce(loss)
        losses.append(float(loss) / world)
        if len(losses) % SAVED == 0 and rank == 0:
            keep(learner, losses, folder)
        distributed.barrier()
    return {"losses": losses, "restarts": restarts, "resumed": resumed}


def keep(learner: TorchLearner, losses: list[float], folder: Path) -> None:
    """Write a checkpoint; the journal names it only when it is whole."""
    place = folder / str(len(losses))
    place.mkdir(exist_ok=True)
    learner.save(place)
    (place / JOURNAL).write_text(json.dumps(losses))
    (place / JOURNAL).replace(folder / JOURNAL)


def main(mode: str, where: str = "") -> None:
    """Train, and let process 0 say how it went."""
    torch.backends.cudnn.allow_tf32 = False  # its rounding depends on the size of a batch
    if mode == "alone":
        print(json.dumps({"world": 1, "losses": alone(where)}), flush=True)
        return
    said = elastic(Path(where)) if mode == "elastic" else {"losses": together(mode)}
    if where == "all" or distributed.get_rank() == 0:
        print(json.dumps({"world": distributed.get_world_size(), **said}), flush=True)
    # Not destroy_process_group(): PyTorch 2.3 joins gloo's thread there while it holds the
    # interpreter lock that this thread may be waiting for: two of five runs hung.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
