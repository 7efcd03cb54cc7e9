"""The Debian side: apt on a small signed archive, as root or as anyone."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from locking import Quiet, make_settings

from wheelyard.errors import FetchError, LockError
from wheelyard.lock.apt import isolated_apt, parse_records, parse_uris, release_date
from wheelyard.lock.changes import versions
from wheelyard.lock.debian import resolve_packages
from wheelyard.lock.sources import (
    DEBIAN,
    SECURITY,
    Source,
    deb_url,
    debian_sources,
    own_sources,
    parse_sources,
    with_mirrors,
)
from wheelyard.model import LockedDeb, PackageLock
from wheelyard.system import tools

PROGRAMS = ("apt-get", "apt-cache", "dpkg-deb", "gpg", "gpgv")
MISSING = [name for name in PROGRAMS if shutil.which(name) is None]
needs_apt = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")

LOG = """\
I: automatically chosen mode: root
deb http://a.example/debian bookworm main
deb [signed-by="/usr/share/keyrings/x.gpg"] http://a.example/debian bookworm-updates main contrib
deb http://b.example/debian-security/ bookworm-security main
E: command failed
"""
SOURCES = parse_sources(LOG)


class Archive:
    """A Debian archive in a folder, signed with a key of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keyring = folder / "keyring.gpg"
        self.home = folder / "gnupg"
        self.home.mkdir(parents=True, mode=0o700)
        self._gpg("--passphrase", "", "--quick-gen-key", "Test <t@example.org>", "ed25519")
        self._gpg("--output", str(self.keyring), "--export")
        self.source = Source(DEBIAN, f"file:{folder}", "bookworm", ("main",))

    def add(self, name: str, version: str, changelog: str | None = None, **fields: str) -> None:
        tree = self.folder / "tree"
        (tree / "DEBIAN").mkdir(parents=True)
        if changelog is not None:
            documents = tree / "usr/share/doc" / name
            documents.mkdir(parents=True)
            (documents / "changelog.Debian.gz").write_bytes(gzip.compress(changelog.encode()))
        control = {"Package": name, "Version": version, "Architecture": "all"}
        control |= {"Maintainer": "T <t@example.org>", "Description": "x"} | {
            key.replace("_", "-"): value for key, value in fields.items()
        }
        text = "".join(f"{key}: {value}\n" for key, value in control.items())
        (tree / "DEBIAN" / "control").write_text(text)
        pool = self.folder / "pool" / "main"
        pool.mkdir(parents=True, exist_ok=True)
        target = pool / f"{name}_{version.partition(':')[2] or version}_all.deb"
        run("dpkg-deb", "--build", "--root-owner-group", str(tree), str(target))
        shutil.rmtree(tree)

    def publish(self) -> None:
        dist = self.folder / "dists" / "bookworm"
        lists = dist / "main" / "binary-amd64"
        lists.mkdir(parents=True, exist_ok=True)
        paragraphs = [self._paragraph(deb) for deb in sorted(self.folder.glob("pool/main/*.deb"))]
        packages = "\n".join(paragraphs).encode()
        (lists / "Packages").write_bytes(packages)
        line = f" {hashlib.sha256(packages).hexdigest()} {len(packages)} main/binary-amd64/Packages"
        release = (
            "Suite: stable\nCodename: bookworm\nComponents: main\nArchitectures: amd64 all\n"
            f"Date: Sat, 01 Jan 2022 00:00:00 UTC\nSHA256:\n{line}\n"
        )
        (dist / "Release").write_text(release)
        signed = str(dist / "InRelease")
        self._gpg("--yes", "--clearsign", "--output", signed, str(dist / "Release"))

    def stop(self) -> None:
        run("gpgconf", "--homedir", str(self.home), "--kill", "all")

    def _paragraph(self, deb: Path) -> str:
        control = run("dpkg-deb", "--field", str(deb))
        data = deb.read_bytes()
        path = deb.relative_to(self.folder)
        digest = hashlib.sha256(data).hexdigest()
        return f"{control}Filename: {path}\nSize: {len(data)}\nSHA256: {digest}\n"

    def _gpg(self, *arguments: str) -> None:
        run("gpg", "--batch", "--quiet", "--homedir", str(self.home), *arguments)


def run(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    made = Archive(tmp_path / "archive")
    made.add("base", "1", Essential="yes")
    made.add("apt", "2.6", Depends="base")
    made.add("usr-is-merged", "37")
    made.add("tool", "1:1.0+b1", Depends="libtool1 (>= 1)", Recommends="extra")
    made.add("libtool1", "1.0")
    made.add("extra", "1")
    keyring = replace(tools.TOOLS["debian-archive-keyring"], path=made.keyring)
    monkeypatch.setitem(tools.TOOLS, "debian-archive-keyring", keyring)
    yield made
    made.stop()


def resolve(
    archive: Archive,
    tmp_path: Path,
    packages: tuple[str, ...],
    parent: Mapping[str, str] | None = None,
    preferred: Mapping[str, str] | None = None,
) -> dict[str, LockedDeb]:
    sources = (archive.source,)
    reporter = Quiet()
    with isolated_apt(sources, make_settings(tmp_path), reporter) as apt:
        debs = resolve_packages(
            apt,
            sources,
            packages,
            parent=parent or {},
            preferred=preferred or {},
            reporter=reporter,
        )
    return {deb.name: deb for deb in debs}


@needs_apt
def test_a_base_is_the_essential_packages_apt_and_what_the_flavour_names(
    archive: Archive, tmp_path: Path
) -> None:
    archive.publish()
    debs = resolve(archive, tmp_path, ("tool",))
    assert sorted(debs) == ["apt", "base", "libtool1", "tool", "usr-is-merged"]
    tool = debs["tool"]
    assert (tool.version, tool.architecture, tool.archive) == ("1:1.0+b1", "all", DEBIAN)
    data = (archive.folder / tool.path).read_bytes()
    assert (tool.size, tool.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert deb_url(tool, (archive.source,)).endswith("/pool/main/tool_1.0%2Bb1_all.deb")


@needs_apt
def test_locked_versions_stay_while_the_archive_has_them(archive: Archive, tmp_path: Path) -> None:
    archive.add("libtool1", "1.1")
    archive.publish()
    assert resolve(archive, tmp_path, ("tool",))["libtool1"].version == "1.1"
    kept = resolve(archive, tmp_path, ("tool",), preferred={"libtool1": "1.0", "apt": "1"})
    assert kept["libtool1"].version == "1.0"
    assert kept["apt"].version == "2.6"  # the locked one is gone


@needs_apt
def test_locked_versions_that_no_longer_fit_together_are_given_up(
    archive: Archive, tmp_path: Path
) -> None:
    archive.add("newer", "1", Depends="libtool1 (>= 1.1)")
    archive.add("libtool1", "1.1")
    archive.publish()
    debs = resolve(archive, tmp_path, ("newer", "tool"), preferred={"libtool1": "1.0"})
    assert debs["libtool1"].version == "1.1"


@needs_apt
def test_the_parents_versions_must_stay(archive: Archive, tmp_path: Path) -> None:
    archive.add("libtool1", "1.1")
    archive.publish()
    below = resolve(archive, tmp_path, ("tool",), preferred={"libtool1": "1.0"})
    held = versions(PackageLock("b", "f", "s", "0" * 64, tuple(below.values())))
    above = resolve(archive, tmp_path, ("extra", "tool"), parent=held)
    assert set(below.items()) < set(above.items())
    with pytest.raises(LockError, match=r"gone 1 \(here absent\)"):
        resolve(archive, tmp_path, ("tool",), parent={"gone": "1"})


@needs_apt
def test_the_archives_own_date_is_read(archive: Archive, tmp_path: Path) -> None:
    archive.publish()
    with isolated_apt((archive.source,), make_settings(tmp_path), Quiet()) as apt:
        assert release_date(apt) == datetime(2022, 1, 1, tzinfo=UTC)
        (path,) = apt.lists.glob("*InRelease")
        path.write_text(path.read_text().replace("Date: ", "Day: "))
        with pytest.raises(FetchError, match="do not state a date"):
            release_date(apt)


@needs_apt
def test_an_unknown_package_is_named(archive: Archive, tmp_path: Path) -> None:
    archive.publish()
    with pytest.raises(LockError, match=r"(?s)no-such-thing.*matrix\.yaml"):
        resolve(archive, tmp_path, ("no-such-thing",))


@needs_apt
def test_an_archive_that_is_not_signed_is_refused(archive: Archive, tmp_path: Path) -> None:
    archive.publish()
    (archive.folder / "dists" / "bookworm" / "InRelease").unlink()
    with pytest.raises(FetchError, match="package lists"):
        resolve(archive, tmp_path, ("tool",))


@needs_apt
def test_an_archive_that_is_not_there_says_how_to_name_a_mirror(
    archive: Archive, tmp_path: Path
) -> None:
    with pytest.raises(FetchError, match="--debian-mirror"):
        resolve(archive, tmp_path, ("tool",))


def test_sources_are_read_from_mmdebstraps_log() -> None:
    assert (
        Source(DEBIAN, "http://a.example/debian", "bookworm", ("main",)),
        Source(DEBIAN, "http://a.example/debian", "bookworm-updates", ("main", "contrib")),
        Source(SECURITY, "http://b.example/debian-security", "bookworm-security", ("main",)),
    ) == SOURCES


def test_mmdebstrap_is_asked_once_a_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the mirrors of a base's packages and for the sources.list in the image: one start."""
    program, started = tmp_path / "mmdebstrap", tmp_path / "started"
    program.write_text(
        f'#!/bin/sh\necho "$3" >> {started}\n'
        'echo "deb http://a.example/debian $3 main" >&2\nexit 1\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    settings = replace(make_settings(tmp_path), debian_mirror="http://m/debian")
    for suite in ("bookworm", "trixie", "bookworm"):
        (mirror,) = debian_sources(suite, settings, Quiet())
        (own,) = own_sources(suite, Quiet())
        assert (mirror.uri, own.uri) == ("http://m/debian", "http://a.example/debian")
        assert own.suite == suite
    assert started.read_text().split() == ["bookworm", "trixie"]


@pytest.mark.parametrize(
    ("mirror", "security", "expected"),
    [
        (None, None, ("http://a.example/debian", "http://b.example/debian-security")),
        ("http://m/debian/", None, ("http://m/debian", "http://m/debian-security")),
        ("http://m/deb", None, ("http://m/deb", "http://b.example/debian-security")),
        ("http://m/debian", "http://s/x", ("http://m/debian", "http://s/x")),
        (None, "http://s/x/", ("http://a.example/debian", "http://s/x")),
    ],
)
def test_mirrors_replace_the_archives(
    tmp_path: Path, mirror: str | None, security: str | None, expected: tuple[str, str]
) -> None:
    settings = make_settings(tmp_path, debian_mirror=mirror, debian_security_mirror=security)
    found = with_mirrors(SOURCES, settings)
    assert (found[0].uri, found[2].uri) == expected
    assert found[1].uri == found[0].uri


def test_apts_file_names_hold_name_version_and_architecture() -> None:
    line = "'http://a/pool/x/libx1_2%2bb1_amd64.deb' libx1_1%3a2+b1_amd64.deb 10 SHA256:00\n"
    (package,) = parse_uris(f"Reading package lists...\n{line}")
    assert (package.name, package.version, package.architecture) == ("libx1", "1:2+b1", "amd64")
    assert package.uri == "http://a/pool/x/libx1_2%2bb1_amd64.deb"


def test_records_are_split_and_long_fields_left_out() -> None:
    text = "Package: a\nDescription: x\n more: text\nSize: 1\n\nPackage: b\n\n"
    assert parse_records(text) == (
        {"Package": "a", "Description": "x", "Size": "1"},
        {"Package": "b"},
    )
