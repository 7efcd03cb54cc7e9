"""Versions compared component by component, the way people write them in tags."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from packaging.specifiers import SpecifierSet
from packaging.version import Version

_FAR = "999999"  # a component no release reaches: the upper end of "12.1.*"


def leads(asked: str, actual: str) -> bool:
    """Tell whether `asked` is `actual` or its first components: 8.9 leads 8.9.2.26, not 8.90."""
    return f"{actual}.".startswith(f"{asked}.")


@cache
def overlaps(asked: str, specifiers: str) -> bool:
    """Tell whether some version that starts with `asked` satisfies the PEP 440 `specifiers`.

    A range is met by its ends or by a bound inside the range of `asked`, so those are tried.
    """
    wanted = SpecifierSet(specifiers)
    bounds = [spec.version.removesuffix(".*") for spec in wanted]
    inside = [bound for bound in bounds if leads(asked, bound)]
    tried = (asked, f"{asked}.{_FAR}", *inside, *(f"{bound}.{_FAR}" for bound in inside))
    return any(wanted.contains(version, prereleases=True) for version in tried)


def is_exact(specifiers: str) -> bool:
    """Tell whether the specifiers are `==1.2.3`: one version, no range and no wildcard."""
    return re.fullmatch(r"==[^,*]+", specifiers) is not None


def short(version: str, components: int = 2) -> str:
    """Return the first components of a version: 8.9.2.26 is cuDNN 8.9 to its users."""
    return ".".join(version.split(".")[:components])


@cache
def order(version: str) -> Version:
    """Return the sort key of a version; the cache makes thousands of comparisons cheap."""
    return Version(version)


def in_order(words: Iterable[str]) -> list[str]:
    """Sort words with the numbers in them as numbers: py3.9 before py3.11."""
    return sorted(
        words, key=lambda word: [int(x) if x.isdecimal() else x for x in re.split(r"(\d+)", word)]
    )
