"""Layers are finished in any order, and wanted from the lowest up."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wheelyard.layers.layer import Layer


def ignore(_layer: Layer) -> None:
    """Take a layer that nobody waits for."""


class Rising:
    """Hands on the layers of `keys`, lowest first, each as soon as all below it are there."""

    def __init__(self, keys: Sequence[str], offer: Callable[[Layer], None]) -> None:
        self._waiting = list(reversed(keys))
        self._offer = offer
        self._made: dict[str, Layer] = {}

    def add(self, key: str, layer: Layer) -> None:
        """A layer is finished."""
        self._made[key] = layer
        while self._waiting and self._waiting[-1] in self._made:
            self._offer(self._made[self._waiting.pop()])
