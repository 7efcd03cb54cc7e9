"""The only way to write an archive's entries into a folder; links resolve inside it, as in chroot.

The archive's content is untrusted. Paths that climb are refused; a symbolic link among an entry's
parents is followed inside the root, as container engines do, and every folder on the way is opened
by descriptor, without following links.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from wheelyard.errors import StorageError

_LINKS = 40  # symbolic links that one path may lead through, as Linux has it
_DEPTH = 200  # folders; removing a tree holds a descriptor for each
_LONGEST = 4096  # characters: PATH_MAX
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class OutsideError(StorageError, ValueError):
    """An entry of an archive that has no valid place inside the root."""


def entry_path(name: str) -> str:
    """Return an entry's path relative to the root; empty for the root itself."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in name or len(name) > _LONGEST or len(parts) > _DEPTH:
        raise OutsideError(
            f"{name[:200]!r} leads out of the image or is not a path; do not use this image"
        )
    return "/".join(parts)


def resolve(path: str, link: Callable[[str], str | None]) -> str:
    """Follow the symbolic links among the parents of `path` inside the root.

    `link` returns the target of the link at a path that has no links in it, or None if there is
    none.
    """
    folder, _, name = path.rpartition("/")
    if not folder:
        return path
    done: list[str] = []
    left = folder.split("/")[::-1]
    links = 0
    while left:
        part = left.pop()
        if part in ("", "."):
            continue
        if part == "..":  # in a link's target; `..` of the root is the root
            del done[-1:]
            continue
        target = link("/".join([*done, part]))
        if target is None:
            done.append(part)
            continue
        links += 1
        if links > _LINKS or len(target) > _LONGEST:
            raise OutsideError(
                f"{path[:200]!r} leads through too many links; do not use this image"
            )
        if target.startswith("/"):
            done.clear()
        left.extend(target.split("/")[::-1])
    return entry_path("/".join([*done, name]))


@dataclass(frozen=True, slots=True)
class Attributes:
    """The attributes of an entry: all but its content."""

    mode: int
    mtime: float  # seconds since 1970
    owner: tuple[int, int] | None = None  # user and group; None: the user who unpacks


class RootFolder:
    """A folder that entries are written into; nothing else writes to it at the same time."""

    def __init__(self, folder: Path) -> None:
        self._root = os.open(folder, _FOLDER)
        self._last: tuple[str, int] | None = None  # the folder that was opened last

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._forget()
        os.close(self._root)

    def folder(self, path: str, attributes: Attributes) -> None:
        """Make a folder, or set these attributes on the existing one (the root, too)."""
        if path:
            parent, name = self._parent(path)
            if not _is_folder(name, parent):
                self._clear(name, parent)
                os.mkdir(name, 0o700, dir_fd=parent)
            opened = os.open(name, _FOLDER, dir_fd=parent)
        else:
            opened = os.dup(self._root)
        try:
            _settle(opened, attributes)
        finally:
            os.close(opened)

    def file(self, path: str, content: Iterable[bytes], attributes: Attributes) -> None:
        """Write a file, replacing whatever is there."""
        parent, name = self._parent(path)
        self._clear(name, parent)
        opened = os.open(name, _FILE, 0o600, dir_fd=parent)
        with open(opened, "wb", buffering=0) as file:  # noqa: PTH123 - a descriptor
            for data in content:
                file.write(data)
            _settle(opened, attributes)

    def symlink(self, path: str, target: str, attributes: Attributes) -> None:
        """Make a symbolic link; its target is checked when a later entry follows it."""
        parent, name = self._parent(path)
        self._clear(name, parent)
        os.symlink(target, name, dir_fd=parent)
        if attributes.owner is not None:
            os.chown(name, *attributes.owner, dir_fd=parent, follow_symlinks=False)
        times = (attributes.mtime, attributes.mtime)
        os.utime(name, times, dir_fd=parent, follow_symlinks=False)
        self._forget()

    def hardlink(self, path: str, target: str) -> None:
        """Make a hard link to the file (or symbolic link) at `target`, inside the root."""
        there, old = self._parent(target)
        there = os.dup(there)
        try:
            parent, name = self._parent(path)
            if os.path.samestat(os.fstat(there), os.fstat(parent)) and name == old:
                raise OutsideError(f"{path!r} is a link to itself; do not use this image")
            if _is_folder(old, there):
                raise OutsideError(f"{path!r} is a hard link to a folder; do not use this image")
            self._clear(name, parent)
            os.link(old, name, src_dir_fd=there, dst_dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            raise OutsideError(
                f"{path!r} is a hard link to {target!r}, which is missing; do not use this image"
            ) from None
        finally:
            os.close(there)

    def fifo(self, path: str, attributes: Attributes) -> None:
        """Make a named pipe."""
        parent, name = self._parent(path)
        self._clear(name, parent)
        os.mkfifo(name, 0o600, dir_fd=parent)
        if attributes.owner is not None:
            os.chown(name, *attributes.owner, dir_fd=parent, follow_symlinks=False)

    def remove(self, path: str) -> None:
        """Remove what is at `path`, if anything, without following a link there."""
        parent, name = self._parent(path)
        self._clear(name, parent)

    def empty(self, path: str) -> None:
        """Remove everything in the folder at `path`; links on the way are followed."""
        parent, _ = self._parent(f"{path}/x" if path else "x")
        for name in os.listdir(parent):  # noqa: PTH208 - of a descriptor
            self._clear(name, parent)

    def _parent(self, path: str) -> tuple[int, str]:
        """Return a descriptor of the entry's folder, made if missing, and the entry's name."""
        folder, _, name = path.rpartition("/")
        if name in ("", ".", ".."):
            raise OutsideError(f"{path[:200]!r} is not a path; do not use this image")
        if self._last is None or self._last[0] != folder:
            self._forget()
            self._last = (folder, self._open(resolve(path, self._link).rpartition("/")[0]))
        return self._last[1], name

    def _open(self, folder: str) -> int:
        """Open a folder whose path contains no links."""
        opened = os.dup(self._root)
        for part in folder.split("/") if folder else ():
            below = opened
            try:
                try:
                    opened = os.open(part, _FOLDER, dir_fd=below)
                except FileNotFoundError:
                    os.mkdir(part, 0o755, dir_fd=below)
                    opened = os.open(part, _FOLDER, dir_fd=below)
                    os.fchmod(opened, 0o755)
            except OSError as error:
                if error.errno in (errno.ENOTDIR, errno.ELOOP):
                    raise OutsideError(
                        f"{folder[:200]!r} is not a folder, but has entries below it; do not use "
                        "this image"
                    ) from error
                raise
            finally:
                os.close(below)
        return opened

    def _link(self, path: str) -> str | None:
        with suppress(OSError):  # not a link, or not there
            return os.readlink(path, dir_fd=self._root)
        return None

    def _clear(self, name: str, parent: int) -> None:
        if _is_folder(name, parent):
            shutil.rmtree(name, dir_fd=parent)
        else:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=parent)

    def _forget(self) -> None:
        if self._last is not None:
            os.close(self._last[1])
            self._last = None


def _is_folder(name: str, parent: int) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode)
    except FileNotFoundError:
        return False


def _settle(opened: int, attributes: Attributes) -> None:
    """Set the attributes, the owner first: changing it clears the setuid bits."""
    if attributes.owner is not None:
        os.fchown(opened, *attributes.owner)
    os.fchmod(opened, attributes.mode & 0o7777)
    os.utime(opened, (attributes.mtime, attributes.mtime))
