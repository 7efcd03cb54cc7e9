"""`requirements.lock`: one pinned, hashed wheel per distribution, in pip's own format."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePath

from wheelyard.errors import LockError
from wheelyard.lock.sealed import hex_digest, read_once, seal, unseal, unseal_text
from wheelyard.model import LockedWheel, RequirementsLock

# The file's name and size are in a comment above its pin: pip and uv read only the pin.
_ENTRY = re.compile(
    r"# (?P<filename>\S+\.whl) (?P<size>[0-9]+)\n"
    r"(?P<name>[a-z0-9-]+)==(?P<version>\S+) --hash=sha256:(?P<sha256>[0-9a-f]{64})\n"
)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


def lock_command(cell_id: str) -> str:
    """Return the command that writes this image's lock."""
    return f"wheelyard lock {cell_id}"


def render_requirements_lock(lock: RequirementsLock) -> str:
    """Return the file's text: no host, no time of writing, sorted by name."""
    fields = {"cell": lock.cell_id, "inputs": f"sha256:{lock.inputs}"}
    if lock.newest is not None:
        fields["newest"] = lock.newest
    body = "".join(_entry(wheel) for wheel in sorted(lock.wheels, key=lambda wheel: wheel.name))
    return seal(lock_command(lock.cell_id), fields, body)


@read_once
def read_requirements_lock(path: Path) -> RequirementsLock:
    """Parse a lock; raise LockError if it is missing, malformed or was edited."""
    command = lock_command(path.parent.name)
    return _parsed(unseal(path, command), path, command)


def parse_requirements_lock(text: str, path: PurePath, cell_id: str) -> RequirementsLock:
    """Parse a lock's text; `path` is only for messages. Raises LockError."""
    command = lock_command(cell_id)
    return _parsed(unseal_text(text, path, command), path, command)


def _parsed(unsealed: tuple[dict[str, str], str], path: PurePath, command: str) -> RequirementsLock:
    fields, body = unsealed
    wheels = tuple(_wheels(body, path, command))
    return RequirementsLock(
        cell_id=fields.get("cell", ""),
        inputs=hex_digest(fields["inputs"], path, command),
        wheels=wheels,
        newest=_date(fields.get("newest"), path, command),
    )


def _date(text: str | None, path: PurePath, command: str) -> str | None:
    if text is not None and _DATE.fullmatch(text) is None:
        raise LockError(f"{path}: {text!r} is not a date; write the lock again: {command}")
    return text


def read_pins(path: Path, prefix: str) -> dict[str, str]:
    """Return name -> version of the pins whose names begin with `prefix`; parse nothing else.

    Raises LockError if the lock is missing or was edited.
    """
    _, body = unseal(path, lock_command(path.parent.name))
    return dict(re.findall(rf"\n({re.escape(prefix)}[a-z0-9-]*)==(\S+) --hash", body))


def _entry(wheel: LockedWheel) -> str:
    return (
        f"# {wheel.filename} {wheel.size}\n"
        f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n"
    )


def _wheels(body: str, path: PurePath, command: str) -> Iterator[LockedWheel]:
    position = 0
    while position < len(body):
        match = _ENTRY.match(body, position)
        if match is None:
            line = body[position:].split("\n", 1)[0]
            raise LockError(f"{path}: cannot read {line!r}; write the lock again: {command}")
        position = match.end()
        yield LockedWheel(
            name=match["name"],
            version=match["version"],
            filename=match["filename"],
            sha256=match["sha256"],
            size=int(match["size"]),
        )
