"""Reading a framework's version from the files of an image, as each of its releases states it."""

from __future__ import annotations

from typing import cast

import pytest

from wheelyard.errors import InspectError
from wheelyard.images.inspect.inspect import framework_version
from wheelyard.images.inspect.tree import Tree

HEADER = "tensorflow/include/tensorflow/core/public/version.h"
PACKAGE = "tensorflow/tools/pip_package/setup.py"


class Files:
    """Text by path, as far as a tree is asked for it."""

    def __init__(self, files: dict[str, str]) -> None:
        self.files = files

    def text(self, path: str) -> str:
        return self.files[path.removeprefix("site/")]


def version(name: str, files: dict[str, str]) -> str:
    return framework_version(name, cast(Tree, Files(files)), "site")


@pytest.mark.parametrize(
    ("name", "files", "expected"),
    [
        ("pytorch", {"torch/version.py": "__version__ = '2.3.1+cu121'\n"}, "2.3.1"),
        (
            "tensorflow",
            {HEADER: "".join(f"#define TF_{part}_VERSION {number}\n" for part, number in
                             (("MAJOR", 2), ("MINOR", 15), ("PATCH", 1)))},
            "2.15.1",
        ),
        (
            "tensorflow",  # 2.21: the compiler's command line says it, and no header any more
            {HEADER: "#define TF_GRAPH_DEF_VERSION 2\n", PACKAGE: "x = 1\n_VERSION = '2.21.0'\n"},
            "2.21.0",
        ),
        ("jax", {"jax/version.py": '_version = "0.12.0.1"\n'}, "0.12.0.1"),
    ],
)  # fmt: skip
def test_each_release_says_its_version(name: str, files: dict[str, str], expected: str) -> None:
    assert version(name, files) == expected


def test_a_file_that_says_nothing_is_an_error() -> None:
    with pytest.raises(InspectError, match="does not state a version"):
        version("tensorflow", {HEADER: "", PACKAGE: "nothing"})
