"""A state as large as a model's, written and read by PyTorch."""

from __future__ import annotations

from pathlib import Path

import torch

FILE = "state.pt"


class State:
    """Weights of chance on a device."""

    def __init__(self, size: int, device: str) -> None:
        torch.manual_seed(1)
        self.device = device
        self.parts = {f"part {at}": torch.rand(size // 16, device=device) for at in range(4)}

    def save(self, folder: Path) -> None:
        """Write all of it."""
        torch.save(self.parts, folder / FILE)

    def load(self, folder: Path) -> object:
        """Read all of it, onto the device."""
        return torch.load(folder / FILE, map_location=self.device, weights_only=True)

    def equals(self, other: dict[str, torch.Tensor]) -> bool:
        """Compare with what was read, bit by bit."""
        return self.parts.keys() == other.keys() and all(
            torch.equal(part, other[name]) for name, part in self.parts.items()
        )
