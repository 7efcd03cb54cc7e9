"""Log a loss with torch.utils.tensorboard, and look at it in TensorBoard."""

from __future__ import annotations

from board import scalars
from torch.utils.tensorboard import SummaryWriter

with SummaryWriter("logs/pytorch") as writer:
    for step in range(5):
        writer.add_scalar("loss", 1 / (1 + step), step)
found = scalars("logs")
assert "loss" in found["pytorch"], found
print("TensorBoard shows", found)
