"""The Python of a base image, to compile a project's wheels with: out of its lowest layer."""

from __future__ import annotations

import hashlib
import platform
from typing import TYPE_CHECKING, Any

from wheelyard.architecture import of_machine
from wheelyard.errors import BaseImageError, ProjectError, StorageError
from wheelyard.images.assemble.interpreter import FORMAT, unpack_interpreter
from wheelyard.images.assemble.roots import RootLayer
from wheelyard.images.assemble.store import LayerStore
from wheelyard.projects.chamber import layer_blob
from wheelyard.system.storage import TREE_SUM, is_tree_of, storage_error

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.images.assemble.bytecode import Interpreter
    from wheelyard.projects.published import FoundBase
    from wheelyard.registry.client import Registry


def find_interpreter(
    base: FoundBase, registry: Registry | None, context: Context
) -> Interpreter | None:
    """Unpack the base's Python, once; None, with a warning, if its lowest layer does not hold one.

    It runs confined, because it is not trusted. Raises ProjectError if the layer is not found, or
    the Python is for another processor.
    """
    if of_machine(platform.machine()) != of_machine(base.image.machine):
        raise ProjectError(
            f"the bytecode is made by the Python of {base.image.reference}, which runs on "
            f"{base.image.machine} only: make the image on such a machine, or without bytecode"
        )
    layer: dict[str, Any] = base.image.manifest["layers"][0]
    text = f"layer {layer['digest']}\nformat {FORMAT}"
    identity = hashlib.sha256(text.encode()).hexdigest()
    store, python = LayerStore(context.settings.cache_dir), base.image.python
    cache = context.settings.cache_dir / "interpreters"
    try:
        found = cache / identity
        is_there = is_tree_of(found, found / TREE_SUM)
        blob = found if is_there else layer_blob(layer, base, registry, store, context)
        root = RootLayer(blob, store.scratch())
        return unpack_interpreter(root, identity, python, cache, foreign=True)
    except (BaseImageError, KeyError, StorageError) as error:
        context.reporter.warn(f"without bytecode: no Python in {base.image.reference}: {error}")
        return None
    except OSError as error:
        raise storage_error(error, cache) from error
