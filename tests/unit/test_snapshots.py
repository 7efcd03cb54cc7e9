"""Snapshot archives: which moments are asked for, and where."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from locking import make_settings

from wheelyard.lock.snapshots import snapshot_ids, snapshot_patterns, snapshot_urls
from wheelyard.lock.sources import Source
from wheelyard.model import LockedDeb, PackageLock

SOURCES = (
    Source("debian", "http://deb.example/debian", "bookworm", ("main",)),
    Source("debian", "http://deb.example/debian", "bookworm-updates", ("main",)),
    Source("debian-security", "http://security.example/debian-security", "x-security", ("main",)),
)
LIBC = LockedDeb("libc6", "2.36-9+deb12u1", "amd64", "a" * 64, 1, "debian", "pool/c/libc6+deb.deb")
# As apt 3 has them on its own, with another host.
APT_3 = """
Acquire::Snapshots::URI::Origin::Debian "https://snap.example/archive/debian/@SNAPSHOTID@/";
Acquire::Snapshots::URI::Override::Label::Debian-Security
  "https://snap.example/archive/debian-security/@SNAPSHOTID@/";
"""


def lock(date: str | None = None) -> PackageLock:
    return PackageLock("bookworm", "runtime", "bookworm", "0" * 64, (LIBC,), date)


def test_a_dated_lock_asks_for_the_day_after_first() -> None:
    assert snapshot_ids(lock("20261128T220000Z"), None) == (
        "20261129T220000Z", "20261129T040000Z", "20261128T220000Z", "20261201T220000Z",
    )  # fmt: skip


def test_an_older_lock_asks_for_days_after_its_newest_package() -> None:
    built = int(datetime(2026, 11, 20, tzinfo=UTC).timestamp())
    moments = snapshot_ids(lock(), built)
    assert moments[0] == "20261121T000000Z"
    assert list(moments) == sorted(moments)
    assert snapshot_ids(lock(), None) == ()


def test_the_setting_is_one_pattern_for_both_archives(tmp_path: Path) -> None:
    for text in (
        "https://s.example/@PATH@/@SNAPSHOTID@/",
        "https://s.example/debian/@SNAPSHOTID@/",
    ):
        settings = make_settings(tmp_path, debian_snapshot=text)
        assert snapshot_patterns(settings, SOURCES) == {
            name: f"https://s.example/{name}/@SNAPSHOTID@/"
            for name in ("debian", "debian-security")
        }


@pytest.mark.skipif(shutil.which("apt-config") is None, reason="not installed: apt-config")
@pytest.mark.parametrize(
    ("extra", "debian", "security"),
    [
        ("", "snap.example/archive/debian", "snap.example/archive/debian-security"),
        (
            'Acquire::Snapshots::URI::Host::deb.example "https://h.example/@PATH@/@SNAPSHOTID@/";',
            "h.example/debian",
            "snap.example/archive/debian-security",
        ),
        (
            'Acquire::Snapshots::URI::Override::Origin::Debian "https://o.example/@SNAPSHOTID@";',
            "o.example",
            "snap.example/archive/debian-security",
        ),
        ('Acquire::Snapshots::URI::Override::Label::Debian "no";', None,
         "snap.example/archive/debian-security"),
        ("#clear Acquire::Snapshots;", None, None),
    ],
)  # fmt: skip
def test_apts_configuration_names_the_archive(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    extra: str,
    debian: str | None,
    security: str | None,
) -> None:
    config = tmp_path / "apt.conf"
    config.write_text(f"{APT_3}{extra}\n")
    monkeypatch.setenv("APT_CONFIG", str(config))
    found = snapshot_patterns(make_settings(tmp_path), SOURCES)
    wanted = {"debian": debian, "debian-security": security}
    assert {name: pattern.rstrip("/") for name, pattern in found.items()} == {
        name: f"https://{place}/@SNAPSHOTID@" for name, place in wanted.items() if place
    }
    assert snapshot_patterns(make_settings(tmp_path, debian_snapshot="no"), SOURCES) == {}


def test_without_apt_there_is_no_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert snapshot_patterns(make_settings(tmp_path), SOURCES) == {}


def test_where_a_package_lay() -> None:
    patterns = {"debian": "https://s.example/debian/@SNAPSHOTID@/"}
    assert snapshot_urls(LIBC, patterns, ("1", "2")) == (
        "https://s.example/debian/1/pool/c/libc6%2Bdeb.deb",
        "https://s.example/debian/2/pool/c/libc6%2Bdeb.deb",
    )
    assert snapshot_urls(LIBC, {}, ("1",)) == ()
