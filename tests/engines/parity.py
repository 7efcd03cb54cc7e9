"""Two images compared path by path; what may differ stands here, and nowhere else."""

from __future__ import annotations

import hashlib
import marshal
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docker import DockerClient

_KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.DIRTYPE: "dir",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "file",  # which of two names holds the bytes is the engine's choice
    tarfile.CHRTYPE: "device",
}
CONFIG = (
    "Env", "User", "Entrypoint", "Cmd", "WorkingDir", "Labels", "StopSignal", "Healthcheck",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Node:
    """What has to be the same: everything but the time."""

    kind: str
    mode: int
    uid: int
    gid: int
    digest: str  # of a file's content; a link's target
    content: bytes | None  # kept where an exception looks into it


@dataclass(frozen=True, slots=True)
class Exception_:  # noqa: N801
    """Paths that may differ: only so that `same` still holds, and for this reason."""

    pattern: re.Pattern[str]
    same: Callable[[Node | None, Node | None], bool]
    reason: str


def _contents(check: Callable[[bytes, bytes], bool]) -> Callable[[Node | None, Node | None], bool]:
    """Both are files with the same rights, and their contents pass the check."""

    def same(one: Node | None, two: Node | None) -> bool:
        if one is None or two is None or one.content is None or two.content is None:
            return False
        rights = [(n.kind, n.mode, n.uid, n.gid) for n in (one, two)]
        return rights[0] == rights[1] and check(one.content, two.content)

    return same


def _same_code(one: bytes, two: bytes) -> bool:
    """The same header (flags and source hash, PEP 552) and the same code."""
    return one[:16] == two[:16] and marshal.loads(one[16:]) == marshal.loads(two[16:])


def _same_records(one: bytes, two: bytes) -> bool:
    """The same lines, but for scripts and for what each installer notes about itself."""
    return _records(one) == _records(two)


def _records(content: bytes) -> list[str]:
    """Path and hash of each line; a size, which not every wheel states, says no more."""
    lines = content.decode().splitlines()
    own = re.compile(r"[^,]*\.dist-info/(INSTALLER|REQUESTED|RECORD),.*|\.\./\.\./\.\./bin/.*")
    return sorted(line.rpartition(",")[0] for line in lines if not own.fullmatch(line))


def _same_record_files(one: Node | None, two: Node | None) -> bool:
    """The same lines, whatever the execute bits."""
    both = [node and replace(node, mode=node.mode & ~0o111) for node in (one, two)]
    return _contents(_same_records)(*both)


def _same_call(one: bytes, two: bytes) -> bool:
    """The same interpreter, import and call."""
    return _calls(one) == _calls(two)


def _calls(content: bytes) -> list[str]:
    call = re.compile(r"#!.*|from .* import .*|.*sys\.exit\(.*\)")
    return [line.strip() for line in content.decode().splitlines() if call.fullmatch(line)]


def _anything(_one: Node | None, _two: Node | None) -> bool:
    return True


def _empty_folder(one: Node | None, two: Node | None) -> bool:
    """There in one of the images; that nothing is in it, the other paths show."""
    return {None, "dir"} == {node.kind if node else None for node in (one, two)}


_SITE = r"opt/venv/lib/python3\.\d+/site-packages"
EXCEPTIONS = (
    Exception_(
        re.compile(rf"{_SITE}/[^/]*\.dist-info/(INSTALLER|REQUESTED)"),
        _anything,
        "each installer signs with its name, and uv notes that a wheel was asked for",
    ),
    Exception_(
        re.compile(rf"{_SITE}/[^/]*\.dist-info/RECORD"),
        _same_record_files,
        "RECORD lists these two, and the scripts below; uv keeps the rights that a wheel gives it",
    ),
    Exception_(
        re.compile(r"opt/venv/bin/[^/]*"),
        _contents(_same_call),
        "uv and PyPA's installer write an entry point's script in other words",
    ),
    Exception_(
        re.compile(rf"{_SITE}/.*\.pyc"),
        _contents(_same_code),
        "the same code may be written with other references between its constants",
    ),
    Exception_(
        re.compile(rf"{_SITE}/[^/]*\.libs"),
        _empty_folder,
        "uv makes a folder that a wheel lists and puts nothing into",
    ),
)


def read_tree(client: DockerClient, image: str) -> dict[str, Node]:
    """Every path of an image, as a container of it would have it; nothing is run."""
    api: Any = client.api
    container = api.create_container(image, ["true"])["Id"]
    try:
        stream: Any = _Stream(api.export(container))  # all that tarfile asks of a file here
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            return _links_resolved(dict(_nodes(tar)))
    finally:
        api.remove_container(container)


class _Stream:
    """Chunks as a file that tarfile reads from."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._rest = iter(chunks), b""

    def read(self, size: int) -> bytes:
        pieces, wanted = [], size
        while wanted:
            if not self._rest:
                self._rest = next(self._chunks, b"")
                if not self._rest:
                    break
            piece, self._rest = self._rest[:wanted], self._rest[wanted:]
            pieces.append(piece)
            wanted -= len(piece)
        return b"".join(pieces)


def _nodes(tar: tarfile.TarFile) -> Iterator[tuple[str, Node]]:
    for info in tar:
        path, content, digest = info.name.strip("/"), None, info.linkname
        file = tar.extractfile(info) if info.isreg() else None
        if file is not None and any(x.pattern.fullmatch(path) for x in EXCEPTIONS):
            content = file.read()
            digest = hashlib.sha256(content).hexdigest()
        elif file is not None:
            digest = _digest(file)
        kind = _KINDS.get(info.type, "other")
        yield path, Node(kind, info.mode, info.uid, info.gid, digest, content)


def _digest(file: IO[bytes]) -> str:
    found = hashlib.sha256()
    while chunk := file.read(1 << 20):
        found.update(chunk)
    return found.hexdigest()


def _links_resolved(nodes: dict[str, Node]) -> dict[str, Node]:
    """Hard links as the files that they are."""
    return {
        path: nodes.get(node.digest, node) if node.kind == "file" and "/" in node.digest else node
        for path, node in nodes.items()
    }


def differences(one: Mapping[str, Node], two: Mapping[str, Node]) -> list[str]:
    """Paths that differ without an exception's leave."""
    return [
        f"{path}: {_shown(one.get(path))} / {_shown(two.get(path))}"
        for path in sorted(one.keys() | two.keys())
        if not _is_same(path, one.get(path), two.get(path))
    ]


def _is_same(path: str, one: Node | None, two: Node | None) -> bool:
    if one == two:
        return True
    return any(x.pattern.fullmatch(path) and x.same(one, two) for x in EXCEPTIONS)


def _shown(node: Node | None) -> str:
    if node is None:
        return "not there"
    return f"{node.kind} {node.mode:o} {node.uid}:{node.gid} {node.digest[:12]}"


def read_config(client: DockerClient, image: str) -> dict[str, Any]:
    """What a container of the image starts with."""
    api: Any = client.api
    config: dict[str, Any] = api.inspect_image(image)["Config"]
    return {name: config[name] for name in CONFIG}
