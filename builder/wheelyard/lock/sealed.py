"""The format of every lock file: a header of `# key: value`, and a checksum of the body."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path, PurePath
from typing import TypeVar

from wheelyard.errors import LockError
from wheelyard.oci.layout import canonical

Lock = TypeVar("Lock")
_NOTICE = "# Written by `{command}` from matrix.yaml. Do not edit: change the matrix, lock again."


def digest(value: object) -> str:
    """Return the SHA-256 (hex) of a value's canonical JSON."""
    return hashlib.sha256(canonical(value)).hexdigest()


def seal(command: str, fields: Mapping[str, str], body: str) -> str:
    """Put header and checksum before `body`; `command` is the command that rewrites the file."""
    header = {**fields, "body": f"sha256:{_checksum(body)}"}
    lines = (_NOTICE.format(command=command), *(f"# {key}: {header[key]}" for key in header))
    return "\n".join(lines) + "\n\n" + body


def unseal(path: Path, command: str) -> tuple[dict[str, str], str]:
    """Read a lock file and return its header fields and its body.

    Raises LockError, naming `command` as the remedy, if the file is missing, has no header, or has
    another body than was written.
    """
    return unseal_text(_read(path, command), path, command)


def unseal_text(text: str, path: PurePath, command: str) -> tuple[dict[str, str], str]:
    """Do the same for a lock's text; `path` is only for messages."""
    header, blank, body = text.partition("\n\n")
    fields = dict(
        line[2:].split(": ", 1)
        for line in header.splitlines()
        if line.startswith("# ") and ": " in line
    )
    if not blank or "body" not in fields or "inputs" not in fields:
        raise LockError(f"{path} does not have a lock header; write it again: {command}")
    if fields["body"] != f"sha256:{_checksum(body)}":
        raise LockError(
            f"{path} was changed by hand (its checksum differs); write it again: {command}"
        )
    return fields, body


def read_once(read: Callable[[Path], Lock]) -> Callable[[Path], Lock]:
    """Let a command read each lock once: again only if the file has been written to since."""
    known: dict[Path, tuple[tuple[int, int, int], Lock]] = {}

    @wraps(read)
    def remembered(path: Path) -> Lock:
        try:
            state = path.stat()
        except OSError:
            return read(path)  # which says what is wrong
        seen = (state.st_mtime_ns, state.st_size, state.st_ino)
        if path not in known or known[path][0] != seen:
            known[path] = seen, read(path)
        return known[path][1]

    return remembered


def hex_digest(text: str, path: PurePath, command: str) -> str:
    """Return the hex part of `sha256:<hex>`; raise LockError for anything else."""
    algorithm, _, value = text.partition(":")
    if algorithm != "sha256" or len(value) != 64 or set(value) - set("0123456789abcdef"):
        raise LockError(f"{path}: {text!r} is not a SHA-256; write it again: {command}")
    return value


def _read(path: Path, command: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise LockError(f"{path} does not exist; write it: {command}") from None
    except UnicodeDecodeError:
        raise LockError(f"{path} is not a text file; write it again: {command}") from None
    except OSError as refused:
        raise LockError(f"cannot read {path}: {refused.strerror}") from refused


def _checksum(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()
