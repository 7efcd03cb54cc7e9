"""Augmentation by torchvision."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..training.learner import NotHereError


def augmented(picture: Sequence[Sequence[int]], times: int, seed: int) -> list[list[list[int]]]:
    """Augment the picture so many times."""
    try:
        from torchvision import transforms
    except ModuleNotFoundError as missing:  # any other ImportError: there, and broken
        raise NotHereError(f"{missing.name} is not installed here") from missing
    torch.manual_seed(seed)
    augment = transforms.Compose(
        [transforms.RandomCrop(len(picture), padding=1), transforms.RandomHorizontalFlip()]
    )
    values = torch.tensor(picture, dtype=torch.uint8)[None]
    return [augment(values)[0].tolist() for _ in range(times)]
