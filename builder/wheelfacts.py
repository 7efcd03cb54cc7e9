"""Read a framework release's facts from its wheel over HTTP ranges: megabytes, not gigabytes.

    python -m builder.wheelfacts pytorch torch 2.15.0 2.16.0

adds those releases to the data file. It is the only writer of `data/upstream.json`.
"""

from __future__ import annotations

import io
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator
from email.parser import Parser
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from builder.errors import FetchError, LockError
from builder.lock.uv import Question, ask
from builder.replies import Interrupted, Refused
from builder.settings import Settings, load_settings
from builder.textfiles import write_text
from builder.transport import make_client, open_body
from builder.upstream import DATA, Release, Upstream, dump_upstream, load_upstream, make_release
from builder.urls import redact

if TYPE_CHECKING:
    import httpx

PYTHONS = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14", "3.15")
PLATFORM = "x86_64-manylinux_2_36"
_CHUNK = 1 << 20  # bytes a request: a zip directory of torch is about 1 MB
_KEPT = re.compile(r"nvidia-.*|cuda-.*|triton")
# The file inside the wheel that says which CUDA the framework was compiled for.
_BUILD_FILES = {
    "torch/version.py": re.compile(r"^cuda\b[^=]*=\s*['\"]([\d.]+)['\"]", re.MULTILINE),
    "tensorflow/python/platform/build_info.py": re.compile(
        r"['\"]cuda_version['\"]\s*[,:]\s*['\"]([\d.]+)['\"]"
    ),
}


class RemoteFile(io.RawIOBase):
    """A seekable read-only file behind a URL; each read asks for the bytes from an offset on."""

    def __init__(self, url: str, client: httpx.Client) -> None:
        self._url, self._client, self._at = url, client, 0
        with open_body(client, url, 0) as body:
            if body.total is None:
                raise FetchError(f"{redact(url)}: the server does not say how big the file is")
            self._size = body.total

    def readable(self) -> bool:  # noqa: D102
        return True

    def seekable(self) -> bool:  # noqa: D102
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:  # noqa: D102
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = origin + offset
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill `buffer` from the current offset; FetchError if the server ignores ranges."""
        wanted = min(len(buffer), self._size - self._at)
        filled = 0
        if wanted <= 0:
            return 0
        with open_body(self._client, self._url, self._at) as body:
            if body.start != self._at:
                raise FetchError(f"{redact(self._url)}: the server ignores byte ranges")
            for chunk in body.chunks:
                part = chunk[: wanted - filled]
                buffer[filled : filled + len(part)] = part
                filled += len(part)
                if filled == wanted:
                    break
        self._at += filled
        return filled


def find_wheel(distribution: str, version: str, python: str, settings: Settings) -> str | None:
    """Return the URL of one release's wheel for one Python; None when there is none."""
    pin = f"{Requirement(distribution).name}=={version}"
    question = Question((pin,), python=python, platform=PLATFORM, dependencies=False)
    try:
        (found,) = ask(question, pin, settings)
    except LockError:  # no such release, or no wheel of it for this Python
        return None
    # One version may exist in several builds; installers prefer the highest build tag.
    return max(found.wheels, key=lambda wheel: parse_wheel_filename(wheel.filename)[2]).url


def read_release(
    distribution: str, version: str, settings: Settings, pythons: Iterable[str] = PYTHONS
) -> Release:
    """Read one release's facts; FetchError when it has no Linux x86-64 wheel."""
    found = {python: find_wheel(distribution, version, python, settings) for python in pythons}
    urls = {python: url for python, url in found.items() if url}
    if not urls:
        raise FetchError(f"{distribution}=={version} has no wheel for Linux x86-64")
    # Wheels of one release differ by Python in markers at most; nearly every release has 3.11.
    return read_wheel(
        urls.get("3.11") or next(iter(urls.values())), distribution, version, urls, settings
    )


def read_wheel(
    url: str, distribution: str, version: str, pythons: Iterable[str], settings: Settings
) -> Release:
    """Read one wheel's facts where it lies: its directory, its metadata and its version file."""
    wanted = Requirement(distribution)
    try:
        with make_client(settings) as client:
            stream = io.BufferedReader(RemoteFile(url, client), _CHUNK)
            with zipfile.ZipFile(stream) as wheel:
                cuda, requires = _build_cuda(wheel), dict(_requires(wheel, wanted))
    except (Refused, Interrupted, zipfile.BadZipFile) as problem:
        raise FetchError(f"cannot read {redact(url)}: {problem}") from problem
    filename = url.split("#")[0].rsplit("/", 1)[-1]
    try:
        return make_release(version, filename, cuda, pythons, requires)
    except ValueError as problem:
        raise FetchError(f"{filename}: {problem}") from problem


def refresh(
    upstream: Upstream, name: str, distribution: str, versions: Iterable[str], settings: Settings
) -> Upstream:
    """Return the facts with the named releases read anew."""
    read = {version: read_release(distribution, version, settings) for version in versions}
    return {**upstream, name: {**upstream.get(name, {}), **read}}


def _build_cuda(wheel: zipfile.ZipFile) -> str:
    for member in wheel.namelist():
        if pattern := _BUILD_FILES.get(member):
            found = pattern.search(wheel.read(member).decode())
            if found:
                return found[1]
    raise FetchError(f"{wheel.filename}: no file inside says which CUDA it was built for")


def _requires(wheel: zipfile.ZipFile, wanted: Requirement) -> Iterator[tuple[str, str]]:
    """Yield NVIDIA's and Triton's requirements that hold on Linux for the wanted extras."""
    member = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = Parser().parsestr(wheel.read(member).decode())
    for line in metadata.get_all("Requires-Dist", []):
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        if _KEPT.fullmatch(name) and _holds(requirement, wanted.extras):
            yield name, str(requirement.specifier)


def _holds(requirement: Requirement, extras: set[str]) -> bool:
    environment = {
        "platform_system": "Linux", "sys_platform": "linux", "platform_machine": "x86_64",
        "python_version": "3.11", "python_full_version": "3.11.0",
    }  # fmt: skip
    marker = requirement.marker
    return marker is None or any(
        marker.evaluate({**environment, "extra": extra}) for extra in ("", *extras)
    )


def main() -> None:
    """Read `NAME DISTRIBUTION VERSION...` from the command line into the data file."""
    name, distribution, *versions = sys.argv[1:]
    upstream = load_upstream() if DATA.exists() else {}
    write_text(
        DATA, dump_upstream(refresh(upstream, name, distribution, versions, load_settings({})))
    )


if __name__ == "__main__":
    main()
