"""The base's Python, unpacked far enough to run on this machine as any user."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from wheelyard.architecture import ARCHITECTURES, DEFAULT
from wheelyard.errors import BaseImageError
from wheelyard.images.assemble.bytecode import Interpreter
from wheelyard.lock.stages import is_python
from wheelyard.system.filelock import claim_folder, sweep
from wheelyard.system.rootfolder import Attributes, RootFolder
from wheelyard.system.storage import TREE_SUM, is_tree_of, remove, tree_digest

if TYPE_CHECKING:
    from wheelyard.images.assemble.rootfs import RootFS
    from wheelyard.images.assemble.roots import Root
    from wheelyard.model import Base, PackageLock

LARGEST = 1 << 29  # bytes of one file
FORMAT = 5  # part of the identity: raise it when what is unpacked or compiled changes


def interpreter_identity(lock: PackageLock, base: Base | None = None) -> str:
    """Return the hash (sha256 hex) of what the interpreter is made of: packages, or an image."""
    if base is not None and base.image is not None:
        digest = base.image.rpartition("@")[2]
        return hashlib.sha256(f"image {digest}\nformat {FORMAT}".encode()).hexdigest()
    parts = [f"{d.name} {d.sha256}" for d in lock.packages if is_python(d.name)]
    parts.append(f"format {FORMAT}")
    return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()


def unpack_interpreter(
    root: Root,
    identity: str,
    python: str,
    cache: Path,
    *,
    foreign: bool = False,
    architecture: str = DEFAULT.name,
    emulator: str | None = None,
) -> Interpreter:
    """Unpack the interpreter from `root` into `cache`, once; `foreign`: it is a registry's.

    It decides the bytecode, so every file of it is hashed before it is used.
    """
    folder = cache / identity
    if not is_tree_of(folder, folder / TREE_SUM):
        cache.mkdir(parents=True, exist_ok=True)
        sweep(cache, foreign=False)
        claimed, release = claim_folder(cache)
        partial = claimed / "root"
        try:
            partial.mkdir()
            with root.open(python) as rootfs:
                _unpack(rootfs, python, partial, architecture)
            (partial / TREE_SUM).write_text(tree_digest(partial))
            os.utime(partial / TREE_SUM, (0, 0))
            partial.chmod(0o755)
            _publish(partial, folder)
        finally:
            release()
    local = (folder / f"usr/local/bin/python{python}").exists()
    prefix = "usr/local" if local else "usr"
    return Interpreter(folder, python, identity, prefix, foreign, architecture, emulator)


def _publish(partial: Path, folder: Path) -> None:
    for is_last in (False, True):
        try:
            partial.rename(folder)
        except OSError:
            if is_last:
                raise
            if is_tree_of(folder, folder / TREE_SUM):  # another process was faster
                return
            remove(folder)
        else:
            return


def _unpack(rootfs: RootFS, python: str, folder: Path, architecture: str) -> None:
    """Unpack the standard library, the loader and shared libraries.

    Times are kept: Debian's bytecode refers to them, and without it every start would compile the
    standard library again. Links are resolved inside the root and point directly at their target:
    an absolute one would lead to this machine's file of that name.
    """
    version, multiarch = re.escape(python), ARCHITECTURES[architecture].multiarch
    wanted = re.compile(
        rf"(lib|(usr/)?lib64(/.*)?|usr/bin/python{version}|usr/lib/python{version}/.*"
        rf"|(usr/)?lib/(ld-linux-[^/]*\.so[^/]*|{multiarch}/[^/]*\.so[^/]*)"
        rf"|usr/local/bin/python{version}|usr/local/lib/libpython[^/]*\.so[^/]*"
        rf"|usr/local/lib/python{version}/(?!site-packages/).*)"
    )
    chosen = {path: node for path, node in rootfs.nodes.items() if wanted.fullmatch(path)}
    with RootFolder(folder) as target:
        for path, node in chosen.items():
            attributes = Attributes(node.entry.mode & 0o755, node.mtime)
            if node.entry.kind == "dir":
                target.folder(path, replace(attributes, mode=0o755))
            elif node.entry.kind == "symlink":
                real = rootfs.real(path)
                if real in chosen:
                    link = os.path.relpath(real, str(PurePosixPath(path).parent))
                    target.symlink(path, link, attributes)
            else:
                real = rootfs.real(path)
                if real in rootfs.nodes and rootfs.nodes[real].entry.size > LARGEST:
                    raise BaseImageError(f"/{path} of the base is too large for a part of Python")
                target.file(path, [rootfs.read(real)], attributes)
