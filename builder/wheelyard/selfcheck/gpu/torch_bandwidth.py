"""PyTorch's copies: in a device's memory, between it and the host, between two devices."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from ..gpu.torch_burn import name, uuid
from ..training.throughput import rates

__all__ = ["between", "direct", "inside", "name", "up_and_down", "uuid"]

LARGEST = {"cpu": 32 << 20, "cuda": 1 << 30}  # bytes of one side of a copy


class DamagedError(RuntimeError):
    """What arrived is not what was sent; the message names the way."""


def inside(device: str) -> list[float]:
    """Measure copies in the device's memory: GB/s, what is read and what is written together."""
    there = pattern(size_of(device), device)
    return _copied(there, torch.zeros_like(there), 2, f"in {device}")


def up_and_down(device: str) -> dict[str, list[float]]:
    """Measure copies from pinned memory to the device, and back: GB/s."""
    pinned = device != "cpu"
    here = pattern(size_of(device) // 4, "cpu")
    here = here.pin_memory() if pinned else here
    there = torch.zeros_like(here, device=device)
    back = torch.zeros_like(here, pin_memory=pinned)
    return {
        "to": _copied(here, there, 1, f"to {device}"),
        "from": _copied(there, back, 1, f"from {device}"),
    }


def between(source: str, target: str) -> list[float]:
    """Measure copies from one device to another: GB/s."""
    there = pattern(size_of(source) // 4, source)
    return _copied(there, torch.zeros_like(there, device=target), 1, f"{source} to {target}")


def direct(source: int, target: int) -> bool:
    """Ask whether one GPU reads the other's memory, without the host in between."""
    return bool(torch.cuda.can_device_access_peer(source, target))


def size_of(device: str) -> int:
    """Return bytes to copy: a quarter of what is free, at most."""
    largest = LARGEST[device.partition(":")[0]]
    return largest if device == "cpu" else min(largest, torch.cuda.mem_get_info(device)[0] // 4)


def pattern(size: int, device: str) -> torch.Tensor:
    """Make whole numbers that differ from place to place."""
    return torch.arange(size // 4, dtype=torch.int32, device=device).mul_(-1640531527)


def _copied(source: torch.Tensor, target: torch.Tensor, ways: int, what: str) -> list[float]:
    wait = _waiting([source.device, target.device])
    size = ways * source.numel() * source.element_size()
    runs = rates(lambda: target.copy_(source, non_blocking=True), wait, size)
    if not torch.equal(target.cpu(), source.cpu()):
        raise DamagedError(f"a copy {what} does not hold what was copied")
    return [1000 * terabytes for terabytes in runs]


def _waiting(devices: Sequence[torch.device]) -> Callable[[], None]:
    gpus = {device for device in devices if device.type == "cuda"}

    def wait() -> None:
        for device in gpus:
            torch.cuda.synchronize(device)

    return wait
