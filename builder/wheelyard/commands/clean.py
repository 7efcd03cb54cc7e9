"""`wheelyard clean`: show what the cache holds, and remove parts of it."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from wheelyard.context import Context
from wheelyard.options import Command, add_json

_EXAMPLES = """\
examples:
  wheelyard clean                  # show what the cache holds; removes nothing
  wheelyard clean files            # remove fetched wheels and packages; layers stay usable
  wheelyard clean layers bases     # remove the made layers and the bases' root file systems
  wheelyard clean lists            # remove Debian's package lists, which `upstream check` keeps

Images in dist/ keep working: they hold their own copies or links.
"""
# Part of the cache -> the folders below it that belong to that part.
_PARTS = {
    "files": ("files",),
    "layers": ("blobs", "layers", "tmp"),
    "bases": ("rootfs", "interpreters"),
    "lists": ("lists",),
}


COMMAND = Command(
    "show what the cache holds, or free space",
    "Show the size of the cache's parts, or remove some of them.",
    _EXAMPLES,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one of {', '.join(_PARTS)}")
    add_json(parser)


def run(args: argparse.Namespace, context: Context) -> int:
    """Print one row per part; remove the named parts."""
    from wheelyard.console.amounts import amount
    from wheelyard.console.table import show_json, show_table
    from wheelyard.errors import UsageError

    if unknown := [part for part in args.parts if part not in _PARTS]:
        raise UsageError(f"the cache has no part {unknown[0]!r}; its parts are {', '.join(_PARTS)}")
    cache = context.settings.cache_dir
    sizes = {}
    for part, folders in _PARTS.items():
        sizes[part] = sum(_size(cache / folder) for folder in folders)
        if part in args.parts:
            for folder in folders:
                shutil.rmtree(cache / folder, ignore_errors=True)
    if args.json:
        show_json(
            [{"part": x, "bytes": size, "removed": x in args.parts} for x, size in sizes.items()]
        )
        return 0
    rows = [
        (part, amount(size, "bytes"), "removed" if part in args.parts else "kept")
        for part, size in sizes.items()
    ]
    show_table(("part", "size", "state"), rows)
    return 0


def _size(folder: Path) -> int:
    """Return the bytes on disk; a file with several links (as in dist/) counts in full."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
