"""The files that an index lists for a project, by the simple API (PEP 503, 592, 691, 700)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from packaging.utils import (
    BuildTag,
    InvalidWheelFilename,
    parse_wheel_filename,
)
from packaging.version import Version

ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"  # noqa: E501
_JSON = ("application/vnd.pypi.simple.v1+json", "application/vnd.pypi.simple.latest+json")


@dataclass(frozen=True, slots=True)
class IndexFile:
    """One file of a project as its index lists it."""

    filename: str
    url: str
    sha256: str | None  # hex; None: the index does not say
    yanked: str | None  # the reason, "" for none given; None: not yanked
    uploaded: str | None  # ISO 8601 in UTC; None: the index does not say
    metadata: str | None  # sha256 (hex) of the wheel's METADATA, where the index says it
    requires_python: str | None = None  # as the index says it, unchecked


@dataclass(frozen=True, slots=True)
class WheelName:
    """The parts of a wheel's file name."""

    version: Version
    build: BuildTag
    pythons: frozenset[str]  # "cp311", with an ABI of the same name
    platforms: frozenset[str]  # "manylinux_2_28_x86_64"


def parse_listing(content_type: str, body: bytes, url: str) -> tuple[IndexFile, ...]:
    """Read a project's page; raise ValueError if it is not one."""
    if content_type in _JSON or content_type == "application/json":
        return tuple(_json_files(json.loads(body), url))
    if content_type not in ("text/html", "application/vnd.pypi.simple.v1+html"):
        raise ValueError(f"it is {content_type or 'of no stated type'}, not an index page")
    page = _Page(url)
    page.feed(body.decode("utf-8"))
    if not page.is_html:
        raise ValueError("it does not contain HTML")
    return tuple(page.files)


def wheel_name(filename: str) -> WheelName | None:
    """Parse a wheel's file name; None for other files and for invalid names."""
    try:
        _, version, build, tags = parse_wheel_filename(filename)
    except (InvalidWheelFilename, ValueError):
        return None
    pythons = frozenset(t.interpreter for t in tags if t.abi in (t.interpreter, "none", "abi3"))
    return WheelName(version, build, pythons, frozenset(tag.platform for tag in tags))


def _json_files(page: Any, url: str) -> Iterator[IndexFile]:
    if not isinstance(page, dict) or not isinstance(page.get("files"), list):
        raise ValueError("it does not contain a list of files")  # noqa: TRY004
    for file in page["files"]:
        try:
            yield _json_file(file, url)
        except (KeyError, TypeError, AttributeError) as problem:
            raise ValueError(f"an entry cannot be read ({problem})") from problem


def _json_file(file: Mapping[str, Any], url: str) -> IndexFile:
    yanked = file.get("yanked", False)
    stated = file.get("core-metadata", file.get("dist-info-metadata"))
    python = file.get("requires-python")
    return IndexFile(
        filename=str(file["filename"]),
        url=urljoin(url, file["url"]),
        sha256=file["hashes"].get("sha256"),
        yanked=yanked if isinstance(yanked, str) else ("" if yanked else None),
        uploaded=file.get("upload-time"),
        metadata=stated.get("sha256") if isinstance(stated, dict) else None,
        requires_python=python if isinstance(python, str) else None,
    )


class _Page(HTMLParser):
    """The anchors of a PEP 503 page."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url, self.files, self.is_html = url, list[IndexFile](), False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.is_html = True
        attributes = dict(attrs)
        if tag != "a" or not (href := attributes.get("href")):
            return
        url, fragment = urldefrag(urljoin(self.url, href))
        stated = (
            attributes.get("data-core-metadata", attributes.get("data-dist-info-metadata")) or ""
        )
        self.files.append(
            IndexFile(
                filename=unquote(urlsplit(url).path).rpartition("/")[2],
                url=url,
                sha256=_hash(fragment),
                yanked=(attributes["data-yanked"] or "") if "data-yanked" in attributes else None,
                uploaded=None,
                metadata=_hash(stated),
                requires_python=attributes.get("data-requires-python"),
            )
        )


def _hash(text: str) -> str | None:
    name, _, value = text.partition("=")
    return value if name == "sha256" else None
