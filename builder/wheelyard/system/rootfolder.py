"""The one way to put an archive's entries below a folder: links lead to places in it, as in chroot.

Whoever made the archive may have put anything into it. Names that climb are refused; a symbolic
link among an entry's parents is followed inside the root, as container engines do, and every
folder on the way is opened by its descriptor, without following links.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wheelyard.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from types import TracebackType
    from typing import Self

_LINKS = 40  # symbolic links that one path may lead through, as Linux has it
_DEPTH = 200  # folders; removing a tree holds a descriptor for each
_LONGEST = 4096  # characters: PATH_MAX
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class OutsideError(StorageError, ValueError):
    """An entry of an archive that has no place below the root."""


def entry_path(name: str) -> str:
    """Where an entry of an archive lies, relative to the root; empty for the root itself."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in name or len(name) > _LONGEST or len(parts) > _DEPTH:
        raise OutsideError(
            f"{name[:200]!r} leads out of the image, or is no path; do not use this image"
        )
    return "/".join(parts)


def resolve(path: str, link: Callable[[str], str | None]) -> str:
    """`path` with the symbolic links among its parents followed inside the root.

    `link` is asked for the target of the link at a path without links in it; None: there is none.
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
        if part == "..":  # of a link's target; above the root there is nothing
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
    """What an entry has besides its content."""

    mode: int
    mtime: float  # seconds since 1970
    owner: tuple[int, int] | None = None  # user and group; None: whoever unpacks


class RootFolder:
    """A folder that entries are put into; nobody else writes to it meanwhile."""

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
        """Make a folder, or give the one that is there (the root, too) these attributes."""
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
        """Write a file in the place of whatever is there."""
        parent, name = self._parent(path)
        self._clear(name, parent)
        opened = os.open(name, _FILE, 0o600, dir_fd=parent)
        with open(opened, "wb", buffering=0) as file:  # noqa: PTH123 - a descriptor
            for data in content:
                file.write(data)
            _settle(opened, attributes)

    def symlink(self, path: str, target: str, attributes: Attributes) -> None:
        """Make a symbolic link; where it leads is looked at when somebody goes through it."""
        parent, name = self._parent(path)
        self._clear(name, parent)
        os.symlink(target, name, dir_fd=parent)
        if attributes.owner is not None:
            os.chown(name, *attributes.owner, dir_fd=parent, follow_symlinks=False)
        times = (attributes.mtime, attributes.mtime)
        os.utime(name, times, dir_fd=parent, follow_symlinks=False)
        self._forget()

    def hardlink(self, path: str, target: str) -> None:
        """Let a second name lead to the file (or symbolic link) at `target`, below the root."""
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
                f"{path!r} is a hard link to {target!r}, which is not there; do not use this image"
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
        """Take away what is at `path`, if anything is, without following a link there."""
        parent, name = self._parent(path)
        self._clear(name, parent)

    def empty(self, path: str) -> None:
        """Take away all that is in the folder at `path`, links on the way followed."""
        parent, _ = self._parent(f"{path}/x" if path else "x")
        for name in os.listdir(parent):  # noqa: PTH208 - of a descriptor
            self._clear(name, parent)

    def _parent(self, path: str) -> tuple[int, str]:
        """Descriptor of the folder that an entry lies in, made if need be, and the entry's name."""
        folder, _, name = path.rpartition("/")
        if name in ("", ".", ".."):
            raise OutsideError(f"{path[:200]!r} is no path; do not use this image")
        if self._last is None or self._last[0] != folder:
            self._forget()
            self._last = (folder, self._open(resolve(path, self._link).rpartition("/")[0]))
        return self._last[1], name

    def _open(self, folder: str) -> int:
        """Open a folder whose path has no links in it."""
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
                        f"{folder[:200]!r} is no folder, but something lies in it; do not use "
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
    """Owner first: a change of it takes setuid bits away."""
    if attributes.owner is not None:
        os.fchown(opened, *attributes.owner)
    os.fchmod(opened, attributes.mode & 0o7777)
    os.utime(opened, (attributes.mtime, attributes.mtime))
