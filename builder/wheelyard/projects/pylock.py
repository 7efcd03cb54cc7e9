"""The project's lock as a file: the standard `pylock.toml` (PEP 751), which pip and uv read."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.pylock import PackageArchive, PackageWheel, Pylock, PylockValidationError
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from wheelyard.architecture import of_machine
from wheelyard.errors import LockError
from wheelyard.model import LockedDeb, LockedWheel
from wheelyard.projects.model import DebianLock, ProjectLock, ProjectWheel

COMMAND = "wheelyard lock"
_NOTICE = f"# Written by `{COMMAND}`. Do not edit: change the requirements, lock again.\n"
_LARGEST = 16 << 20  # bytes of a lock
_HEX = re.compile(r"[0-9a-f]{64}")
_DATE = re.compile(r"\d{8}T\d{6}Z")
_POOL = re.compile(r"pool/[A-Za-z0-9/._+~%-]+\.deb")


def render_lock(lock: ProjectLock) -> str:
    """Return the file's text: no login, no time of writing, sorted by name."""
    where = (
        f"python_version == '{lock.python}' and sys_platform == 'linux' and "
        f"platform_machine == '{lock.machine}'"
    )
    head = (
        f'{_NOTICE}lock-version = "1.0"\ncreated-by = "wheelyard"\n'
        f'requires-python = "=={lock.python}.*"\n'
        f"environments = [{_text(where)}]\n"
    )
    packages = "".join(map(_package, sorted(lock.wheels, key=lambda item: item.wheel.name)))
    facts = [
        f"base = {_text(lock.base)}",
        *([f"base-digest = {_text(lock.base_digest)}"] if lock.base_digest else []),
        f'contents = "sha256:{lock.contents}"',
        f'inputs = "sha256:{lock.inputs}"',
    ]
    below = "".join(f"\n[[tool.wheelyard.shadowed]]\n{_shadowed(w)}" for w in lock.shadowed)
    none = "" if lock.wheels else "packages = []\n"
    tool = "\n".join(facts) + f"\n{below}{_debian(lock.debian)}"
    return f"{head}{none}{packages}\n[tool.wheelyard]\n{tool}"


def read_lock(path: Path) -> ProjectLock:
    """Read a project's lock; raise LockError if it is missing, malformed or another program's."""
    data = _data(path)
    try:
        lock = Pylock.from_dict(data)
    except PylockValidationError as error:
        raise _unusable(path, str(error)) from error
    tool = data.get("tool", {}).get("wheelyard") if isinstance(data.get("tool"), dict) else None
    if not isinstance(tool, dict):
        raise LockError(
            f"{path} was not written by `{COMMAND}`, which writes a file of that name: move it "
            "away first, such as to pylock.other.toml"
        )
    shadowed = tool.get("shadowed", [])
    if not isinstance(shadowed, list):
        raise _unusable(path, "tool.wheelyard.shadowed must be a list")
    return ProjectLock(
        base=_string(tool, "base", path),
        base_digest=_string(tool, "base-digest", path) if "base-digest" in tool else "",
        contents=_digest(tool, "contents", path),
        inputs=_digest(tool, "inputs", path),
        wheels=tuple(_wheels(lock, path)),
        shadowed=tuple(_below(item, path) for item in shadowed),
        python=_python(lock, path),
        machine=_machine(lock, path),
        debian=_debian_lock(tool["debian"], path) if "debian" in tool else None,
    )


def _python(lock: Pylock, path: Path) -> str:
    found = re.fullmatch(r"==(\d+\.\d+)\.\*", str(lock.requires_python or ""))
    if found is None:
        raise _unusable(path, "requires-python must name one Python, such as ==3.11.*")
    return found[1]


def _machine(lock: Pylock, path: Path) -> str:
    """Return the machine that the lock is for, by the markers of its environment."""
    texts = [str(marker) for marker in lock.environments or ()]
    found = re.findall(r'platform_machine == "(\w+)"', " ".join(texts))
    if len(found) != 1 or of_machine(found[0]) is None:
        raise _unusable(path, "environments must name one platform_machine, such as x86_64")
    return str(found[0])


def previous_lock(path: Path) -> ProjectLock | None:
    """Return the lock whose versions are kept; None if there is none, or one that is damaged.

    Raises LockError for another program's file, which must not be replaced.
    """
    if not path.exists():
        return None
    try:
        return read_lock(path)
    except LockError:
        if _is_ours(path):
            return None
        raise


def _is_ours(path: Path) -> bool:
    """Tell a damaged lock of ours, such as one with git's conflict markers, from a foreign file."""
    with path.open("rb") as stream:
        return stream.read(len(_NOTICE)) == _NOTICE.encode()


def _data(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            content = stream.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise _unusable(path, f"larger than {_LARGEST >> 20} MiB")
        return tomllib.loads(content.decode("utf-8"))
    except FileNotFoundError:
        raise LockError(f"{path} does not exist; write it: {COMMAND}") from None
    except OSError as error:
        raise LockError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise _unusable(path, str(error)) from error


def _wheels(lock: Pylock, path: Path) -> Iterator[ProjectWheel]:
    seen: set[str] = set()
    for package in lock.packages:
        files: list[PackageWheel | PackageArchive] = [*(package.wheels or ())]
        files += [] if package.archive is None else [package.archive]
        if len(files) != 1 or package.version is None or package.name in seen:
            raise _unusable(path, f"{package.name}: one version and one wheel are needed")
        seen.add(package.name)
        (file,) = files
        sha256, size = file.hashes.get("sha256", ""), file.size
        if not _HEX.fullmatch(sha256) or size is None or size < 0:
            raise _unusable(path, f"{package.name}: its SHA-256 or its size is missing")
        filename = _filename(file) if isinstance(file, PackageArchive) else file.filename
        wheel = LockedWheel(package.name, str(package.version), filename, sha256, size)
        _check_name(wheel, path)
        # A URL whose token was left out cannot be used: the index names the file.
        url = None if file.url is None or "***" in file.url else file.url
        yield ProjectWheel(wheel, url, file.path, *_origin(package.tool))


def _origin(tool: object) -> tuple[str | None, str | None]:
    """Return what a wheel was built of."""
    own = tool.get("wheelyard") if isinstance(tool, Mapping) else None
    found = own if isinstance(own, Mapping) else {}
    source, revision = found.get("built-from"), found.get("revision")
    if not isinstance(source, str) or not isinstance(revision, str):
        return None, None
    return source, revision


def _filename(file: PackageArchive) -> str:
    from urllib.parse import unquote, urlsplit

    if file.path is not None:
        return Path(file.path).name
    return unquote(urlsplit(file.url or "").path.rpartition("/")[2])


def _check_name(wheel: LockedWheel, path: Path) -> None:
    try:
        name, version, _, _ = parse_wheel_filename(wheel.filename)
    except InvalidWheelFilename as error:
        raise _unusable(path, str(error)) from error
    if (name, str(version)) != (canonicalize_name(wheel.name), wheel.version):
        raise _unusable(path, f"{wheel.filename} is not {wheel.name} {wheel.version}")


def _below(item: object, path: Path) -> LockedWheel:
    if not isinstance(item, dict) or not isinstance(item.get("size"), int):
        raise _unusable(path, "tool.wheelyard.shadowed: a size is missing")
    names = ("name", "version", "filename", "sha256")
    name, version, filename, sha256 = (_string(item, key, path) for key in names)
    wheel = LockedWheel(name, version, filename, sha256, item["size"])
    if not _HEX.fullmatch(wheel.sha256):
        raise _unusable(path, f"tool.wheelyard.shadowed: {wheel.name} has no SHA-256")
    _check_name(wheel, path)
    return wheel


def _string(table: dict[str, Any], key: str, path: Path) -> str:
    if not isinstance(table.get(key), str):
        raise _unusable(path, f"tool.wheelyard: {key} is missing")
    return str(table[key])


def _digest(table: dict[str, Any], key: str, path: Path) -> str:
    algorithm, _, value = _string(table, key, path).partition(":")
    if algorithm != "sha256" or not _HEX.fullmatch(value):
        raise _unusable(path, f"tool.wheelyard: {key} is not a SHA-256")
    return value


def _unusable(path: Path, why: str) -> LockError:
    return LockError(f"{path} cannot be used: {why}; write it again: {COMMAND}")


def _package(item: ProjectWheel) -> str:
    wheel = item.wheel
    place = f"path = {_text(item.path)}" if item.path else f"url = {_text(item.url or '')}"
    file = (
        f"{{ name = {_text(wheel.filename)}, {place}, size = {wheel.size}, "
        f'hashes = {{ sha256 = "{wheel.sha256}" }} }}'
    )
    return (
        f"\n[[packages]]\nname = {_text(wheel.name)}\nversion = {_text(wheel.version)}\n"
        f"wheels = [{file}]\n{_built(item)}"
    )


def _built(item: ProjectWheel) -> str:
    if item.source is None or item.revision is None:
        return ""
    return (
        f"\n[packages.tool.wheelyard]\nbuilt-from = {_text(item.source)}\n"
        f"revision = {_text(item.revision)}\n"
    )


def _shadowed(wheel: LockedWheel) -> str:
    return (
        f"name = {_text(wheel.name)}\nversion = {_text(wheel.version)}\n"
        f"filename = {_text(wheel.filename)}\nsize = {wheel.size}\n"
        f'sha256 = "{wheel.sha256}"\n'
    )


def _debian(lock: DebianLock | None) -> str:
    if lock is None:
        return ""
    head = f'\n[tool.wheelyard.debian]\nstatus = "sha256:{lock.status}"\ndate = "{lock.date}"\n'
    return head + "".join(
        f"\n[[tool.wheelyard.debian.packages]]\nname = {_text(deb.name)}\n"
        f"version = {_text(deb.version)}\narchitecture = {_text(deb.architecture)}\n"
        f"archive = {_text(deb.archive)}\npath = {_text(deb.path)}\nsize = {deb.size}\n"
        f'sha256 = "{deb.sha256}"\n'
        for deb in lock.packages
    )


def _debian_lock(table: object, path: Path) -> DebianLock:
    if not isinstance(table, dict) or not isinstance(table.get("packages", []), list):
        raise _unusable(path, "tool.wheelyard.debian must be a table")
    date = _string(table, "date", path)
    if not _DATE.fullmatch(date):
        raise _unusable(path, "tool.wheelyard.debian: date is not a date")
    packages = tuple(_deb(item, path) for item in table.get("packages", []))
    return DebianLock(_digest(table, "status", path), date, packages)


def _deb(item: object, path: Path) -> LockedDeb:
    if not isinstance(item, dict) or not isinstance(item.get("size"), int):
        raise _unusable(path, "tool.wheelyard.debian.packages: a size is missing")
    words = ("name", "version", "architecture", "sha256", "archive", "path")
    name, version, architecture, sha256, archive, place = (_string(item, x, path) for x in words)
    if not _HEX.fullmatch(sha256) or not _POOL.fullmatch(place) or ".." in place:
        raise _unusable(path, f"tool.wheelyard.debian.packages: {name} is malformed")
    return LockedDeb(name, version, architecture, sha256, item["size"], archive, place)


def _text(value: str) -> str:
    """Write a TOML string; JSON's escapes are among TOML's, except for DEL."""
    return json.dumps(value).replace("\x7f", "\\u007f")
