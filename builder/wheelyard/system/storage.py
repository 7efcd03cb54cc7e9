"""Explains operating-system errors about files to the user; removes, renames and hashes files."""

from __future__ import annotations

import errno
import hashlib
import os
import shlex
import shutil
import tempfile
from pathlib import Path

from wheelyard.errors import StorageError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_MISPLACED = frozenset({errno.EISDIR, errno.ENOTDIR, errno.EEXIST})
_READ = 1 << 20
TREE_SUM = ".sha256"  # in a folder: the hash of its files
REMEDY = (
    "choose another folder: --cache-dir or WHEELYARD_CACHE for the cache, --output for images, "
    "--report for records, --layout for a bundle"
)
_FAILING = f"check the disk and its connection (dmesg), or {REMEDY}"
_IN_THE_WAY = "move what is there out of the way, then run the command again"
_TOO_MANY = "raise the limit (`ulimit -n 4096`), or run with --workers 1"
_ADVICE = {
    **dict.fromkeys(REFUSED, f"make it writable for this user, or {REMEDY}"),
    errno.EFBIG: f"raise `ulimit -f` or, where the file system takes no larger file, {REMEDY}",
    **dict.fromkeys((errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENOTCONN), _FAILING),
    **dict.fromkeys((*_MISPLACED, errno.ELOOP), _IN_THE_WAY),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), _TOO_MANY),
    errno.ENAMETOOLONG: "choose a shorter path",
    errno.ENOMEM: "free memory, or run with --workers 1",
    errno.ENOEXEC: f"it is damaged, or made for another processor; {REMEDY}",
}


def is_known(error: OSError) -> bool:
    """Tell an error of this machine, which its user can fix, from an error of this program."""
    known = error.errno in _FULL | _MISPLACED or error.errno in _ADVICE
    return known or _no_temporary_folder(error) or _refusing(error) is not None


def storage_error(
    error: OSError, folder: Path | None = None, needed: int | None = None
) -> StorageError:
    """Explain `error` to the user; `needed` is the number of bytes still to be written."""
    place = folder or error.filename or "the file system"
    if error.errno in _FULL:
        return no_space(folder, needed, str(place))
    if _no_temporary_folder(error):
        return StorageError(f"{error.strerror}; set TMPDIR to a writable folder")
    if error.errno in _MISPLACED and error.filename is not None:
        return in_the_way(Path(os.fsdecode(error.filename2 or error.filename)))
    if refusing := _refusing(error):
        return StorageError(f"{error.filename}: nothing can be written in {refusing}; {REMEDY}")
    advice = _ADVICE.get(error.errno or 0)
    what = f"{error.filename or place}: {error.strerror or error}"
    return StorageError(f"{what}; {advice}" if advice else what)


def _no_temporary_folder(error: OSError) -> bool:
    """Recognise tempfile's error for a machine without a temporary folder."""
    return error.errno == errno.ENOENT and "temporary directory" in str(error.strerror)


def _refusing(error: OSError) -> Path | None:
    """Return the folder, of /proc for instance, in which nothing can be made: not even a name.

    Such file systems answer as if a folder above were missing.
    """
    if error.errno != errno.ENOENT or error.filename is None:
        return None
    above = Path(os.fsdecode(error.filename)).absolute().parents
    folder = next(path for path in above if path.is_dir())
    try:
        Path(tempfile.mkdtemp(prefix=".wheelyard-", dir=folder)).rmdir()
    except FileNotFoundError:
        return folder
    except OSError:
        return None
    return None


def in_the_way(path: Path) -> StorageError:
    """Name what to remove: a folder where a file belongs, or a file where a folder belongs."""
    for parent in reversed(path.parents):
        if os.path.lexists(parent) and not parent.is_dir():
            return StorageError(
                f"{parent}: is in the place of a folder; remove it: rm {shlex.quote(str(parent))}"
            )
    kind, option = ("folder", "-r ") if path.is_dir() else ("file", "")
    return StorageError(
        f"{path}: a {kind} is where it does not belong; remove it: "
        f"rm {option}{shlex.quote(str(path))}"
    )


def damaged(path: Path, why: str) -> StorageError:
    """Describe a damaged blob, and mark it so that the next build checks it and its links again.

    The cache holds the same file under another name, and hashes every file whose time changed.
    """
    try:
        os.utime(path)
    except FileNotFoundError:
        pass
    except OSError:
        command = f"rm {shlex.quote(str(path))} && wheelyard clean layers"
        return StorageError(f"{path}: damaged ({why}); remove it and build again: {command}")
    return StorageError(
        f"{path}: damaged ({why}); the next `wheelyard build` of the image makes it again"
    )


def remove(path: Path) -> None:
    """Remove a file, or the folder that is in its place."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def put(source: Path, target: Path) -> None:
    """Rename one of our files, replacing even a folder."""
    try:
        source.replace(target)
    except IsADirectoryError:
        remove(target)
        source.replace(target)


def no_space(folder: Path | None, needed: int | None, place: str) -> StorageError:
    """Describe a full disk, with the free and the missing bytes if known."""
    free = None if folder is None else free_bytes(folder)
    figures = [
        f"{amount:,} bytes {word}"
        for amount, word in ((needed, "needed"), (free, "free"))
        if amount is not None
    ]
    detail = f" ({', '.join(figures)})" if figures else ""
    return StorageError(f"{place}: no space left{detail}; make room, or {REMEDY}")


def free_bytes(folder: Path) -> int | None:
    """Return the bytes that this user may still write in `folder`; None if unknown."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def file_digest(path: Path) -> str:
    """Return the digest of a file: `sha256:<hex>`."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(_READ):
            digest.update(data)
    return f"sha256:{digest.hexdigest()}"


def is_file_of(path: Path, sha256: str) -> bool:
    """Tell whether a file can be read and has this hash (hex)."""
    try:
        return file_digest(path) == f"sha256:{sha256}"
    except OSError:
        return False


def tree_digest(folder: Path) -> str:
    """Return one hash for all files below a folder: names, modes, contents, and targets of links.

    Folders do not count, nor does TREE_SUM, which may hold the hash.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            digest.update(f"{name} -> {path.readlink()}\n".encode())
        elif path.is_file() and name != TREE_SUM:
            mode = path.stat().st_mode & 0o777
            digest.update(f"{name} {mode:o} {file_digest(path)}\n".encode())
    return digest.hexdigest()


def is_tree_of(folder: Path, remembered: Path) -> bool:
    """Tell whether a folder's files still have the hash that the file `remembered` holds."""
    try:
        return remembered.read_text() == tree_digest(folder)
    except (OSError, ValueError):
        return False


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Make a hard link, or a copy if the target is on another file system."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
