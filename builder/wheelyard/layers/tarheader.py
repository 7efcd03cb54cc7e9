"""Tar headers: POSIX ustar if an entry fits it, otherwise tarfile's PAX records.

tarfile takes 35 microseconds for a header, and a layer may have ten thousand; nearly all of them
are the plain kind, which is written here with the same bytes.
"""

from __future__ import annotations

import tarfile

from wheelyard.layers.toc import Entry

EPOCH = 315532800  # 1980-01-01, the oldest time a zip can hold
BLOCK = tarfile.BLOCKSIZE

_TYPES = {
    "file": tarfile.REGTYPE,
    "dir": tarfile.DIRTYPE,
    "symlink": tarfile.SYMTYPE,
    "hardlink": tarfile.LNKTYPE,
}
_NAME = tarfile.LENGTH_NAME  # bytes; the same for the link
_MAX_SIZE = 8**11 - 1  # what eleven octal digits hold
_MAX_ID = 8**7 - 1
_NO_CHECKSUM = b"        "
_USTAR = (tarfile.POSIX_MAGIC).ljust(BLOCK - 257, b"\0")  # no names of users, no device, no prefix


def tar_header(entry: Entry, mtime: int = EPOCH) -> bytes:
    """Return the entry's header blocks; `mtime` is in seconds since 1970."""
    name = f"{entry.path}/" if entry.kind == "dir" else entry.path
    size = entry.size if entry.kind == "file" else 0
    if not _is_plain(entry, name, size, mtime):
        return _pax_header(entry, size, mtime)
    head = name.encode().ljust(_NAME, b"\0") + b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (
        entry.mode & 0o7777, entry.uid, entry.gid, size, mtime
    )  # fmt: skip
    rest = _TYPES[entry.kind] + entry.link.encode().ljust(_NAME, b"\0") + _USTAR
    checksum = sum(head) + sum(_NO_CHECKSUM) + sum(rest)
    return b"%b%06o\0 %b" % (head, checksum, rest)


def _is_plain(entry: Entry, name: str, size: int, mtime: int) -> bool:
    return (
        len(name) <= _NAME
        and len(entry.link) <= _NAME
        and name.isascii()
        and entry.link.isascii()
        and size <= _MAX_SIZE
        and 0 <= mtime <= _MAX_SIZE
        and max(entry.uid, entry.gid) <= _MAX_ID
    )


def _pax_header(entry: Entry, size: int, mtime: int) -> bytes:
    info = tarfile.TarInfo(entry.path)
    info.type = _TYPES[entry.kind]
    info.mode, info.uid, info.gid = entry.mode, entry.uid, entry.gid
    info.size = size
    info.linkname = entry.link
    info.mtime = mtime
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
