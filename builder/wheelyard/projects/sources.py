"""Brings the source of a distribution here: an archive or a commit, unpacked. Runs none of it."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import zipfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement

from wheelyard.errors import FetchError, LockError, unreadable
from wheelyard.fetching.fetch import fetch_all
from wheelyard.fetching.replies import Interrupted, Refused
from wheelyard.fetching.transport import make_client, open_body
from wheelyard.fetching.wanted import Download
from wheelyard.oci.unpack import unpack
from wheelyard.projects.files import copy_tree, tree_files
from wheelyard.projects.newest import list_sdists
from wheelyard.projects.requirements import LOCAL, expanded, tree_of
from wheelyard.system.rootfolder import Attributes, RootFolder, entry_path
from wheelyard.system.storage import file_digest
from wheelyard.system.subprocesses import run
from wheelyard.system.urls import redact

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.lock.upstream.listing import IndexFile
    from wheelyard.projects.table import Project
    from wheelyard.settings import Settings

_LARGEST = 4 << 30  # bytes of a source, unpacked
_ARCHIVE_MAX = 1 << 30  # bytes of an archive whose size no index states
_COMMIT = re.compile(r"[0-9a-f]{40,64}")
# What a clone of somebody's repository could otherwise start.
_GIT = ("git", "-c", "core.hooksPath=/dev/null", "-c", "protocol.ext.allow=never")


@dataclass(frozen=True, slots=True)
class Fetched:
    """A source on this machine."""

    folder: Path  # with pyproject.toml or setup.py
    identity: str  # "sha256:..." of the archive, "git:" and the commit, "tree:..." of a folder
    said: str  # for people: "fairscale-0.4.4.tar.gz"


def fetch_named(pin: str, folder: Path, settings: Settings, context: Context) -> Fetched:
    """Fetch the source distribution that an index has for "name" or "name==version".

    Raises LockError if no index has one, FetchError if it cannot be fetched.
    """
    try:
        wanted = Requirement(pin)
    except InvalidRequirement as error:
        raise LockError(f"{pin!r} is not a requirement: {error}") from error
    file = _newest(wanted, settings)
    if file.sha256 is None:
        raise LockError(f"the index gives no SHA-256 for {file.filename}; use one that does")
    item = Download(file.url, file.filename, file.sha256, None)
    files = fetch_all([item], settings.cache_dir / "files", settings, context.reporter)
    return _unpacked(files[file.sha256], file.filename, file.sha256, folder)


def fetch_direct(
    place: str, project: Project, folder: Path, settings: Settings, context: Context
) -> Fetched:
    """Fetch what a requirement names: a commit, an archive here or elsewhere, a folder here."""
    if place.startswith("git+"):
        return _clone(place, folder, context)
    if (tree := tree_of(place, project.folder)) is not None:
        target = folder / "source"
        identity = copy_tree(tree_files(tree, project), target)
        return Fetched(target, identity, tree.name)
    bare, _, fragment = place.partition("#")
    if bare.startswith(LOCAL):
        path = project.folder / unquote(bare.removeprefix(LOCAL))
        sha256 = file_digest(path).removeprefix("sha256:")
        return _inside(_unpacked(path, path.name, sha256, folder), fragment)
    path = _download(expanded(bare), folder, settings)
    sha256 = file_digest(path).removeprefix("sha256:")
    stated = parse_qs(fragment).get("sha256")
    if stated and stated[0] != sha256:
        raise FetchError(f"{redact(bare)} has the SHA-256 {sha256}, not the {stated[0]} required")
    return _inside(_unpacked(path, path.name, sha256, folder), fragment)


def _newest(wanted: Requirement, settings: Settings) -> IndexFile:
    """Return the newest source distribution that the requirement allows, releases first."""
    found = [
        (not version.is_prerelease, version, file)
        for version, file in list_sdists(wanted.name, settings)
        if wanted.specifier.contains(version, prereleases=True)
    ]
    if not found:
        raise LockError(f"no index has a source distribution of {wanted}, nor a wheel that fits")
    return max(found, key=lambda one: one[:2])[2]


def _download(url: str, folder: Path, settings: Settings) -> Path:
    """Fetch an archive of unknown size."""
    name = unquote(urlsplit(url).path.rpartition("/")[2])
    target, left = folder / f"archive-{name}", _ARCHIVE_MAX
    try:
        with (
            make_client(settings, 1) as client,
            open_body(client, url, 0) as body,
            target.open("wb") as file,
        ):
            for data in body.chunks:
                left -= len(data)
                if left < 0:
                    raise FetchError(f"{redact(url)} has more than {_ARCHIVE_MAX >> 20} MiB")
                file.write(data)
    except (Interrupted, Refused) as problem:
        raise FetchError(f"{redact(url)}: {problem}") from problem
    return target


def _unpacked(archive: Path, filename: str, sha256: str, folder: Path) -> Fetched:
    target = folder / "source"
    target.mkdir()
    said = filename.removeprefix("archive-")
    if filename.lower().endswith(".zip"):
        with unreadable(lambda why: LockError(f"{said} is not a source distribution: {why}")):
            _unzip(archive, target)
    else:
        unpack([archive], target, largest=_LARGEST)
    tops = [path for path in target.iterdir() if path.is_dir() and not path.is_symlink()]
    if len(tops) != 1:
        raise LockError(f"{said} is not a source distribution: it holds {len(tops)} folders")
    return Fetched(tops[0], f"sha256:{sha256}", said)


def _unzip(archive: Path, target: Path) -> None:
    left = _LARGEST
    with zipfile.ZipFile(archive) as opened, RootFolder(target) as root:
        for info in opened.infolist():
            path, mode = entry_path(info.filename), info.external_attr >> 16
            if info.is_dir() or not path:
                continue
            if mode and not stat.S_ISREG(mode):
                raise zipfile.BadZipFile(f"{path[:200]!r} is not a plain file")
            left -= info.file_size + 512
            if left < 0:
                raise zipfile.BadZipFile(f"more than {_LARGEST:,} bytes unpacked")
            with opened.open(info) as content:
                chunks = iter(partial(content.read, 1 << 20), b"")
                root.file(path, chunks, Attributes(0o755 if mode & 0o100 else 0o644, 0))


def _inside(fetched: Fetched, fragment: str) -> Fetched:
    """Go into the folder that `#subdirectory=` names."""
    named = parse_qs(fragment).get("subdirectory")
    if not named:
        return fetched
    folder = (fetched.folder / named[0]).resolve()
    if not folder.is_relative_to(fetched.folder.resolve()) or not folder.is_dir():
        raise LockError(f"{fetched.said} has no folder {named[0]!r}")
    return Fetched(folder, f"{fetched.identity}#{named[0]}", fetched.said)


def _clone(place: str, folder: Path, context: Context) -> Fetched:
    """Check out a repository's branch, tag or commit with its submodules; no history."""
    bare, _, fragment = place.removeprefix("git+").partition("#")
    head, _, ref = bare.rpartition("@")
    if not urlsplit(head).path:  # the only @ ends a login
        head, ref = bare, ""
    url, target = expanded(head), folder / "source"
    said = redact(head)
    if ref.startswith("-") or url.startswith("-"):
        raise LockError(f"{said}: {ref!r} is not a branch, tag or commit")
    target.mkdir()
    env = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}

    def git(*words: str, needed: bool = True) -> str | None:
        argv = [*_GIT, "-C", str(target), *words]
        error = FetchError if needed else None
        result = run(argv, error=error, what=f"git: fetching {said}", env=env)
        return result.stdout.strip() if result.returncode == 0 else None

    with context.reporter.task(f"git {said}", None, "items"):
        git("init", "--quiet")
        git("remote", "add", "origin", url)
        if git("fetch", "--quiet", "--depth=1", "origin", ref or "HEAD", needed=False) is None:
            # A server may refuse single commits, or know only the beginning of one.
            git("fetch", "--quiet", "--tags", "origin", "+refs/heads/*:refs/remotes/origin/*")
            git("checkout", "--quiet", "--detach", ref or "origin/HEAD")
        else:
            git("checkout", "--quiet", "--detach", "FETCH_HEAD")
        git("submodule", "--quiet", "update", "--init", "--recursive", "--depth=1")
    commit = git("rev-parse", "HEAD") or ""
    if not _COMMIT.fullmatch(commit):
        raise FetchError(f"git: fetching {said} gave no commit")
    name = said.rstrip("/").rpartition("/")[2]
    return _inside(Fetched(target, f"git:{commit}", f"{name} {commit[:12]}"), fragment)


def source_key(fetched: Fetched, *parts: str) -> str:
    """Return the hash (sha256 hex) of a source and of what else decides its wheel."""
    return hashlib.sha256("\n".join((fetched.identity, *parts)).encode()).hexdigest()
