"""Sends an image's layers to an engine before the image itself, in parts, lowest first.

An engine receives a load completely before it unpacks any of it. A part is a separate load, an
untagged image of the layers so far, so that the engine unpacks one part while the next is sent and
the layers above it are still made. What was sent before a build was interrupted is there for the
next one: layers that any image has are not sent again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from wheelyard.errors import EngineError
from wheelyard.oci.archive import ArchiveMember, classic_archive, json_member, shared_layers, stream
from wheelyard.system.threads import STOP_SECONDS, Helper

if TYPE_CHECKING:
    from wheelyard.layers.layer import Layer

    Send = Callable[[Iterator[bytes]], None]  # a load's tar; raises EngineError

PART = 256 << 20  # bytes of tars that are worth a request of their own
_REQUESTS = 2  # one that the engine unpacks, one that is sent
# Engines' messages about a layer that was removed together with its image.
_GONE = ("no such file", "not found")


PART_LABEL = "wheelyard.part"  # on images that only hold layers until the image itself is loaded


@dataclass(frozen=True, slots=True)
class ClassicStore:
    """How Docker's classic store takes parts, and what it has."""

    blobs: Path  # a layout's `blobs/sha256`
    images: Sequence[Sequence[str]]  # the diff_ids of every image the engine has
    inflate: bool  # tars are sent, not blobs

    def present(self, layers: Sequence[Layer]) -> int:
        """Count the lowest of these layers that the engine had when it was queried."""
        return shared_layers([layer.diff_id for layer in layers], self.images)

    def pack(self, layers: Sequence[Layer], omit: int) -> tuple[ArchiveMember, ...]:
        """Return the members of an untagged image of `layers`, without the `omit` lowest blobs.

        Raises StorageError when a blob is missing.
        """
        config: dict[str, Any] = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Labels": {PART_LABEL: "1"}},
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        }
        member = json_member("config.json", config)
        return classic_archive(self.blobs, layers, member, (), omit, inflate=self.inflate)


@dataclass(frozen=True, slots=True)
class _Part:
    """Layers that are sent in one request: the last ones of `layers`."""

    layers: tuple[Layer, ...]
    omit: int  # number of layers below it
    below: threading.Event  # the layers below it are in the engine
    done: threading.Event = field(default_factory=threading.Event)


def is_gone(error: Exception) -> bool:
    """Tell whether the engine lacked a layer that it had before."""
    return any(words in str(error) for words in _GONE)


class _StoppedError(Exception):
    """The rest of a part is no longer wanted."""


class Ahead(AbstractContextManager["Ahead"]):
    """Sends the layers that it is offered; leaving the context early stops it.

    `store` is how the engine takes parts, `least` the minimum size of one, in bytes of tars.
    """

    def __init__(self, store: ClassicStore, send: Send, *, least: int = PART) -> None:
        self._store, self._send, self._least = store, send, least
        self._layers: list[Layer] = []
        self._taken = 0  # number of layers in the engine or in a part
        self._complete = self._stopped = False
        self.sent = 0  # bytes
        self._error: BaseException | None = None
        self._last = threading.Event()
        self._last.set()
        self._changed = threading.Condition()
        self._threads = [
            Helper(self._work, f"ahead-{number}", self._give_up) for number in range(_REQUESTS)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        with self._changed:
            self._stopped = self._complete = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(STOP_SECONDS)

    @property
    def offered(self) -> tuple[Layer, ...]:
        """All layers so far, lowest first."""
        return tuple(self._layers)

    def offer(self, layer: Layer) -> None:
        """Send this layer, which is on top of those that were offered before."""
        with self._changed:
            self._layers.append(layer)
            self._taken = max(self._taken, self._store.present(self._layers))
            self._changed.notify_all()

    def finish(self) -> None:
        """Wait until all offered layers are in the engine, or one has disappeared there.

        Raises what ended the sending early: EngineError, StorageError, or any other exception.
        """
        with self._changed:
            self._complete = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (part := self._take()) is not None:
            try:
                self._send(self._chunks(part))
            except _StoppedError:
                pass
            except BaseException as error:  # noqa: BLE001 - raised again by finish()
                self._give_up(error)
            finally:
                part.done.set()

    def _chunks(self, part: _Part) -> Iterator[bytes]:
        """Yield the part's tar; its end, which the engine waits for, only after the part below."""
        members = self._store.pack(part.layers, part.omit)
        for chunk in stream(members, part.below.wait):
            if self._stopped:
                raise _StoppedError
            self.sent += len(chunk)
            yield chunk

    def _give_up(self, error: BaseException) -> None:
        with self._changed:
            self._stopped = self._complete = True
            is_expected = isinstance(error, EngineError) and is_gone(error)
            self._error = self._error or (None if is_expected else error)
            self._changed.notify_all()

    def _take(self) -> _Part | None:
        """Return the next part when there is enough for one; None when there are no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._complete or self._pending() >= self._least)
            if self._stopped or not self._pending():
                return None
            end = self._cut()
            part = _Part(tuple(self._layers[:end]), self._taken, self._last)
            self._taken, self._last = end, part.done
            return part

    def _pending(self) -> int:
        """Return the bytes of tars that the engine lacks and that are in no part."""
        return sum(layer.unpacked_size for layer in self._layers[self._taken :])

    def _cut(self) -> int:
        """Return where the next part ends: after the layer that makes it big enough."""
        size = 0
        for number, layer in enumerate(self._layers[self._taken :], self._taken + 1):
            size += layer.unpacked_size
            if size >= self._least:
                return number
        return len(self._layers)
