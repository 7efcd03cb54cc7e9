"""What an update fixes: changelogs inside packages, and advisories about wheels."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
from locking import make_settings
from test_lock_debian import Archive, needs_apt, resolve

# A fixture is found by its name in this module.
from test_lock_debian import archive as archive
from test_watch_packages import lock_of, serving
from tiny import make_tiny

from wheelyard.cli import main
from wheelyard.commands.upstream import _as_json
from wheelyard.console.progress import QuietReporter
from wheelyard.context import Context
from wheelyard.errors import FetchError, SettingsError, UsageError
from wheelyard.lock.upstream.advisories import (
    Advisory,
    check_advisories,
    fixed_in,
    is_affected,
    read_advisories,
)
from wheelyard.lock.upstream.changelog import (
    Fix,
    fixes_since,
    fixes_text,
    read_changelog,
    version_key,
)
from wheelyard.lock.upstream.packages import check_suite
from wheelyard.oci.documents import read_document

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
    assert fixes_text(found["tool 1:1.0+b1"].fixes or ()) == (
        "high: CVE-2026-0001, CVE-2026-0002; low: CVE-2025-77777"
    )
    assert _as_json(found["tool 1:1.0+b1"])["fixes"] == [
        {"name": names[0], "severity": "high", "version": "1:1.2-1"},
        {"name": names[1], "severity": "high", "version": "1:1.2-1"},
        {"name": names[2], "severity": "low", "version": "1:1.1-1"},
    ]


def advisory(**fields: object) -> dict[str, object]:
    affected = {
        "package": {"ecosystem": "PyPI", "name": "Torch"},
        "ranges": [
            {"type": "GIT", "events": [{"introduced": "0"}]},
            {
                "type": "ECOSYSTEM",
                "events": [
                    {"introduced": "2.4"}, {"fixed": "2.5.1"}, {"fixed": "2.2.2"},
                    {"introduced": "0"},
                ],
            },
        ],
        "versions": ["2.3.0"],
    }  # fmt: skip
    made = {"id": "PYSEC-1", "aliases": ["CVE-2026-1111"], "affected": [affected]}
    return made | {"summary": "It\nfails", "database_specific": {"severity": "MODERATE"}} | fields


@pytest.mark.parametrize(
    ("version", "fixed"),
    [
        ("0.1", "2.2.2"), ("2.2.1", "2.2.2"), ("2.2.2", None), ("2.3.0+cu121", "2.5.1"),
        ("2.3.1", None), ("2.4.0", "2.5.1"), ("2.4rc1", None), ("2.5.0+cu121", "2.5.1"),
        ("2.5.1+cu121", None), ("3.0", None),
    ],
)  # fmt: skip
def test_advisories_are_matched_by_version(version: str, fixed: str | None) -> None:
    found = read_document(Advisory, json.dumps(advisory()))
    assert is_affected(found, "torch", version) is (fixed is not None)
    assert not is_affected(found, "torchvision", version)
    if fixed:
        assert fixed_in(found, "torch", version) == fixed


def test_the_last_affected_version_is_affected() -> None:
    events = [{"introduced": "1"}, {"last_affected": "2"}]
    ranges = [{"type": "ECOSYSTEM", "events": events}]
    affected = {"package": {"ecosystem": "PyPI", "name": "x"}, "ranges": ranges}
    found = read_document(Advisory, json.dumps({"id": "A", "affected": [affected]}))
    told = [is_affected(found, "x", version) for version in ("0.9", "1", "2", "2+cpu", "2.1")]
    assert told == [False, True, True, True, False]
    assert fixed_in(found, "x", "2") is None


def test_the_command_names_advisories_of_the_locked_wheels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = make_tiny(tmp_path / "tiny")
    context = tiny.context
    again = advisory(id="GHSA-1", aliases=["CVE-2026-1111"])
    open_one = advisory(id="PYSEC-2", aliases=[], affected=[
        {"package": {"ecosystem": "PyPI", "name": "pip"}, "versions": ["26.0"]},
        {"package": {"ecosystem": "npm", "name": "demo"}, "versions": ["1.0"]},
    ])  # fmt: skip
    torch = advisory(affected=[
        {"package": {"ecosystem": "PyPI", "name": "torch"},
         "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "2"}, {"fixed": "2.6"}]}]},
    ])  # fmt: skip
    again["affected"] = torch["affected"]
    withdrawn = torch | {"id": "PYSEC-3", "aliases": [], "withdrawn": "2026-01-01T00:00:00Z"}
    every = [torch, again, open_one, withdrawn]
    (tmp_path / "list.json").write_text(json.dumps(every))
    (tmp_path / "osv.json").write_text(json.dumps({"vulns": every}))
    with zipfile.ZipFile(tmp_path / "osv.zip", "w") as archive:
        for number, entry in enumerate(every):
            archive.writestr(f"{number}.json", json.dumps(entry))
    found = check_advisories(context, str(tmp_path / "list.json"))
    for name in ("osv.json", "osv.zip"):
        assert check_advisories(context, str(tmp_path / name)) == found
        assert check_advisories(context, (tmp_path / name).as_uri()) == found
    pip, by_torch = found
    assert (pip.kind, pip.subject, pip.fixes) == ("advisory", "pip 26.0", ())
    assert pip.detail == "PYSEC-2: no fixed version is known: It\nfails"
    assert by_torch.subject == "torch 2.3.1"
    assert by_torch.detail.startswith("GHSA-1 (CVE-2026-1111): fixed in 2.6: ")
    assert by_torch.fixes == (Fix("CVE-2026-1111", "medium", "2.6"),)
    assert len(by_torch.locks) == 2
    argv = ["upstream", "check", "--project", str(tiny.folder), "--advisories", "x", "--bases-only"]
    assert main([*argv[:1], "refresh", *argv[2:6]]) == UsageError.exit_code
    assert "only `upstream check` takes --advisories" in capsys.readouterr().err


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"[1]", b"3", b'{"vulns": 3}', b'{"id": 1}', b'[{"id": "A", "affected": 3}]',
        b"PK\x03\x04 and more", b"[" * 100_000, b"\xff", b'{"id": "A", "aliases": [1]}',
    ],
)  # fmt: skip
def test_what_is_no_advisory_is_said(data: bytes, tmp_path: Path) -> None:
    context = Context(make_settings(tmp_path), QuietReporter(None))
    path = tmp_path / "odd.json"
    path.write_bytes(data)
    with pytest.raises(SettingsError, match=r"--advisories .*odd\.json: not in OSV's format"):
        read_advisories(context, str(path))
    with pytest.raises(SettingsError, match="No such file"):
        read_advisories(context, str(tmp_path / "gone.json"))
    with pytest.raises(FetchError, match="--advisories file:"):
        read_advisories(context, (tmp_path / "gone.json").as_uri())
