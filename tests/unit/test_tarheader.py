"""Headers are tarfile's, byte for byte."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wheelyard.layers.tarheader import EPOCH, tar_header
from wheelyard.layers.toc import Entry

_TYPES = {"file": b"0", "dir": b"5", "symlink": b"2", "hardlink": b"1"}
_names = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=120)


def reference(entry: Entry, mtime: int) -> bytes:
    info = tarfile.TarInfo(entry.path)
    info.type = _TYPES[entry.kind]
    info.mode, info.uid, info.gid, info.mtime = entry.mode, entry.uid, entry.gid, mtime
    info.size = entry.size if entry.kind == "file" else 0
    info.linkname = entry.link
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


@given(
    path=_names,
    kind=st.sampled_from(sorted(_TYPES)),
    mode=st.integers(0, 0o7777),
    ids=st.tuples(st.integers(0, 3_000_000), st.integers(0, 3_000_000)),
    size=st.integers(0, 1 << 35),
    link=st.one_of(st.just(""), _names),
    mtime=st.integers(0, 1 << 34),
)
def test_any_entry(
    path: str, kind: str, mode: int, ids: tuple[int, int], size: int, link: str, mtime: int
) -> None:
    entry = Entry(path, kind, mode, *ids, size, link if "link" in kind else "")
    assert tar_header(entry, mtime) == reference(entry, mtime)


@pytest.mark.parametrize("length", [99, 100, 101, 155, 300])
@pytest.mark.parametrize("kind", ["file", "dir"])
def test_where_a_name_stops_to_fit(length: int, kind: str) -> None:
    entry = Entry("a/" + "b" * (length - 2), kind, 0o664, 0, 900)
    header = tar_header(entry)
    assert header == reference(entry, EPOCH)
    with tarfile.open(fileobj=io.BytesIO(header + bytes(1024))) as archive:
        assert archive.getnames() == [entry.path]
