"""Layers are handed on from the lowest up, whatever the order in which they are made."""

from __future__ import annotations

from itertools import permutations

import pytest

from wheelyard.images.assemble.streamed import GrowingImage
from wheelyard.layers.layer import Layer

LAYERS = {key: Layer(f"sha256:{key}", f"sha256:{key}{key}", 1, 2) for key in "abcd"}


@pytest.mark.parametrize("order", list(permutations("abcd")))
def test_any_order_gives_the_one_order(order: tuple[str, ...]) -> None:
    handed: list[Layer] = []
    growing = GrowingImage("abcd", handed.append)
    for number, key in enumerate(order):
        growing.add(key, LAYERS[key])
        made = set(order[: number + 1])
        lowest = next((i for i, x in enumerate("abcd") if x not in made), len(LAYERS))
        assert handed == list(LAYERS.values())[:lowest]
