"""The licences that an image's parts declare, in their own words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

if TYPE_CHECKING:
    from wheelyard.images.inspect.tree import Tree

_LARGEST = 1 << 20  # bytes of a copyright file that is read
_LONGEST = 100  # letters of a licence's name; more is its text
_MOST = 30  # names that a package states
_HOPS = 4  # from one package's folder to that of another
_STATED = re.compile(r"^License:[ \t]*(\S[^\n]*)$", re.MULTILINE)
_COMMON = re.compile(r"/usr/share/common-licenses/([A-Za-z0-9.+-]*[A-Za-z0-9+])")
_NOTHING = ("", "UNKNOWN", "None")


@dataclass(frozen=True, slots=True)
class Licence:
    """An SPDX expression, or names in free form; empty if nothing is stated."""

    names: tuple[str, ...] = ()
    is_expression: bool = False

    def __str__(self) -> str:
        return ", ".join(self.names)


WHEEL, DEB = "pypi", "deb"  # the types of their purls
Licences = Mapping[tuple[str, str], Licence]  # by the type and name of a part


def wheel_licence(expression: str | None, classifiers: Iterable[str], text: str | None) -> Licence:
    """Read a wheel's METADATA: License-Expression, else classifiers, else a License of a line."""
    if expression:
        try:
            return Licence((str(canonicalize_license_expression(expression)),), is_expression=True)
        except InvalidLicenseExpression:
            return Licence(_names([expression]))
    parts = (one.split(" :: ") for one in classifiers if one.startswith("License :: "))
    named = [part[-1] for part in parts if part[1:] != ["OSI Approved"]]
    return Licence(_names(named or [text or ""]))


def package_licences(tree: Tree, packages: Iterable[str]) -> dict[str, Licence]:
    """Read the `copyright` files of an image's Debian packages."""
    licences = {}
    for name in packages:
        if (path := _copyright(tree, name)) is not None:
            licences[name] = package_licence(tree.text(path))
    return licences


def package_licence(text: str) -> Licence:
    """Read a copyright file: its License fields (DEP 5), else the common licences it cites."""
    stated = _STATED.findall(text) if text.lstrip().startswith("Format:") else ()
    return Licence(_names(stated or _COMMON.findall(text)))


def _copyright(tree: Tree, package: str) -> str | None:
    """Return the path of a package's file, which may be in the folder of another package."""
    folder = f"usr/share/doc/{package}"
    for _ in range(_HOPS):
        if folder not in tree or tree.entry(folder).kind != "symlink":
            break
        folder = f"usr/share/doc/{tree.entry(folder).link.rpartition('/')[2]}"
    path = f"{folder}/copyright"
    if path not in tree:
        return None
    entry = tree.entry(path)
    return path if entry.kind == "file" and entry.size <= _LARGEST else None


def _names(texts: Sequence[str]) -> tuple[str, ...]:
    words = (" ".join(text.split()) for text in texts)
    kept = (word for word in words if word not in _NOTHING and len(word) <= _LONGEST)
    return tuple(dict.fromkeys(kept))[:_MOST]
