"""Uploads one blob to a repository: mounted from a sibling, or sent in resumable pieces."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from wheelyard.console.tasks import Task
from wheelyard.errors import RegistryError, StorageError
from wheelyard.fetching.replies import Gone, Interrupted, Refused
from wheelyard.registry.client import Registry, ask, has_blob, send, wait
from wheelyard.registry.replies import DigestRefused
from wheelyard.system.filelock import locked
from wheelyard.system.storage import damaged, file_digest
from wheelyard.system.textfiles import write_text
from wheelyard.system.threads import Stopped

PIECE = 64 << 20  # bytes of one request
SMALLEST = 4 << 20  # bytes, on a line that loses larger pieces
_READ = 1 << 18
_RANGE = re.compile(r"(?:bytes=)?0-(\d+)")
_OCTETS = "application/octet-stream"
_KEPT = "; complete blobs stay there, and the next run continues"


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob of a layout, and the path of its bytes."""

    digest: str
    size: int  # bytes
    path: Path


class _WrongBytes(Interrupted):
    """The registry received other bytes than were sent: the upload must be discarded."""


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload that a registry has begun: its location, and the bytes received so far."""

    location: httpx.URL
    offset: int = 0


def mount(
    registry: Registry, repository: str, blob: Blob, others: tuple[str, ...]
) -> Upload | None:
    """Mount the blob from one of the repositories `others` that has it.

    Returns None if the blob is there now, or an Upload if it must be sent, because no repository
    has it or the registry does not mount. Raises RegistryError.
    """
    for other in others:
        try:
            if other == repository or not has_blob(registry, other, blob.digest, blob.size):
                continue
        except RegistryError:  # a repository that this login may not read
            continue
        return _begin(registry, repository, {"mount": blob.digest, "from": other})
    return _begin(registry, repository, {})


def _begin(registry: Registry, repository: str, params: dict[str, str]) -> Upload | None:
    url = httpx.URL(registry.url(repository, "blobs/uploads/"), params=params)
    headers = {"Content-Length": "0"}
    try:
        response = ask(registry, "POST", url, ok=(201, 202), headers=headers)
    except Gone as error:
        raise RegistryError(f"{registry.address}: {repository}: {error}") from error
    if response.status_code == httpx.codes.CREATED:
        return None
    return Upload(upload_location(response))


def send_blob(
    registry: Registry, repository: str, blob: Blob, begun: Upload | None, notes: Path, task: Task
) -> None:
    """Send the missing part of `blob`, continuing where an earlier call stopped.

    `notes` is the folder with the notes of unfinished uploads. Raises RegistryError, StorageError
    for a blob that is damaged here, and Stopped.
    """
    _require_whole(blob)
    note = _note_path(notes, registry, repository, blob)
    note.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    meter = _Meter(task)

    def on_wait() -> None:
        if registry.stop.is_set():
            raise Stopped

    with locked(note.with_suffix(".lock"), on_wait):
        # Ask again: another process may have sent it since.
        if not has_blob(registry, repository, blob.digest, blob.size):
            try:
                _send(registry, repository, blob, _recall(registry, note) or begun, note, meter)
            except Refused as error:
                note.unlink(missing_ok=True)
                raise RegistryError(f"{registry.address}: {repository}: {error}") from error
        meter.show(blob.size)
        note.unlink(missing_ok=True)


def _send(
    registry: Registry,
    repository: str,
    blob: Blob,
    upload: Upload | None,
    note: Path,
    meter: _Meter,
) -> None:
    """Send pieces until the registry has everything; raise Refused, and as `send_blob` does."""
    failures, furthest, piece = 0, 0, PIECE
    while True:
        try:
            upload = upload or _begin(registry, repository, {})
            upload = upload and _step(registry, blob, upload, piece, meter)
            if upload is None:
                return
            _remember(note, upload)
            # Only progress counts: a registry that forgets takes the same bytes for ever.
            failures = 0 if upload.offset > furthest else failures
            furthest = max(furthest, upload.offset)
        except Interrupted as error:
            failures += 1
            wait(registry, error, failures, _KEPT)
            if has_blob(registry, repository, blob.digest, blob.size):
                return  # only the answer was lost
            if upload is not None:
                wrong = isinstance(error, _WrongBytes)
                upload = None if wrong else _where(registry, upload)
            piece = max(SMALLEST, piece // 2)


def _step(
    registry: Registry, blob: Blob, upload: Upload, piece: int, meter: _Meter
) -> Upload | None:
    """Send one piece; return None if it was the last one and the registry confirms the digest."""
    left = blob.size - upload.offset
    if left == 0 or (upload.offset == 0 and left <= piece):
        _finish(registry, blob, upload, _Piece(registry, blob, upload.offset, left, meter))
        return None
    body = _Piece(registry, blob, upload.offset, min(left, piece), meter)
    headers = {
        "Content-Type": _OCTETS,
        "Content-Length": str(body.length),
        "Content-Range": f"{upload.offset}-{upload.offset + body.length - 1}",
    }
    try:
        sent = send(
            registry, "PATCH", upload.location, ok=(202, 204), headers=headers, content=body
        )
    except Gone as error:
        raise Interrupted(f"the registry no longer knows the upload: {error}") from error
    return replace(upload, location=upload_location(sent), offset=upload.offset + body.length)


def _finish(registry: Registry, blob: Blob, upload: Upload, piece: _Piece) -> None:
    url = upload.location.copy_merge_params({"digest": blob.digest})
    headers = {"Content-Type": _OCTETS, "Content-Length": str(piece.length)}
    try:
        send(registry, "PUT", url, ok=(201, 204), headers=headers, content=piece)
    except Gone as error:
        raise Interrupted(f"the registry no longer knows the upload: {error}") from error
    except DigestRefused as error:
        if file_digest(blob.path) != blob.digest:
            raise damaged(blob.path, "and the registry refused it") from error
        raise _WrongBytes(f"{error}: something on the way changed the bytes") from error


class _Meter:
    """The progress of one blob; it moves back when bytes were lost."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._shown = 0

    def show(self, position: int) -> None:
        self._task.advance(position - self._shown)
        self._shown = position


@dataclass(frozen=True, slots=True)
class _Piece:
    """Bytes of a blob as a request's body; iterated again if the request is repeated."""

    registry: Registry
    blob: Blob
    offset: int
    length: int
    meter: _Meter

    def __iter__(self) -> Iterator[bytes]:
        self.meter.show(self.offset)
        left = self.length
        with self.blob.path.open("rb") as file:
            file.seek(self.offset)
            while left and (data := file.read(min(_READ, left))):
                if self.registry.stop.is_set():
                    raise Stopped
                left -= len(data)
                yield data
                self.meter.show(self.offset + self.length - left)


def _require_whole(blob: Blob) -> None:
    try:
        size = blob.path.stat().st_size
    except FileNotFoundError:
        raise StorageError(f"{blob.path} is missing from the layout; build again") from None
    if size != blob.size:
        raise damaged(blob.path, f"{size:,} bytes instead of {blob.size:,}")


def upload_location(response: httpx.Response) -> httpx.URL:
    """Return where the upload continues; relative locations are allowed."""
    location = response.headers.get("Location")
    if not location:
        raise Refused("the registry did not say where to upload (no Location header)")
    url = response.request.url.join(location)
    if response.request.url.scheme == "https" != url.scheme:
        raise Refused("the registry wants the upload sent without TLS")
    return url


def _where(registry: Registry, upload: Upload) -> Upload | None:
    """Return the upload at the registry's offset; None if it must start again."""
    try:
        response = send(registry, "GET", upload.location, ok=(204,))
    except (Refused, Interrupted):
        return None
    match = _RANGE.fullmatch(response.headers.get("Range", ""))
    if match is None or response.headers.get("Location") is None:
        return None
    # An empty upload and one of a single byte look alike; no piece has one byte.
    offset = int(match[1]) + 1 if int(match[1]) else 0
    return replace(upload, location=upload_location(response), offset=offset)


def _note_path(notes: Path, registry: Registry, repository: str, blob: Blob) -> Path:
    """Return the path of the note about the upload of one blob into one repository."""
    what = f"{registry.address.url} {repository} {blob.digest}"
    return notes / f"{hashlib.sha256(what.encode()).hexdigest()}.json"


def _remember(note: Path, upload: Upload) -> None:
    write_text(note, json.dumps({"location": str(upload.location)}))


def _recall(registry: Registry, note: Path) -> Upload | None:
    """Return the upload that an ended process left behind, if the registry still has it."""
    try:
        location = httpx.URL(json.loads(note.read_text())["location"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, httpx.InvalidURL):
        return None
    return _where(registry, Upload(location))
