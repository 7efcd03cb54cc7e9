"""Which files of a project go into its image: what git tracks or would, less what is left out.

Whatever must not be in an image by accident is refused: secrets, links that lead out, files that no
image holds or that would be lost on another file system.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from wheelyard.errors import ProjectError, ToolMissingError
from wheelyard.layers.wheel import is_plain
from wheelyard.projects.model import BUILT
from wheelyard.projects.table import Project
from wheelyard.system.storage import file_digest
from wheelyard.system.subprocesses import run

LARGEST = 100_000_000  # bytes of a file that is not named in `include`
_COUNT_MAX = 100_000
_TREE_MAX = 1 << 30  # bytes of a folder of which a wheel is built
_IGNORED = ".dockerignore"
# Without git, nothing says what is not part of a project; these never are.
_NEVER = {
    ".git", ".hg", ".svn", ".venv", "venv", "node_modules", "__pycache__", ".mypy_cache", ".tox",
    ".pytest_cache", ".ruff_cache", ".ipynb_checkpoints", ".nox",
}  # fmt: skip
_SECRET = re.compile(
    r"\.env(\..+)?|.*\.(pem|key|p12|pfx|jks|kdbx|keystore)|id_(rsa|dsa|ecdsa|ed25519)(_.*)?"
    r"|[._]netrc|\.pypirc|\.git-credentials|\.htpasswd|\.pgpass|credentials(\.(json|toml|ya?ml))?"
    r"|client_secrets?.*\.json|service[-_]?account.*\.json|kubeconfig|\.dockercfg",
    re.IGNORECASE,
)
_HARMLESS = re.compile(r"\.env\.(example|sample|template|dist|defaults?)", re.IGNORECASE)
_SECRET_PATHS = re.compile(r"(.*/)?(\.docker/config\.json|\.kube/config|\.ssh/.*|\.gnupg/.*)")
PRIVATE_KEY = re.compile(rb"\s*-----BEGIN [A-Z ]*PRIVATE KEY-----")
_BUILT = re.compile(rf"{BUILT}/[^/]+\.whl")  # is installed, so it is not code
_LEFTOVER = re.compile(r"(^|/)([^/]+\.egg-info|__pycache__)(/|$)")  # of building and running
_INDEX = "oci-layout"  # the file that makes a folder an image layout, such as dist/


@dataclass(frozen=True, slots=True)
class ProjectFile:
    """A file or symbolic link of a project."""

    path: str  # relative to the project, with slashes
    place: Path
    status: os.stat_result  # of the link itself
    link: str | None = None  # its target; None: a file

    @property
    def executable(self) -> bool:
        """Tell whether its owner may run it."""
        return bool(self.status.st_mode & stat.S_IXUSR)


def project_files(project: Project) -> list[ProjectFile]:
    """Return what goes in, sorted by path; raise ProjectError for what may not."""
    folder, table = project.folder, project.table
    left_out = [*_dockerignore(folder / _IGNORED), *table.exclude]
    listed = [
        path
        for path in _listed(folder)
        if not is_matched(path, left_out) and not _BUILT.fullmatch(path)
    ]
    if table.include:
        listed += [path for path in _walked(folder) if is_matched(path, table.include)]
    paths = sorted(set(_without_layouts(listed, folder)))
    if len(paths) > _COUNT_MAX:
        raise ProjectError(
            f"{folder} has {len(paths):,} files for the image; leave data out with .gitignore, "
            f"{_IGNORED} or `exclude`"
        )
    found = [one for path in paths if (one := _file(folder, path)) is not None]
    _require_clean(found, table.include)
    return found


def tree_files(folder: Path, project: Project) -> list[ProjectFile]:
    """Return the files of a folder of which a wheel is built, sorted by path.

    What the lock writes into a project inside of it is left out: it would change the folder.
    """
    own = {project.lock.resolve(), (project.folder / BUILT).resolve()}
    found = []
    for path in sorted(set(_listed(folder))):
        place = (folder / path).parent.resolve() / Path(path).name
        if not _LEFTOVER.search(path) and not own & {place, place.parent}:
            found.append(_file(folder, path))
    files = [one for one in found if one is not None]
    size = sum(one.status.st_size for one in files)
    if len(files) > _COUNT_MAX or size > _TREE_MAX:
        raise ProjectError(
            f"{folder} is too large to be the source of a wheel: {len(files):,} files, "
            f"{size / 1e6:,.0f} MB; leave data out with .gitignore, or build the wheel elsewhere"
        )
    return files


def copy_tree(files: Iterable[ProjectFile], target: Path) -> str:
    """Copy files into a folder, and return their digest."""
    for one in files:
        place = target / one.path
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            if one.link is not None:
                place.symlink_to(one.link)
            else:
                shutil.copyfile(one.place, place, follow_symlinks=False)
                place.chmod(0o755 if one.executable else 0o644)
        except OSError as error:
            raise ProjectError(f"{one.place} cannot be read: {error.strerror}") from error
    return tree_digest(replace(one, place=target / one.path) for one in files)


def tree_digest(files: Iterable[ProjectFile]) -> str:
    """Return the digest ("tree:" and SHA-256 hex) of names, contents and executable bits."""
    found = hashlib.sha256()
    for one in files:
        what = "link" if one.link is not None else "program" if one.executable else "file"
        try:
            content = file_digest(one.place) if one.link is None else one.link
        except OSError as error:
            raise ProjectError(f"{one.place} cannot be read: {error.strerror}") from error
        found.update(f"{what}\0{one.path}\0{content}\0".encode())
    return f"tree:{found.hexdigest()}"


def is_matched(path: str, patterns: Sequence[str]) -> bool:
    """Tell whether patterns, as in .dockerignore, match the path or a folder above it.

    The last one that matches decides; `!` in front makes an exception.
    """
    matched = False
    for pattern in patterns:
        negated = pattern.startswith("!")
        if matched == negated and _pattern(pattern.removeprefix("!")).fullmatch(path):
            matched = not negated
    return matched


@cache
def _pattern(text: str) -> re.Pattern[str]:
    """Translate a pattern of .dockerignore; moby's patternmatcher is the reference."""
    text = text.strip().removeprefix("./").strip("/")
    parts, position = [], 0
    while position < len(text):
        rest = text[position:]
        if rest.startswith("**/"):
            parts.append("(?:.*/)?")
            position += 3
        elif rest.startswith("**"):
            parts.append(".*")
            position += 2
        elif group := re.match(r"\[\^?[^\]]+\]", rest):
            parts.append(group[0])
            position += group.end()
        elif rest[0] == "\\" and len(rest) > 1:
            parts.append(re.escape(rest[1]))
            position += 2
        else:
            parts.append({"*": "[^/]*", "?": "[^/]"}.get(rest[0], re.escape(rest[0])))
            position += 1
    try:
        return re.compile(f"{''.join(parts)}(?:/.*)?", re.DOTALL)
    except re.error as error:
        raise ProjectError(f"{text!r} is not a pattern of file names: {error}") from None


def _dockerignore(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectError(f"{path} cannot be read: {error}") from error
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _listed(folder: Path) -> Iterator[str]:
    """List what git tracks or would track, of submodules, too; without git, all files."""
    if not any((place / ".git").exists() for place in (folder, *folder.resolve().parents)):
        yield from _walked(folder)
        return
    argv = ["git", "-C", str(folder), "ls-files", "-z", "--cached", "--others"]
    try:
        result = run([*argv, "--exclude-standard"], error=None)
    except ToolMissingError as error:
        raise ProjectError(
            f"{folder} is under version control, but git is missing, which says what belongs to "
            "the project; install it (apt install git)"
        ) from error
    if result.returncode:
        raise ProjectError(f"git cannot list the files of {folder}:\n{result.tail}")
    for path in filter(None, result.stdout.split("\0")):
        inner = folder / path.rstrip("/")
        if inner.is_dir() and not inner.is_symlink():
            yield from (f"{path.rstrip('/')}/{below}" for below in _submodule(inner))
        else:
            yield path


def _submodule(folder: Path) -> Iterator[str]:
    if not (folder / ".git").exists():
        raise ProjectError(
            f"the submodule {folder} is not checked out; run: git submodule update --init"
        )
    return _listed(folder)


def _walked(folder: Path) -> Iterator[str]:
    """List all files, except in folders that are never part of a project."""
    for place, folders, names in os.walk(folder, onerror=_raise):
        links = [name for name in folders if Path(place, name).is_symlink()]
        folders[:] = sorted(set(folders) - _NEVER - set(links))
        relative = Path(place).relative_to(folder).as_posix()
        prefix = "" if relative == "." else f"{relative}/"
        yield from (f"{prefix}{name}" for name in (*names, *links) if name not in _NEVER)


def _raise(error: OSError) -> None:
    raise ProjectError(f"{error.filename} cannot be read: {error.strerror}") from error


def _without_layouts(paths: list[str], folder: Path) -> Iterator[str]:
    """Leave out image layouts: `wheelyard build` writes one into the project."""
    tops = {path.partition("/")[0] for path in paths if "/" in path}
    layouts = {top for top in tops if (folder / top / _INDEX).is_file()}
    return (path for path in paths if path.partition("/")[0] not in layouts)


def _file(folder: Path, path: str) -> ProjectFile | None:
    """Look at one path; None for a file that was deleted and is still tracked."""
    if "\ufffd" in path or not is_plain(path):
        raise ProjectError(
            f"{path!a}: a name that is not UTF-8, is too long, holds control characters or begins "
            "with .wh. cannot be in an image; rename the file, or leave it out with `exclude`"
        )
    place = folder / path
    try:
        status = place.lstat()
        if stat.S_ISREG(status.st_mode):
            return ProjectFile(path, place, status)
        if stat.S_ISLNK(status.st_mode):
            return ProjectFile(path, place, status, str(place.readlink()))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ProjectError(f"{place} cannot be read: {error.strerror}") from error
    raise ProjectError(
        f"{path} is a {_kind(status.st_mode)}, which no image can hold; leave it out with "
        f"`exclude` or {_IGNORED}"
    )


def _kind(mode: int) -> str:
    for test, name in ((stat.S_ISSOCK, "socket"), (stat.S_ISFIFO, "named pipe")):
        if test(mode):
            return name
    return "folder" if stat.S_ISDIR(mode) else "device"


def _require_clean(files: Iterable[ProjectFile], named: Sequence[str]) -> None:
    """Raise ProjectError, naming every file that must not go into an image."""
    problems = []
    spelled: dict[str, str] = {}
    for one in files:
        parts = one.path.split("/")
        for at in range(1, len(parts) + 1):
            place = "/".join(parts[:at])
            if (other := spelled.setdefault(place.casefold(), place)) != place:
                problems.append(f"{other} and {place} differ only in upper and lower case")
        if one.path in named:
            continue
        if is_secret(one.path):
            problems.append(f"{one.path} looks like a secret, which everybody who pulls would get")
        if one.link is not None and _leaves(one.path, one.link):
            problems.append(f"{one.path} is a link that leaves the project: {one.link}")
        if one.link is None and one.status.st_size > LARGEST:
            size = f"{one.status.st_size / 1e6:,.0f} MB"
            problems.append(f"{one.path} has {size}; large data belongs on a volume")
    if problems:
        listed = "".join(f"\n  {text}" for text in dict.fromkeys(problems))
        raise ProjectError(
            f"not put into the image:{listed}\nleave them out with `exclude` or {_IGNORED}, or "
            "name a file with its whole path in `include` if it is meant to be there"
        )


def is_secret(path: str) -> bool:
    """Tell by its name whether a file is likely to hold a password or key."""
    name = path.rpartition("/")[2]
    if _HARMLESS.fullmatch(name):
        return False
    return bool(_SECRET.fullmatch(name) or _SECRET_PATHS.fullmatch(path))


def _leaves(path: str, target: str) -> bool:
    there = os.path.normpath(f"{path.rpartition('/')[0] or '.'}/{target}")
    return target.startswith("/") or there == ".." or there.startswith("../")
