"""The first thing in which two images differ, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from wheelyard.layers.toc import Entry
from wheelyard.publish.difference import Difference, Published, as_files, first_difference

FILE = Entry("opt/a.py", "file", 0o644, 0, 900, 10, crc=7)


def image(digest: str, *layers: str, user: str = "1000") -> Published:
    manifest = {"layers": [{"digest": layer} for layer in layers]}
    config = {
        "config": {"User": user},
        "rootfs": {"diff_ids": [f"tar of {layer}" for layer in layers]},
        "history": [{"created_by": f"wheelyard: part {at}"} for at in range(len(layers))],
    }
    return Published(digest, manifest, config)


def compare(
    theirs: Published,
    ours: Published,
    their_files: Sequence[Entry] = (FILE,),
    our_files: Sequence[Entry] = (FILE,),
) -> Difference | None:
    return first_difference(theirs, ours, lambda _: their_files, lambda _: our_files)


def test_the_same_digest_is_the_same_image() -> None:
    assert compare(image("x", "a"), image("x", "a")) is None


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (replace(FILE, mode=0o755), "opt/a.py: mode 644, ours 755"),
        (replace(FILE, crc=8), "opt/a.py: the same size, other bytes"),
        (replace(FILE, size=11, crc=8), "opt/a.py: size 10, ours 11"),
        (replace(FILE, gid=0), "opt/a.py: gid 900, ours 0"),
        (replace(FILE, path="opt/b.py"), "opt/a.py: not in ours"),
    ],
)
def test_the_first_file_of_the_first_layer(changed: Entry, words: str) -> None:
    found = compare(image("x", "a", "b", "c"), image("y", "a", "B", "C"), [FILE], [changed])
    assert found == Difference("layer 1 (part 1)", "b", "B", words)


def test_the_same_tar_packed_in_another_way() -> None:
    theirs, ours = image("x", "a"), image("y", "A")
    same = Published(ours.digest, ours.manifest, theirs.config)
    found = compare(theirs, same)
    assert found is not None
    assert "compressed in another way" in str(found.file)


def test_more_layers() -> None:
    found = compare(image("x", "a", "b"), image("y", "a"))
    assert found == Difference("number of layers", "2", "1")


def test_the_config() -> None:
    found = compare(image("x", "a", user="0"), image("y", "a"))
    assert found == Difference("config.config.User", "0", "1000")


def test_another_packing_of_the_same_files() -> None:
    def packed(digest: str, *layers: str, config: str) -> Published:
        made = image(digest, *layers)
        made = replace(made, config={**made.config, "rootfs": {"diff_ids": ["tar of a"]}})
        return as_files(replace(made, manifest={**made.manifest, "config": {"digest": config}}))

    assert compare(packed("x", "a", config="c"), packed("y", "a as zstd", config="c")) is None
    found = compare(packed("x", "a", config="c"), replace(image("y", "b"), digest="d"))
    assert found is not None
    assert found.what == "layer 0 (part 0)"
