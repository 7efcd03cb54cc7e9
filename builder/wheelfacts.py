"""Read a framework release's facts from its wheel over HTTP ranges: megabytes, not gigabytes.

    python -m builder.wheelfacts pytorch torch 2.15.0 2.16.0

adds those releases to the data file. It is the only writer of `data/upstream.json`.
"""

from __future__ import annotations

import io
import re
import ssl
import sys
import tomllib
import zipfile
from collections.abc import Iterable, Iterator
from email.parser import Parser

import httpx
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from builder.errors import FetchError
from builder.subprocesses import run
from builder.textfiles import write_text
from builder.upstream import DATA, Release, Upstream, dump_upstream, load_upstream, make_release

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
    """A seekable read-only file behind a URL, read by HTTP range requests."""

    def __init__(self, url: str, client: httpx.Client) -> None:
        self._url, self._client, self._at = url, client, 0
        self._size = int(client.head(url).raise_for_status().headers["content-length"])

    def readable(self) -> bool:  # noqa: D102
        return True

    def seekable(self) -> bool:  # noqa: D102
        return True

    def tell(self) -> int:  # noqa: D102
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:  # noqa: D102
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = origin + offset
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill `buffer` from the current offset; FetchError if the server ignores ranges."""
        length = min(len(buffer), self._size - self._at)
        if length <= 0:
            return 0
        span = {"Range": f"bytes={self._at}-{self._at + length - 1}"}
        with self._client.stream("GET", self._url, headers=span) as response:
            if response.status_code != httpx.codes.PARTIAL_CONTENT:
                raise FetchError(f"{self._url}: no byte ranges ({response.status_code})")
            content = response.read()
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)


def wheel_urls(distribution: str, version: str, python: str) -> list[str]:
    """Ask uv for the wheels of one release for one Python; empty when there is none."""
    name = Requirement(distribution).name
    argv = (
        "uv", "pip", "compile", "--no-config", "--no-python-downloads", "--no-deps", "--quiet",
        "--python-version", python, "--python-platform", PLATFORM, "--only-binary", ":all:",
        "--format", "pylock.toml", "-",
    )  # fmt: skip
    result = run(argv, error=None, stdin=f"{name}=={version}\n")
    if result.returncode != 0:
        if "No solution found" in result.stderr:
            return []
        raise FetchError(f"uv cannot look up {name}=={version}:\n{result.tail}")
    packages = tomllib.loads(result.stdout).get("packages", [])
    return [wheel["url"] for package in packages for wheel in package.get("wheels", [])]


def read_release(
    distribution: str, version: str, client: httpx.Client, pythons: Iterable[str] = PYTHONS
) -> Release:
    """Read one release's facts; FetchError when it has no Linux x86-64 wheel."""
    found = {python: wheel_urls(distribution, version, python) for python in pythons}
    shipped = {python: urls for python, urls in found.items() if urls}
    if not shipped:
        raise FetchError(f"{distribution}=={version} has no wheel for Linux x86-64")
    # The oldest framework wheels differ by Python in nothing but markers; 3.11 is in all of them.
    url = max(shipped.get("3.11") or next(iter(shipped.values())), key=_build_tag)
    stream = io.BufferedReader(RemoteFile(url, client), _CHUNK)
    with zipfile.ZipFile(stream) as wheel:
        cuda, requires = _build_cuda(wheel), dict(_requires(wheel, Requirement(distribution)))
    return make_release(version, _filename(url), cuda, shipped, requires)


def refresh(upstream: Upstream, name: str, distribution: str, versions: Iterable[str]) -> Upstream:
    """Return the facts with the named releases read anew."""
    with httpx.Client(
        verify=ssl.create_default_context(), follow_redirects=True, timeout=60
    ) as client:
        read = {version: read_release(distribution, version, client) for version in versions}
    return {**upstream, name: {**upstream.get(name, {}), **read}}


def _filename(url: str) -> str:
    return url.split("#")[0].rsplit("/", 1)[-1]


def _build_tag(url: str) -> tuple[int, str] | tuple[()]:
    """One version may exist in several builds; installers prefer the highest build tag."""
    return parse_wheel_filename(_filename(url))[2]


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
        if _KEPT.fullmatch(requirement.name) and _holds(requirement, wanted.extras):
            yield canonicalize_name(requirement.name), str(requirement.specifier)


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
    write_text(DATA, dump_upstream(refresh(upstream, name, distribution, versions)))


if __name__ == "__main__":
    main()
