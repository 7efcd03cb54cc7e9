"""Train the benchmark models on real digits: the loss must fall, and a seed must repeat."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from selfcheck.data import SIDE, load_digits
from selfcheck.device import pick_device
from selfcheck.models import mlp
from selfcheck.result import Check, Options, Outcome, failed, passed

if TYPE_CHECKING:
    import torch


def checks(options: Options) -> Iterator[Check]:
    """One check a model and framework."""
    yield "train.mlp.pytorch", partial(check_mlp, options)


def check_mlp(options: Options) -> Outcome:
    """The MLP's loss falls below its threshold, and the same seed gives the same losses again."""
    device = pick_device(options)
    losses = train_mlp(device, options.seed)
    seen = {"device": device, "losses": [round(loss, 6) for loss in losses]}
    if not all(map(math.isfinite, losses)):
        return failed("the loss is not a finite number", seen)
    if losses[-1] >= mlp.THRESHOLD or losses[-1] >= losses[0]:
        return failed("the loss did not fall far enough", seen, {"below": mlp.THRESHOLD})
    again = train_mlp(device, options.seed)
    if again != losses:
        return failed(f"seed {options.seed} gave other losses the second time: {again}", seen)
    return passed(seen, {"below": mlp.THRESHOLD})


def train_mlp(device: str, seed: int) -> list[float]:
    """Mean loss of each epoch; the global random state is left alone."""
    import torch

    with torch.random.fork_rng(devices=range(torch.cuda.device_count())), one_thread():
        torch.manual_seed(seed)
        model = mlp.torch_model().to(device)
        images, labels = (tensor.to(device) for tensor in digits_tensors())
        optimizer = torch.optim.SGD(model.parameters(), lr=mlp.LEARNING_RATE, momentum=mlp.MOMENTUM)
        return [_epoch(model, optimizer, images, labels) for _ in range(mlp.EPOCHS)]


@contextmanager
def one_thread() -> Iterator[None]:
    """Layers this small lose more to waiting than threads gain; and sums come out the same."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _epoch(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    images: torch.Tensor,
    labels: torch.Tensor,
) -> float:
    import torch

    total = 0.0
    # Drawn on the CPU, so that every device sees the same batches.
    order = torch.randperm(len(images)).to(images.device)
    for chosen in order.split(mlp.BATCH):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images[chosen]), labels[chosen])
        loss.backward()
        optimizer.step()
        total += loss.item() * len(chosen)
    return total / len(images)


def digits_tensors() -> tuple[torch.Tensor, torch.Tensor]:
    """Images of shape (1797, 784) from 0 to 1, and labels of shape (1797,)."""
    import torch

    pixels, digits = load_digits()
    small = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, SIDE, SIDE) / 16
    large = torch.nn.functional.interpolate(small, size=(mlp.SIDE, mlp.SIDE), mode="bilinear")
    return large.flatten(1), torch.tensor(digits)
