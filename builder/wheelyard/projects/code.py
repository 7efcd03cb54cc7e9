"""The layer of a project's code: its files, as the user `dev` of the image may change them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from wheelyard.contract.paths import HOME, UID, VENV, WHEELYARD, WORKDIR
from wheelyard.errors import ProjectError
from wheelyard.layers.layer import Layer, LayerWriter
from wheelyard.layers.toc import parents
from wheelyard.projects.files import PRIVATE_KEY, ProjectFile

_FOLDER, _FILE, _PROGRAM = 0o2775, 0o664, 0o775  # as /workspace itself, and a home
_SYSTEM = {
    "bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "proc", "run", "root", "sbin", "sys",
    "tmp", "usr", "var",
}  # fmt: skip
_MARK = 128  # bytes at a file's start that may say it is a private key


def write_code(
    blob: Path, files: Sequence[ProjectFile], workdir: str, named: Sequence[str]
) -> Layer:
    """Write the layer with the project's files below `workdir`.

    `named` are files that may be secrets. Raises ProjectError for a file that is one, that cannot
    be read, or that changes while it is read.
    """
    root = place_of(workdir)
    with LayerWriter(blob, packed=True) as writer:
        for folder in parents(f"{root}/"):
            writer.directory(folder, *_owned(folder, root))
        for one in files:
            path = f"{root}/{one.path}"
            for folder in parents(path):
                if not writer.is_folder(folder):
                    writer.directory(folder, _FOLDER, UID, 0)
            if one.link is not None:
                writer.symlink(path, one.link, UID, 0)
            else:
                content = _content(one, may_be_secret=one.path in named)
                writer.file(path, content, _PROGRAM if one.executable else _FILE, UID, 0)
        return writer.finish()


def place_of(workdir: str) -> str:
    """Return where code lies, relative to the image's root; ProjectError for a system folder."""
    path = PurePosixPath(workdir)
    place = str(path).lstrip("/")
    parts = PurePosixPath(place).parts
    own = {VENV, WHEELYARD}
    if (
        not parts
        or ".." in parts
        or parts[0] in _SYSTEM
        or any(f"{place}/".startswith(f"{folder}/") for folder in own)
        or place in ("opt", "home", "srv", "mnt", "media")
    ):
        raise ProjectError(
            f"workdir = {workdir!r} belongs to the image itself; use /{WORKDIR} or a folder of "
            "your own, such as /app"
        )
    return place


def _owned(folder: str, root: str) -> tuple[int, int, int]:
    """Return mode, user and group of a folder above the code, as the layers below have it."""
    is_home = f"{folder}/".startswith(f"{HOME}/")
    if folder in (root, WORKDIR) or is_home or folder.startswith(f"{WORKDIR}/"):
        return _FOLDER, UID, 0
    return 0o755, 0, 0


def _content(one: ProjectFile, *, may_be_secret: bool) -> bytes:
    """Read a file that must stay as it was listed, from before to after."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        with os.fdopen(os.open(one.place, flags), "rb") as stream:
            content = stream.read()
            after = os.fstat(stream.fileno())
        now = one.place.lstat()
    except OSError as error:
        raise ProjectError(f"{one.path} cannot be read: {error.strerror}") from error
    if len({_state(one.status), _state(after), _state(now)}) > 1 or len(content) != after.st_size:
        raise ProjectError(
            f"{one.path} was changed while it was read; wait until nothing writes to the project, "
            "and run the command again"
        )
    if not may_be_secret and PRIVATE_KEY.match(content[:_MARK]):
        raise ProjectError(
            f"{one.path} holds a private key, which everybody who pulls the image would get; leave "
            "it out with `exclude`, or name it in `include` if it is meant to be there"
        )
    return content


def _state(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns
