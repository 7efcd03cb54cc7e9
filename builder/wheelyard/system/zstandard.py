"""Zstandard from the standard library (Python 3.14 and later) or from its backport."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wheelyard.errors import ToolMissingError

if TYPE_CHECKING:
    from collections.abc import Callable


def compressor(level: int) -> tuple[Callable[[bytes], bytes], Callable[[], bytes]]:
    """Return two functions: one compresses a stream piece by piece, one ends it.

    One thread compresses one stream: the result depends only on the level and libzstd's version.
    Raises ToolMissingError without the extra `zstd`.
    """
    packer = _library().ZstdCompressor(level=level)
    return packer.compress, packer.flush


def _library() -> Any:
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        try:
            from backports import zstd  # type: ignore[no-redef,unused-ignore]
        except ImportError as error:
            raise ToolMissingError(
                "zstd layers need the Python package backports.zstd: pip install 'wheelyard[zstd]'"
            ) from error
    return zstd
