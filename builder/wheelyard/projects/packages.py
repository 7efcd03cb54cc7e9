"""Debian packages on a finished base: the difference that installing them makes, as one layer.

apt resolves them against the base's own dpkg state, which its Debian layers hold, so what the base
has stays as it is. To make the layer, those layers are unpacked and apt installs the locked files
in them, confined and without network; what has changed afterwards is the layer.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.contract.exclusions import path_rules
from wheelyard.errors import LockError, ProjectError, unreadable
from wheelyard.images.assemble.accounts import PRIVILEGES
from wheelyard.images.assemble.base import source_date
from wheelyard.images.assemble.image import ImageLayer
from wheelyard.images.assemble.rootfs import is_dropped, with_content
from wheelyard.layers.layer import FORMAT as LAYER_FORMAT
from wheelyard.layers.layer import Layer, LayerWriter
from wheelyard.layers.toc import Entry, parents
from wheelyard.lock.apt import (
    installed,
    isolated_apt,
    parse_records,
    print_uris,
    release_date,
    show,
)
from wheelyard.lock.debian import locked_debs
from wheelyard.lock.snapshots import snapshot_id, snapshot_ids, snapshot_patterns, snapshot_urls
from wheelyard.lock.sources import Source, deb_url, parse_sources, with_mirrors
from wheelyard.model import PackageLock
from wheelyard.projects.chamber import chamber, enter
from wheelyard.projects.files import PRIVATE_KEY
from wheelyard.projects.model import DebianLock
from wheelyard.projects.table import Project
from wheelyard.system.tarfiles import open_gzip, open_tar

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.images.assemble.store import LayerStore
    from wheelyard.projects.places import Places

FORMAT = 1  # part of the layer's key: raise it when the same packages give another layer
_STATUS, _SOURCES = "var/lib/dpkg/status", "etc/apt/sources.list"
_LARGEST = 32 << 20  # bytes of either
_DEBS = "packages"  # folder at the root while they are installed
_NEVER = {"dev", "proc", "sys", _DEBS}
_RANDOM = "var/lib/dbus/machine-id"
_SHADOW = "etc/shadow"
_ADVICE = (
    "correct `packages` in the table; where a package needs a newer version of what the base has, "
    "use a newer base image"
)
_NOWHERE = (
    "its layers of Debian packages are not on this machine: give the registry that has it "
    "(--registry), or build it (wheelyard build)"
)


def lock_packages(
    project: Project, places: Places, previous: DebianLock | None, context: Context
) -> DebianLock:
    """Resolve the table's packages on the base; versions of `previous` are kept if possible.

    Raises ProjectError without Linux or if the base's state cannot be read, LockError if they do
    not fit it, FetchError if the archive cannot be reached.
    """
    _require_linux(project)
    names = project.table.packages
    texts = _texts(places.debian(), (_STATUS, _SOURCES), project)
    there = installed(texts[_STATUS].decode("utf-8", "replace"))
    sources = _sources(texts[_SOURCES], context, project)
    before = {} if previous is None else {deb.name: deb.version for deb in previous.packages}
    with (
        context.reporter.task(f"Debian packages of {project.table.name}", None, "items"),
        isolated_apt(
            sources, context.settings, context.reporter, architecture=_architecture(texts[_STATUS])
        ) as apt,
    ):
        (apt.folder / "status").write_bytes(texts[_STATUS])
        pins = {**before, **there}
        uris = print_uris(apt, ("--no-remove", *sorted(names)), pins, _ADVICE)
        if moved := sorted(one.name for one in uris if one.name in there):
            raise LockError(
                f"{project.source}: packages need other versions of what the base has: "
                f"{', '.join(moved)}; {_ADVICE}"
            )
        debs = locked_debs(uris, show(apt, uris), sources) if uris else ()
        date = snapshot_id(release_date(apt))
    status = hashlib.sha256(texts[_STATUS]).hexdigest()
    found = DebianLock(status, date, debs)
    if previous is not None and previous.status == status and previous.packages == debs:
        return previous  # an archive that publishes every few hours must not touch the lock
    return found


def packages_layer(
    project: Project, lock: DebianLock, places: Places, store: LayerStore, context: Context
) -> Iterator[ImageLayer]:
    """Yield the layer of the locked packages; made here, as root, unless the cache has it."""
    if not lock.packages:
        return
    hashes = sorted(deb.sha256 for deb in lock.packages)
    parts = [FORMAT, LAYER_FORMAT, "packages", lock.status, *hashes]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    title = f"Debian packages {', '.join(sorted(project.table.packages))}"
    if (stored := store.find(key)) is None:
        scratch = store.scratch()
        stored = store.add(key, scratch, _made(scratch, project, lock, places, context))
    yield ImageLayer(stored, title, False)


def _made(
    blob: Path, project: Project, lock: DebianLock, places: Places, context: Context
) -> Layer:
    _require_linux(project)
    if os.geteuid() != 0:
        raise ProjectError(
            f"{project.source}: installing Debian packages needs root: run this command once with "
            "sudo, or in CI as root; the layer is in the cache of that user then"
        )
    blobs = places.debian()
    texts = _texts(blobs, (_STATUS, _SOURCES), project)
    if hashlib.sha256(texts[_STATUS]).hexdigest() != lock.status:
        raise ProjectError(
            f"{project.table.image} has other Debian packages than when the project was locked; "
            "run `wheelyard lock` again"
        )
    debs = _fetched(lock, _sources(texts[_SOURCES], context, project), context)
    label = f"installing {len(debs)} Debian packages"
    with context.reporter.task(label, None, "items"), chamber(blobs, context) as root:
        before = dict(_listed(root))
        _install(root, debs, lock)
        return _difference(blob, root, before, source_date(debs))


def _require_linux(project: Project) -> None:
    """Raise ProjectError elsewhere: apt resolves, and dpkg installs, nowhere else."""
    if sys.platform != "linux":
        raise ProjectError(
            f"{project.source}: Debian packages are locked and installed on Linux only, and this "
            f"is {sys.platform}: run this command in CI, on a Linux machine or in WSL, or leave "
            "`packages` out of the table"
        )


def _install(root: Path, debs: Sequence[Path], lock: DebianLock) -> None:
    (root / _DEBS).mkdir()
    names = []
    for path in debs:
        names.append(f"/{_DEBS}/{path.name}")
        (root / _DEBS / path.name).write_bytes(path.read_bytes())
    rules = path_rules(PackageLock("", "", "", "", lock.packages))
    argv = [
        *("/usr/bin/apt-get", "install", "--yes", "--no-install-recommends", "--no-remove"),
        *("-o", "APT::Sandbox::User=root", "-o", "Dpkg::Use-Pty=0"),
        *(word for rule in rules for word in ("-o", f"Dpkg::Options::=--{rule}")),
        *names,
    ]
    env = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "DEBIAN_FRONTEND": "noninteractive",
        "DEBCONF_NONINTERACTIVE_SEEN": "true",
        "SOURCE_DATE_EPOCH": str(source_date(debs)),
    }
    result = enter(root, argv, env, (0, 0))
    if result is None:
        raise ProjectError(
            "Debian packages cannot be installed here: the kernel does not let apt be confined, or "
            "the image is for another processor; make the layer on another machine"
        )
    if result.returncode != 0:
        raise ProjectError(f"the Debian packages could not be installed:\n{result.tail}")


def _fetched(lock: DebianLock, sources: Sequence[Source], context: Context) -> list[Path]:
    """Return the packages' files, each checked against its hash."""
    from wheelyard.fetching.fetch import fetch_all
    from wheelyard.fetching.wanted import Download

    settings = context.settings
    moments = snapshot_ids(PackageLock("", "", "", "", lock.packages, lock.date), None)
    patterns = snapshot_patterns(settings, sources)
    gone = "lock the project again: `wheelyard lock --upgrade`"
    wanted = [
        Download(
            deb_url(deb, sources), deb.path.rpartition("/")[2], deb.sha256, deb.size, gone,
            snapshot_urls(deb, patterns, moments),
        )
        for deb in lock.packages
    ]  # fmt: skip
    files = fetch_all(wanted, settings.cache_dir / "files", settings, context.reporter)
    return [files[deb.sha256] for deb in lock.packages]


def _texts(blobs: Sequence[Path], names: Sequence[str], project: Project) -> dict[str, bytes]:
    """Return files of the base as its layers of Debian packages leave them."""
    image = project.table.image
    if not blobs:
        raise ProjectError(f"{project.source}: packages: the dpkg state of {image}: {_NOWHERE}")
    found: dict[str, bytes] = {}
    for blob in blobs:
        with (
            unreadable(lambda why: ProjectError(f"a layer of {image} cannot be read: {why}")),
            open_gzip(blob) as file,
            open_tar(file, "r|") as tar,
        ):
            for info in tar:
                name = info.name.removeprefix("./")
                if name in names and info.isreg() and info.size <= _LARGEST:
                    content = tar.extractfile(info)
                    found[name] = content.read() if content else b""
    if missing := [name for name in names if name not in found]:
        raise ProjectError(
            f"{image} has no /{missing[0]}: packages can be added to images on Debian packages only"
        )
    return found


def _sources(text: bytes, context: Context, project: Project) -> tuple[Source, ...]:
    sources = with_mirrors(parse_sources(text.decode("utf-8", "replace")), context.settings)
    if not sources:
        raise ProjectError(f"/{_SOURCES} of {project.table.image} names no archive")
    return sources


def _architecture(status: bytes) -> str:
    """Return the processors that the base is for, as its dpkg says: "amd64"."""
    for record in parse_records(status.decode("utf-8", "replace")):
        name = record.get("Architecture", "")
        if record.get("Package") == "dpkg" and re.fullmatch(r"\w+", name):  # apt's options hold it
            return name
    raise ProjectError("the base's dpkg status does not say what processors it is for")


@dataclass(frozen=True, slots=True)
class _Place:
    """What a path of the root is, without its content."""

    mode: int  # with its type
    uid: int
    gid: int
    size: int
    mtime: int  # seconds since 1970; 0 for folders and links
    link: str = ""
    file: tuple[int, int] = (0, 0)  # device and inode, if it has several names

    def same(self, other: _Place | None) -> bool:
        """Tell whether the other is the same path, unchanged."""
        return other is not None and self._facts() == other._facts()

    def _facts(self) -> tuple[object, ...]:
        return self.mode, self.uid, self.gid, self.size, self.mtime, self.link


def _listed(root: Path) -> Iterator[tuple[str, _Place]]:
    """Yield every path that belongs to the image, links not followed."""
    top = str(root)
    for folder, folders, names in os.walk(root):
        relative = folder[len(top) + 1 :]
        if not relative:
            folders[:] = [name for name in folders if name not in _NEVER]
        for name in sorted((*folders, *names)):
            path = f"{relative}/{name}" if relative else name
            if is_dropped(path) or path == _RANDOM:
                continue
            status = Path(folder, name).lstat()
            kind = stat.S_IFMT(status.st_mode)
            if kind == stat.S_IFLNK:
                link = str(Path(folder, name).readlink())
                yield path, _Place(status.st_mode, status.st_uid, status.st_gid, 0, 0, link)
            elif kind == stat.S_IFDIR:
                yield path, _Place(status.st_mode, status.st_uid, status.st_gid, 0, 0)
            elif kind == stat.S_IFREG:
                several = (status.st_dev, status.st_ino) if status.st_nlink > 1 else (0, 0)
                yield path, _Place(
                    status.st_mode, status.st_uid, status.st_gid, status.st_size,
                    int(status.st_mtime), "", several,
                )  # fmt: skip


def _difference(blob: Path, root: Path, before: Mapping[str, _Place], newest: int) -> Layer:
    """Write what has changed since `before`; no file is younger than `newest`."""
    after = dict(_listed(root))
    changed = sorted(path for path, place in after.items() if not place.same(before.get(path)))
    gone = sorted(path for path in before if path not in after)
    names: dict[tuple[int, int], str] = {}
    with LayerWriter(blob, packed=True) as writer:
        for path in sorted([*changed, *gone]):
            _parents(writer, path, after)
            if path not in after:
                if path.rpartition("/")[0] in after or "/" not in path:
                    writer.remove(path)
                continue
            place = after[path]
            mode = stat.S_IMODE(place.mode)
            if stat.S_ISDIR(place.mode):
                if path not in writer:
                    writer.directory(path, mode, place.uid, place.gid)
            elif place.link:
                writer.symlink(path, place.link, place.uid, place.gid)
            elif place.file in names:
                entry = Entry(path, "hardlink", mode, place.uid, place.gid, 0, names[place.file])
                writer.add(entry, b"", min(place.mtime, newest))
            else:
                if place.file != (0, 0):
                    names[place.file] = path
                content = _content(root, path)
                mode &= ~PRIVILEGES  # as in the base: nothing in these images needs them
                entry = with_content(Entry(path, "file", mode, place.uid, place.gid), content)
                writer.add(entry, content, min(place.mtime, newest))
        return writer.finish()


def _parents(writer: LayerWriter, path: str, after: Mapping[str, _Place]) -> None:
    """Add the folders above a path as the image has them."""
    for folder in parents(path):
        if folder not in writer and (place := after.get(folder)) is not None:
            writer.directory(folder, stat.S_IMODE(place.mode), place.uid, place.gid)


def _content(root: Path, path: str) -> bytes:
    content = (root / path).read_bytes()
    if PRIVATE_KEY.match(content[:4096]):
        raise ProjectError(
            f"a Debian package makes a private key, /{path}, which everybody who pulls the image "
            "would get; leave the package out"
        )
    if path == _SHADOW:  # the third field is the day of the last change: a clock
        lines = (line.split(b":") for line in content.splitlines())
        content = b"".join(b":".join([*f[:2], b"", *f[3:]]) + b"\n" for f in lines)
    return content
