"""Reading untrusted tar files, and gzip files of many members at the speed of ISA-L."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal

from isal import igzip

_LONGEST = 1 << 20  # bytes of a name, or of an entry's extended header: tarfile reads them whole
_EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class _TarInfo(tarfile.TarInfo):
    """An entry whose sizes are checked before they are used."""

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        if self.type in _EXTENDED and self.size > _LONGEST:
            raise tarfile.ReadError("an extended header is too long")
        return super()._proc_member(archive)  # type: ignore[misc]

    def _block(self, count: int) -> Any:
        if count < 0:  # CVE-2025-8194: would read the same entry for ever
            raise tarfile.ReadError("an entry has a negative size")
        return super()._block(count)  # type: ignore[misc]


KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.DIRTYPE: "dir",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "hardlink",
}  # as an entry of a layer names them


def open_tar(stream: Any, mode: Literal["r:", "r|", "r|*"], **more: int) -> tarfile.TarFile:
    """Open a tar (compressed only with `r|*`); reading raises tarfile.TarError if it is no tar."""
    return tarfile.open(fileobj=stream, mode=mode, tarinfo=_TarInfo, **more)  # type: ignore[call-overload,no-any-return]


@contextmanager
def open_gzip(path: Path) -> Iterator[BinaryIO]:
    """Open a gzip file and yield its content as a stream."""
    opened: Any = igzip.IGzipFile(path, "rb")  # type: ignore[no-untyped-call]
    with opened as stream:
        yield stream
