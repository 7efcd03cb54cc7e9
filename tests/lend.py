"""Bases that one cache knows, given to another: mmdebstrap takes most of a minute for each."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from builder.assemble.store import LayerStore
from builder.assemble.system import system_key
from builder.building.stages import load_stages
from builder.model import Cell, Plan


def lend_bases(cells: Iterable[Cell], plan: Plan, project: Path, known: Path, cache: Path) -> None:
    """Let `cache` know the base layers of `cells` that the cache `known` knows."""
    store = LayerStore(known)
    for cell in cells:
        stages = load_stages(cell, plan, project)
        for index in range(len(stages)):
            key = system_key(stages, index)
            if stored := store.find(key):
                name = stored.layer.digest.removeprefix("sha256:")
                for path in (
                    f"blobs/sha256/{name}", f"layers/{name}.toc.json", f"layers/{key}.json",
                ):  # fmt: skip
                    (cache / path).parent.mkdir(parents=True, exist_ok=True)
                    if not (cache / path).exists():
                        link_or_copy(known / path, cache / path)


def link_tree(source: Path, target: Path) -> None:
    """A copy of a folder whose files are links where the file system allows."""
    shutil.copytree(source, target, copy_function=link_or_copy)


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """A second name for a file, or on another file system its copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
