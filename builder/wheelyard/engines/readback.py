"""Reads back the files of an image that an engine built, through a container of it."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from wheelyard.engines.docker import engine_errors
from wheelyard.errors import EngineError, InspectError, unreadable
from wheelyard.layers.toc import LARGEST, Entry
from wheelyard.layers.whiteout import hidden, is_whiteout
from wheelyard.system.rootfolder import entry_path
from wheelyard.system.tarfiles import KINDS, open_gzip, open_tar

if TYPE_CHECKING:
    from docker import DockerClient

_KINDS = {"f": "file", "d": "dir", "l": "symlink"}
_GZIP = b"\x1f\x8b"
_FIELDS = ("%y", "%m", "%U", "%G", "%s", "%P", "%l")  # of `find -printf`, as `listed` reads them
LISTING = "".join(rf"{field}\0" for field in _FIELDS)  # no name contains a NUL
# What inspection reads in addition: fetched together, because single calls would be slow.
_READ = ("METADATA", "version.py", "version.h", "build_info.py", "passwd", "group")
_READ_ENDINGS = ("cuda_runtime_api.h", "cudnn_version.h", "nccl.h")


class ListedTree:
    """Path -> entry, as in `wheelyard.images.inspect.tree.Tree`; some contents are in memory."""

    layers = ()  # an engine's own layers contain what it unpacked

    def __init__(
        self,
        entries: Iterable[Entry],
        contents: Mapping[str, bytes],
        fetch: Callable[[Sequence[str]], Mapping[str, bytes]],
    ) -> None:
        self._entries = {entry.path: entry for entry in entries}
        self._contents, self._fetch = dict(contents), fetch

    def __contains__(self, path: str) -> bool:
        return path in self._entries

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def entry(self, path: str) -> Entry:
        """Return the entry at `path`; InspectError if there is none."""
        try:
            return self._entries[path]
        except KeyError:
            raise InspectError(f"the image has no /{path}") from None

    def read(self, path: str) -> bytes:
        """Return the content of the file at `path`."""
        self.entry(path)
        if path not in self._contents:
            self._contents.update(self._fetch([path]))
        return self._contents[path]

    def text(self, path: str) -> str:
        """Return the content of the file at `path` as UTF-8."""
        return self.read(path).decode("utf-8", "replace")


def read_image(client: DockerClient, image: str) -> ListedTree:
    """Return the files of an image; EngineError if no container of it can be run."""

    def fetch(paths: Sequence[str]) -> dict[str, bytes]:
        command = ["tar", "--create", "--directory=/", "--dereference", *paths]
        archive = run_once(client, image, command)
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            files = ((info.name, tar.extractfile(info)) for info in tar)
            return {name: file.read() for name, file in files if file is not None}

    command = ["find", "/", "-xdev", "-mindepth", "1", "-printf", LISTING]
    entries = list(listed(run_once(client, image, command)))
    return ListedTree(entries, fetch([x.path for x in entries if _is_read(x.path)]), fetch)


def read_layers(blobs: Sequence[Path]) -> ListedTree:
    """Return the files of an image, merged from its layers (tars, compressed or not)."""
    entries: dict[str, Entry] = {}
    contents: dict[str, bytes] = {}
    for blob in blobs:
        with (
            unreadable(partial(_no_layer, blob)),
            _unpacked(blob) as stream,
            open_tar(stream, "r|") as tar,
        ):
            layer: dict[str, Entry] = {}
            new: dict[str, bytes] = {}
            for info in tar:
                _take(info, tar, layer, new)
        below = {path: entry.kind for path, entry in entries.items()}
        for path in hidden(below, ((path, entry.kind) for path, entry in layer.items())):
            del entries[path]
        entries |= {path: entry for path, entry in layer.items() if not is_whiteout(path)}
        contents |= new

    def fetch(paths: Sequence[str]) -> dict[str, bytes]:
        raise InspectError(f"/{paths[0]} was not kept when the layers were read")

    return ListedTree(entries.values(), contents, fetch)


def _no_layer(blob: Path, why: str) -> InspectError:
    return InspectError(f"{blob}: the layer cannot be read ({why})")


def _unpacked(blob: Path) -> AbstractContextManager[BinaryIO]:
    """Open a layer's tar; tarfile's own stream reader supports only gzip files of one member."""
    with blob.open("rb") as file:
        is_gzip = file.read(len(_GZIP)) == _GZIP
    return open_gzip(blob) if is_gzip else blob.open("rb")


def _take(
    info: tarfile.TarInfo,
    tar: tarfile.TarFile,
    entries: dict[str, Entry],
    contents: dict[str, bytes],
) -> None:
    path = entry_path(info.name)
    kind = KINDS.get(info.type)
    if path and kind:
        mode, link = info.mode, info.linkname
        entries[path] = Entry(path, kind, mode, info.uid, info.gid, info.size, link)
        if _is_read(path) and info.size > LARGEST:
            raise InspectError(f"/{path[:200]} of the image has {info.size:,} bytes; refused")
        if _is_read(path) and (file := tar.extractfile(info) if info.isreg() else None):
            contents[path] = file.read()


def run_once(
    client: DockerClient,
    image: str,
    command: list[str],
    *,
    network: str = "none",
    hosts: dict[str, str] | None = None,
) -> bytes:
    """Run a command in a new container as root and return its output; remove the container.

    Raises EngineError if it fails.
    """
    api: Any = client.api  # low level: a log driver would not keep bytes as they are
    with engine_errors(f"cannot run `{command[0]}` in a container of {image}"):
        container = api.create_container(
            image,
            command[1:],
            entrypoint=command[:1],
            user="0",
            host_config=api.create_host_config(network_mode=network, extra_hosts=hosts or {}),
        )["Id"]
        try:
            stream = api.attach(container, stdout=True, stderr=True, stream=True, demux=True)
            api.start(container)
            pieces = list(stream)
            code = int(api.wait(container)["StatusCode"])
        finally:
            api.remove_container(container, force=True)
    if code != 0:
        said = b"".join(err for _out, err in pieces if err).decode("utf-8", "replace").strip()
        raise EngineError(f"`{command[0]}` failed in a container of {image}: {said}")
    return b"".join(out for out, _err in pieces if out)


def _is_read(path: str) -> bool:
    return path.rpartition("/")[2] in _READ or path.endswith(_READ_ENDINGS)


def listed(listing: bytes) -> Iterator[Entry]:
    """Parse the output of `find -printf` in the format LISTING."""
    values = listing.decode("utf-8", "surrogateescape").split("\0")
    for at in range(0, len(values) - 1, len(_FIELDS)):
        kind, mode, uid, gid, size, path, link = values[at : at + len(_FIELDS)]
        if kind in _KINDS:
            yield Entry(path, _KINDS[kind], int(mode, 8), int(uid), int(gid), int(size), link)
