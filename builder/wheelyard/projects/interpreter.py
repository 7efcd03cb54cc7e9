"""The Python of a base image, to compile a project's wheels with: out of its lowest layer."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from wheelyard.digests import Digest
from wheelyard.errors import BaseImageError, FetchError, ProjectError, StorageError
from wheelyard.images.assemble.interpreter import FORMAT, unpack_interpreter
from wheelyard.images.assemble.roots import RootLayer
from wheelyard.images.assemble.store import LayerStore
from wheelyard.oci.layout import LAYER_TYPE
from wheelyard.system.storage import TREE_SUM, is_file_of, is_tree_of, storage_error

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from wheelyard.context import Context
    from wheelyard.images.assemble.bytecode import Interpreter
    from wheelyard.projects.published import FoundBase
    from wheelyard.registry.client import Registry


def find_interpreter(
    base: FoundBase, registry: Registry | None, context: Context
) -> Interpreter | None:
    """Unpack the base's Python, once; None, with a warning, if its lowest layer does not hold one.

    It runs confined: it may be anybody's. Raises ProjectError if the layer is nowhere.
    """
    layer: dict[str, Any] = base.image.manifest["layers"][0]
    text = f"layer {layer['digest']}\nformat {FORMAT}"
    identity = hashlib.sha256(text.encode()).hexdigest()
    store, python = LayerStore(context.settings.cache_dir), base.image.python
    cache = context.settings.cache_dir / "interpreters"
    try:
        found = cache / identity
        is_there = is_tree_of(found, found / TREE_SUM)
        blob = found if is_there else _blob(layer, base, registry, store, context)
        root = RootLayer(blob, store.scratch())
        return unpack_interpreter(root, identity, python, cache, foreign=True)
    except (BaseImageError, KeyError, StorageError) as error:
        context.reporter.warn(f"without bytecode: no Python in {base.image.reference}: {error}")
        return None
    except OSError as error:
        raise storage_error(error, cache) from error


def _blob(
    layer: dict[str, Any],
    base: FoundBase,
    registry: Registry | None,
    store: LayerStore,
    context: Context,
) -> Path:
    """Return the layer's blob, from this machine or else from the registry."""
    sha256 = Digest.parse(layer["digest"]).sha256
    places = [store.blob(layer["digest"])]
    if base.layout is not None:
        places.append(base.layout.blob(layer["digest"]))
    for place in places:
        if is_file_of(place, sha256):
            return place
    if registry is None or layer["mediaType"] != LAYER_TYPE:
        raise ProjectError(
            f"the lowest layer of {base.image.reference} is not on this machine; use --registry, "
            "or leave out --bytecode"
        )
    from wheelyard.fetching.download import Session, download
    from wheelyard.fetching.wanted import Download

    repository = registry.address.repository(base.image.repository)
    url = registry.url(repository, f"blobs/{layer['digest']}")
    session = Session(registry.http, registry.reporter, registry.patience)
    wanted = Download(url, f"{sha256[:12]}.tar.gz", sha256, layer["size"])
    try:
        return download(wanted, context.settings.cache_dir / "files", session)
    except FetchError as error:
        raise ProjectError(f"--bytecode: {error}") from error
