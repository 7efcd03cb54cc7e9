"""Layers of a base on this machine, and programs that run confined in what they make."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wheelyard.digests import Digest
from wheelyard.errors import FetchError, ProjectError
from wheelyard.oci.layout import LAYER_TYPE
from wheelyard.oci.unpack import make_mount_points, unpack
from wheelyard.registry.client import Registry, fetch_blob
from wheelyard.system.confine import REFUSED, confined
from wheelyard.system.filelock import claim_folder, sweep
from wheelyard.system.storage import is_file_of
from wheelyard.system.subprocesses import Result, run

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.images.assemble.store import LayerStore
    from wheelyard.projects.published import FoundBase


def layer_blob(
    layer: Mapping[str, Any],
    base: FoundBase,
    registry: Registry | None,
    store: LayerStore,
    context: Context,
) -> Path:
    """Return a layer's blob, from this machine or else from the registry.

    Raises ProjectError if it is nowhere.
    """
    sha256 = Digest.parse(layer["digest"]).sha256
    places = [store.blob(layer["digest"])]
    if base.layout is not None:
        places.append(base.layout.blob(layer["digest"]))
    for place in places:
        if is_file_of(place, sha256):
            return place
    if registry is None or layer["mediaType"] != LAYER_TYPE:
        raise ProjectError(
            f"a layer of {base.image.reference} is not on this machine; use --registry, or build "
            "the image"
        )
    repository = registry.address.repository(base.image.repository)
    try:
        folder = context.settings.cache_dir / "files"
        return fetch_blob(registry, repository, layer["digest"], layer["size"], folder)
    except FetchError as error:
        raise ProjectError(f"a layer of {base.image.reference}: {error}") from error


@contextmanager
def private_folder(context: Context) -> Iterator[Path]:
    """Make a folder of the cache that lasts as long as the context."""
    parent = context.settings.cache_dir / "chambers"
    parent.mkdir(parents=True, exist_ok=True)
    sweep(parent, foreign=False)
    claimed, release = claim_folder(parent)
    folder = claimed / "private"
    try:
        folder.mkdir()
        yield folder
    finally:
        _make_removable(folder)
        release()


@contextmanager
def chamber(blobs: Iterable[Path], context: Context) -> Iterator[Path]:
    """Unpack layers, lowest first, into a folder that lasts as long as the context."""
    with private_folder(context) as folder:
        root = folder / "root"
        root.mkdir()
        blobs = tuple(blobs)
        label = "layers, unpacked" if len(blobs) > 1 else "a layer, unpacked"
        with context.reporter.task(label, len(blobs), "items") as task:
            unpack(blobs, root, task.advance)
        make_mount_points(root)
        yield root


def enter(
    root: Path, argv: Sequence[str], env: Mapping[str, str], ids: tuple[int, int]
) -> Result | None:
    """Run a program in `root`, without network and without anything else of this machine.

    Its root is writable. Returns None where the kernel does not let this user confine it.
    """
    result = run(confined(root, argv, ids=ids, machine=True, env=env), error=None)
    refused = result.returncode == REFUSED and "wheelyard: " in result.stderr
    return None if refused else result


def _make_removable(folder: Path) -> None:
    """Open folders that a program closed against its own user."""
    if os.geteuid() != 0:
        for place, folders, _ in os.walk(folder):
            for path in (Path(place, name) for name in folders):
                if not path.is_symlink():
                    path.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
