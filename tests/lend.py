"""Bases that one cache knows, given to another: mmdebstrap takes most of a minute for each."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from wheelyard.images.assemble.store import LayerStore
from wheelyard.images.assemble.system import share_systems
from wheelyard.lock.stages import load_stages
from wheelyard.model import Cell, Plan
from wheelyard.system.storage import link_or_copy


def lend_bases(cells: Iterable[Cell], plan: Plan, project: Path, known: Path, cache: Path) -> None:
    """Let `cache` know the base layers of `cells` that the cache `known` knows."""
    for cell in cells:
        stages = load_stages(cell, plan, project)
        share_systems(stages, LayerStore(known), LayerStore(cache))


def link_tree(source: Path, target: Path) -> None:
    """A copy of a folder whose files are links where the file system allows."""
    shutil.copytree(source, target, copy_function=link_or_copy)
