"""Hands layers on in order, from the lowest up, while they are finished in any order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wheelyard.layers.layer import Layer


def ignore(_layer: Layer) -> None:
    """Do nothing: nothing waits for the layer."""


class GrowingImage:
    """Passes the layers of `keys` on, lowest first, each as soon as all below it are complete."""

    def __init__(self, keys: Sequence[str], offer: Callable[[Layer], None]) -> None:
        self._waiting = list(reversed(keys))
        self._offer = offer
        self._made: dict[str, Layer] = {}

    def add(self, key: str, layer: Layer) -> None:
        """Add a finished layer."""
        self._made[key] = layer
        while self._waiting and self._waiting[-1] in self._made:
            self._offer(self._made[self._waiting.pop()])
