"""`images/bases/<base>-<flavour>.lock`: the Debian packages of a base, pinned by hash."""

from __future__ import annotations

import re
from pathlib import Path

from wheelyard.errors import LockError
from wheelyard.lock.sealed import hex_digest, read_once, seal, unseal
from wheelyard.model import LockedDeb, PackageLock

COMMAND = "wheelyard lock --bases-only"
_FIELDS = ("base", "flavour", "suite")
_DATE = re.compile(r"\d{8}T\d{6}Z")


def render_package_lock(lock: PackageLock) -> str:
    """Return the file's text: one line per package, sorted by name; no host, no time of writing.

    The date is that of the archives' signed Release files.
    """
    fields = {
        "base": lock.base,
        "flavour": lock.flavour,
        "suite": lock.suite,
        **({} if lock.date is None else {"date": lock.date}),
        "columns": "name version architecture sha256 bytes archive path",
        "inputs": f"sha256:{lock.inputs}",
    }
    packages = sorted(lock.packages, key=lambda deb: (deb.name, deb.architecture))
    return seal(COMMAND, fields, "".join(f"{_line(deb)}\n" for deb in packages))


@read_once
def read_package_lock(path: Path) -> PackageLock:
    """Parse a package lock; raise LockError if it is missing, malformed or was edited."""
    fields, body = unseal(path, COMMAND)
    absent = [key for key in _FIELDS if key not in fields]
    if absent:
        raise LockError(f"{path}: the header has no {absent[0]!r}; write it again: {COMMAND}")
    date = fields.get("date")
    if date is not None and not _DATE.fullmatch(date):
        raise LockError(f"{path}: {date!r} is not a date; write it again: {COMMAND}")
    return PackageLock(
        base=fields["base"],
        flavour=fields["flavour"],
        suite=fields["suite"],
        inputs=hex_digest(fields["inputs"], path, COMMAND),
        packages=tuple(_deb(line, path) for line in body.splitlines()),
        date=date,
    )


def _line(deb: LockedDeb) -> str:
    return (
        f"{deb.name} {deb.version} {deb.architecture} sha256:{deb.sha256}"
        f" {deb.size} {deb.archive} {deb.path}"
    )


def _deb(line: str, path: Path) -> LockedDeb:
    try:
        name, version, architecture, sha256, size, archive, pool_path = line.split(" ")
        return LockedDeb(
            name=name,
            version=version,
            architecture=architecture,
            sha256=hex_digest(sha256, path, COMMAND),
            size=int(size),
            archive=archive,
            path=pool_path,
        )
    except ValueError:
        raise LockError(f"{path}: cannot read {line!r}; write it again: {COMMAND}") from None
