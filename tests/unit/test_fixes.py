"""What an update fixes: changelogs inside packages, and advisories about wheels."""

from __future__ import annotations

import gzip
import io
import itertools
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from locking import make_settings
from test_lock_debian import Archive, needs_apt, resolve

# A fixture is found by its name in this module.
from test_lock_debian import archive as archive
from test_watch_packages import lock_of, serving

from builder.commands.upstream import _as_json, _fixes
from builder.console.progress import QuietReporter
from builder.context import Context
from builder.upstream.changelog import Fix, fixes_since, read_changelog, version_key
from builder.upstream.packages import check_suite

CHANGELOG = """\
tool (1:1.2-1) bookworm-security; urgency=high

  * Do not read behind the end (CVE-2026-0001, CVE-2026-0002). Closes: #1.
  * CVE-2026-0001 once more.

 -- T <t@example.org>  Mon, 27 Apr 2026 22:14:33 +0200

tool (1:1.1-1) bookworm; urgency=low

  * A leak (CVE-2025-77777), and a part of CVE-2026-0002.

 -- T <t@example.org>  Mon, 27 Apr 2025 22:14:33 +0200

tool (1:1.0) bookworm; urgency=medium

  * CVE-2024-0001 was fixed in what the lock has.

 -- T <t@example.org>  Mon, 27 Apr 2024 22:14:33 +0200
"""


@pytest.mark.parametrize(
    ("since", "names"),
    [
        ("1:1.2-1", []),
        ("1:1.1-1", ["CVE-2026-0001", "CVE-2026-0002"]),
        ("1:1.1~rc1-1", ["CVE-2026-0001", "CVE-2026-0002", "CVE-2025-77777"]),
        ("1:1.0-1", ["CVE-2026-0001", "CVE-2026-0002", "CVE-2025-77777"]),
        ("2:0-1", []),
    ],
)
def test_only_newer_entries_count(since: str, names: list[str]) -> None:
    found = fixes_since(CHANGELOG, since)
    assert [fix.name for fix in found] == names
    if "CVE-2025-77777" in names:
        assert found[1] == Fix("CVE-2026-0002", "high", "1:1.2-1")
        assert found[2] == Fix("CVE-2025-77777", "low", "1:1.1-1")


VERSIONS = (
    "0", "1", "1.0", "1.0~~", "1.0~rc1", "1.0-1", "1.0-1+b1", "1.0-1+deb12u9", "1.0-1+deb12u14",
    "1.0-1~bpo12+1", "1.0-0", "1.0+dfsg-1", "1.0a-1", "1.0.1-1", "1:0.1-1", "1.0-1-2", "10", "9",
    "2.36-9+deb12u9", "2.36-10", "1.2.13.dfsg-1", "6.4+20240113-1", "6.4-4", "1.0-1.1", "1.0-01",
)  # fmt: skip


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="not installed: dpkg")
def test_versions_are_ordered_as_dpkg_orders_them() -> None:
    pairs = list(itertools.combinations(VERSIONS, 2))
    script = "".join(
        f"dpkg --compare-versions {a} {relation} {b} && echo {relation} || true\n"
        for a, b in pairs
        for relation in ("lt", "eq", "gt")
    )
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)

    def relation(a: str, b: str) -> str:
        one, other = version_key(a), version_key(b)
        return "lt" if one < other else "gt" if one > other else "eq"

    assert [relation(a, b) for a, b in pairs] == done.stdout.split()


def ar(*members: tuple[str, bytes]) -> bytes:
    parts = [b"!<arch>\n"]
    for name, data in members:
        parts += [f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode(), data]
        parts.append(b"\n" * (len(data) % 2))
    return b"".join(parts)


def tar(mode: str, **files: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=f"w:{mode}") as made:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(f"./usr/share/doc/tool/{name.replace('_', '.')}")
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
    return out.getvalue()


PACKED = gzip.compress(CHANGELOG.encode())


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (ar(("data.tar.xz", tar("xz", x=b"", changelog_Debian_gz=PACKED))), CHANGELOG),
        (ar(("control.tar", b"odd"), ("data.tar/", tar("", changelog_gz=PACKED))), CHANGELOG),
        (
            ar(
                ("data.tar.gz", tar("gz", changelog_gz=gzip.compress(b"2026: new"))),
            ),
            None,
        ),
        (ar(("data.tar.gz", tar("gz", copyright=b"x"))), None),
    ],
    ids=["xz", "native", "upstream's", "none"],
)
def test_the_changelog_in_a_package(data: bytes, found: str | None, tmp_path: Path) -> None:
    deb = tmp_path / "tool.deb"
    deb.write_bytes(data)
    assert read_changelog(deb, "tool") == found


@pytest.mark.parametrize(
    "data",
    [
        b"", b"!<arch>\n", ar(("data.tar.xz", b"no tar")), ar(("data.tar", b"")),
        ar(("data.tar.xz", tar("xz", changelog_Debian_gz=PACKED)[:90])),
        ar(("data.tar", tar("", changelog_Debian_gz=b"no gzip"))),
        b"!<arch>\n" + b"x" * 60, b"!<arch>\ndata",
    ],
)  # fmt: skip
def test_what_is_no_package_is_said(data: bytes, tmp_path: Path) -> None:
    deb = tmp_path / "tool.deb"
    deb.write_bytes(data)
    with pytest.raises(ValueError, match=r".+"):
        read_changelog(deb, "tool")


@needs_apt
def test_successors_tell_what_they_fix(archive: Archive, tmp_path: Path) -> None:
    """Also where only a sibling of the same source has the changelog, or nobody has."""
    archive.publish()
    locked = lock_of(*resolve(archive, tmp_path, ("tool",)).values())
    archive.add("tool", "1:1.2-1", CHANGELOG, Source="tool")
    archive.add("libtool1", "1:1.2-1", Source="tool")
    archive.add("base", "2")
    archive.add("usr-is-merged", "38", Source="merged (99)")
    archive.publish()
    context = Context(make_settings(tmp_path), QuietReporter(None))
    with serving(archive) as (source, _):
        found = {f.subject: f for f in check_suite(context, [locked], [source])}
    names = ["CVE-2026-0001", "CVE-2026-0002", "CVE-2025-77777"]
    assert [fix.name for fix in found["tool 1:1.0+b1"].fixes or ()] == names
    assert found["libtool1 1.0"].fixes is not None
    assert found["base 1"].fixes is None
    assert found["usr-is-merged 37"].fixes is None
    assert _fixes(found["tool 1:1.0+b1"]) == (
        "high: CVE-2026-0001, CVE-2026-0002; low: CVE-2025-77777"
    )
    assert _as_json(found["tool 1:1.0+b1"])["fixes"] == [
        {"name": names[0], "severity": "high", "version": "1:1.2-1"},
        {"name": names[1], "severity": "high", "version": "1:1.2-1"},
        {"name": names[2], "severity": "low", "version": "1:1.1-1"},
    ]
