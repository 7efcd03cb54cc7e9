"""Whose signatures count for which name, and the newest catalogue seen."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.errors import SignatureError, StorageError, UsageError
from wheelyard.oci.address import Address, parse_address
from wheelyard.oci.documents import Counter, Document, UnreadableError, read_document
from wheelyard.publish.attest.keys import load_public_key
from wheelyard.system.filelock import locked
from wheelyard.system.textfiles import write_text

if TYPE_CHECKING:
    from wheelyard.console.tasks import Reporter
    from wheelyard.context import Context
    from wheelyard.publish.attest.keys import PublicKey

FOLDER = "catalogues"  # of the cache


@dataclass(frozen=True, slots=True)
class Trust:
    """The keys and names that signatures are verified with."""

    keys: tuple[PublicKey, ...]  # any of them will do: an old and a new one, while they change
    memory: Path  # a folder
    signed_as: Address | None = None  # where images were signed, if they have been copied since

    def name(self, address: Address, repository: str) -> str:
        """Return the name that a signature must give a repository below the prefix."""
        return (self.signed_as or address).reference(repository)


def find_trust(keys: Sequence[Path], signed_as: str | None, context: Context) -> Trust | None:
    """Read the public keys before any request; None if signatures are not required.

    Raises UsageError for options that do not go together, SignatureError for an invalid key.
    """
    if not keys:
        if signed_as is not None:
            raise UsageError("--signed-as needs a key to verify signatures with: add --verify-key")
        return None
    if context.settings.registry is None:
        raise UsageError("--verify-key needs the registry with the signatures: --registry")
    try:
        address = None if signed_as is None else parse_address(signed_as)
    except ValueError as error:
        raise UsageError(f"--signed-as: {error}") from None
    return Trust(tuple(map(load_public_key, keys)), context.settings.cache_dir / FOLDER, address)


class _Seen(Document):
    counter: Counter


def newest_seen(trust: Trust, name: str) -> int:
    """Return the highest counter of a catalogue (by its signed name) seen on this machine."""
    try:
        return read_document(_Seen, _file(trust, name).read_bytes()).counter
    except (OSError, UnreadableError):
        return 0


def require_newest(trust: Trust, name: str, counter: int) -> None:
    """Raise SignatureError for a catalogue that is older than one seen before."""
    seen = newest_seen(trust, name)
    if counter < seen:
        raise SignatureError(
            f"{name} is older than the one seen here before, or gone (change {counter or 'none'}, "
            f"after {seen}): newer images may be withheld. Ask its owner; the next "
            "`wheelyard push --sign-key` corrects it. If it was reset on purpose, "
            f"remove {_file(trust, name)}"
        )


def remember(trust: Trust, name: str, counter: int, reporter: Reporter) -> None:
    """Record the counter if it is higher; warn if the folder cannot be written."""
    if counter <= newest_seen(trust, name):
        return
    path = _file(trust, name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_suffix(".lock")):
            if counter > newest_seen(trust, name):
                write_text(path, f'{{"counter": {counter}}}\n')
    except (OSError, StorageError) as error:
        reporter.warn(f"{path.parent}: the catalogue's age cannot be remembered: {error}")


def _file(trust: Trust, name: str) -> Path:
    return trust.memory / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"
