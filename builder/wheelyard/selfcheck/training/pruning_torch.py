"""Pruning by PyTorch's own functions."""

from __future__ import annotations

from torch import nn
from torch.nn.utils import prune as pruning

from ..training.torch_learner import TorchLearner


def prune(learner: TorchLearner, share: float) -> list[tuple[list[float], list[float]]]:
    """Prune every fully connected layer; return its weights before and after."""
    parts = []
    for module in learner.model.modules():
        if isinstance(module, nn.Linear):
            before = module.weight.detach().flatten().tolist()
            pruning.l1_unstructured(module, "weight", amount=share)
            pruning.remove(module, "weight")
            parts.append((before, module.weight.detach().flatten().tolist()))
    return parts
