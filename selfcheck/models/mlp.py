"""The multi-layer perceptron 784-128-10, SGD with momentum, cross-entropy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

SIDE = 28  # the input is a SIDE x SIDE grey image
BATCH = 64
EPOCHS = 5
LEARNING_RATE, MOMENTUM = 0.01, 0.9
THRESHOLD = 0.45  # mean loss of the last epoch; 2.30 is guessing among ten digits


def torch_model() -> torch.nn.Module:
    """The network in PyTorch: float32 images of shape (N, 784) in, logits of shape (N, 10) out."""
    from torch import nn

    return nn.Sequential(nn.Linear(SIDE * SIDE, 128), nn.ReLU(), nn.Linear(128, 10))
