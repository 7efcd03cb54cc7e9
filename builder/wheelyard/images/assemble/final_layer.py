"""The final layer: what the image knows about itself. A few kilobytes, different in every image."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import wheelyard
from wheelyard import selfcheck
from wheelyard.contract.paths import FILE_MODE, GID, VENV, WHEELYARD
from wheelyard.contract.users import SCRIPTS
from wheelyard.images.assemble.accounts import empty_environment
from wheelyard.layers.layer import FORMAT, Layer, LayerWriter
from wheelyard.layers.wheels import add_parents

_LAUNCHER = f"""#!/{VENV}/bin/python
import sys

sys.path.insert(0, "/{WHEELYARD}")
from selfcheck.cli import main

sys.exit(main())
"""


def final_layer_files(cell_json: str, others: Mapping[str, str]) -> dict[str, tuple[bytes, int]]:
    """Return path -> content and mode: a base's own files, the cell, its constraints and lock."""
    texts = {f"{WHEELYARD}/cell.json": cell_json, **others}
    return {
        **base_files(),
        **{path: (text.encode(), _mode(path)) for path, text in texts.items()},
    }


def base_files() -> dict[str, tuple[bytes, int]]:
    """Return path -> content and mode of what a base has already: selfcheck and scripts."""
    package, data = Path(selfcheck.__file__).parent, Path(wheelyard.__file__).parent / "data"
    files = {
        f"{WHEELYARD}/selfcheck/{path.relative_to(package).as_posix()}": (path.read_bytes(), 0o644)
        for path in sorted(package.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    for source, name in SCRIPTS.items():
        files[f"{WHEELYARD}/{name}"] = ((data / source).read_bytes(), 0o755)
    files["usr/local/bin/selfcheck"] = (_LAUNCHER.encode(), 0o755)
    return files


def final_layer_key(files: dict[str, tuple[bytes, int]], links: dict[str, str]) -> str:
    """Return the hash (sha256 hex) of everything that the layer depends on."""
    digest = hashlib.sha256(f"{FORMAT} top".encode())
    for path, (content, mode) in sorted(files.items()):
        digest.update(f"{path} {mode:o} {hashlib.sha256(content).hexdigest()}\n".encode())
    for path, target in sorted(links.items()):
        digest.update(f"{path} -> {target}\n".encode())
    return digest.hexdigest()


def write_final_layer(
    files: dict[str, tuple[bytes, int]], links: dict[str, str], scratch: Path, python: str
) -> Layer:
    """Write the layer to `scratch`; files in the environment belong to its group."""
    environment = empty_environment(python)
    with LayerWriter(scratch, packed=True) as writer:
        for path, (content, mode) in sorted(files.items()):
            add_parents(writer, path, environment)
            writer.file(path, content, mode, gid=_group(path))
        for path, target in sorted(links.items()):
            add_parents(writer, path, environment)
            writer.symlink(path, target, gid=_group(path))
        return writer.finish()


def _mode(path: str) -> int:
    return FILE_MODE if path.startswith(f"{VENV}/") else 0o644


def _group(path: str) -> int:
    return GID if path.startswith(f"{VENV}/") else 0
