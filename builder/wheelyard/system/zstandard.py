"""Zstandard as the standard library has it from Python 3.14 on; before that by its backport."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wheelyard.errors import ToolMissingError

if TYPE_CHECKING:
    from collections.abc import Callable


def compressor(level: int) -> tuple[Callable[[bytes], bytes], Callable[[], bytes]]:
    """What packs a stream piece by piece, and what ends it; ToolMissingError without the extra.

    One thread packs one stream: the result depends on the level and on libzstd's version alone.
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
