"""pylock.toml (PEP 751), as far as uv's answers need it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.utils import canonicalize_name

from wheelyard.errors import LockError


@dataclass(frozen=True, slots=True)
class WheelFile:
    """One wheel that an index offers for a version."""

    url: str
    filename: str
    sha256: str  # hex
    size: int | None  # bytes; None: the index does not say
    uploaded: datetime | None = None  # by the index's word


@dataclass(frozen=True, slots=True)
class Resolved:
    """One distribution of a resolution, with the wheels that the index has for it."""

    name: str  # normalized
    version: str
    wheels: tuple[WheelFile, ...]


def parse_pylock(text: str) -> tuple[Resolved, ...]:
    """Read uv's answer; raises LockError for anything that is not a hashed wheel of an index."""
    return tuple(_resolved(package) for package in tomllib.loads(text).get("packages", ()))


def preferences_pylock(pins: Mapping[str, str]) -> str:
    """Return a pylock.toml that says no more than name and version: what uv tries first."""
    head = 'lock-version = "1.0"\ncreated-by = "wheelyard"\n'
    return head + "".join(
        f'\n[[packages]]\nname = "{name}"\nversion = "{version}"\n'
        for name, version in sorted(pins.items())
    )


def _resolved(package: Mapping[str, Any]) -> Resolved:
    name = canonicalize_name(package["name"])
    wheels = tuple(_wheel(wheel, name) for wheel in package.get("wheels", ()))
    if not wheels or "version" not in package:
        raise LockError(
            f"{name}: the index has no wheel for it; images are made of wheels alone,"
            " so constrain it to a version that has one"
        )
    return Resolved(name, package["version"], wheels)


def _wheel(wheel: Mapping[str, Any], name: str) -> WheelFile:
    url = wheel.get("url") or PurePosixPath(wheel["path"]).as_uri()
    filename = wheel.get("name") or unquote(urlsplit(url).path).rpartition("/")[2]
    sha256 = wheel.get("hashes", {}).get("sha256")
    if sha256 is None:
        raise LockError(
            f"{name}: the index gives no SHA-256 for {filename};"
            " use an index that does (--index-url)"
        )
    uploaded = wheel.get("upload-time")
    if not isinstance(uploaded, datetime) or uploaded.tzinfo is None:
        uploaded = None
    return WheelFile(url, filename, sha256, wheel.get("size"), uploaded)
