"""`wheelyard upstream check`: what moved since the locks, and the exit code that says so."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import planning
import pytest
from facts_index import FactsIndex, serving

from wheelyard.cli import main
from wheelyard.errors import FetchError, UpstreamError
from wheelyard.lock.lockfile import read_requirements_lock, render_requirements_lock
from wheelyard.model import LockedWheel, RequirementsLock
from wheelyard.planning.plan import load_plan

FACTS = "torch-2.3.1-cp311-cp311-manylinux1_x86_64.whl"
AXES = {"framework": ["pytorch 2.3.1"], "cudnn": ["8.9"], "flavour": ["runtime"]}
YOUNG = datetime.now(UTC) - timedelta(days=3)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """One image, locked to torch and pip."""
    planning.write(tmp_path, planning.document(axes=AXES))
    for cell in load_plan(tmp_path).cells:
        wheels = (
            LockedWheel("pip", "26.0", "pip-26.0-py3-none-any.whl", "a" * 64, 1),
            LockedWheel("torch", "2.3.1", FACTS, "b" * 64, 1),
        )
        path = tmp_path / cell.lock
        path.parent.mkdir(parents=True)
        path.write_text(render_requirements_lock(RequirementsLock(cell.id, "0" * 64, wheels)))
        assert read_requirements_lock(path).wheels == wheels
    return tmp_path


def fresh_index(uploaded: str = YOUNG.isoformat()) -> FactsIndex:
    index = FactsIndex()
    for name, filename, digest in (
        ("pip", "pip-26.0-py3-none-any.whl", "a" * 64),
        ("torch", FACTS, "b" * 64),
    ):
        facts = {"hashes": {"sha256": digest}, "upload-time": uploaded}
        index.add(name, filename, b"", **facts)
    index.listed["torch"][0]["hashes"]["sha256"] = "b" * 64
    return index


def check(project: Path, index: FactsIndex, *options: str) -> int:
    with serving(index):
        return main(
            ["--project", str(project), "--cache-dir", str(project / "cache"), "--quiet",
             "--index-url", f"{index.url}/simple", "upstream", "check", "--wheels-only", *options]
        )  # fmt: skip


def kinds(text: str) -> dict[str, str]:
    return {item["what"]: item["kind"] for item in json.loads(text)}


def test_nothing_moved(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(project, fresh_index()) == 0
    assert "nothing changed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        ({"yanked": "crashes"}, "yanked", "crashes"),
        ({"yanked": True}, "yanked", "no reason given"),
        ({"hashes": {"sha256": "c" * 64}}, "replaced", "sha256:cccc"),
        ({"hashes": {}}, "replaced", "sha256:nothing"),
        ({"filename": "pip-26.0-1-py3-none-any.whl"}, "gone", "no longer lists the file"),
    ],
)
def test_a_locked_file_that_moved(
    project: Path,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, object],
    kind: str,
    says: str,
) -> None:
    index = fresh_index()
    index.listed["pip"][0] |= change
    assert check(project, index, "--json") == UpstreamError.exit_code
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["what"]) == (kind, "pip-26.0-py3-none-any.whl")
    assert says in found["detail"]
    assert found["locks"] == ["pytorch-2.3.1-cuda12.1-cudnn8.9-py3.11-runtime"]


def test_a_project_that_vanished(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = fresh_index()
    del index.listed["pip"]
    assert check(project, index) == UpstreamError.exit_code
    assert "no longer has a project pip" in capsys.readouterr().out


def test_releases_that_nobody_has_looked_at(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = fresh_index()
    for version in ("2.3.9", "2.99.0", "2.99.1rc1", "2.98.0"):
        yanked = "bad" if version == "2.98.0" else False
        index.add("torch", FACTS.replace("2.3.1", version), b"", yanked=yanked)
    assert check(project, index, "--json") == UpstreamError.exit_code
    found = json.loads(capsys.readouterr().out)
    assert [(item["kind"], item["what"]) for item in found] == [
        ("release", "pytorch 2.3.9"),
        ("release", "pytorch 2.99.0"),
        ("superseded", "pytorch 2.3.1"),
    ]


def test_a_lock_is_as_old_as_its_newest_file(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = fresh_index("2020-01-01T00:00:00Z")
    assert check(project, index, "--json") == UpstreamError.exit_code
    assert set(kinds(capsys.readouterr().out).values()) == {"old"}
    index.listed["pip"][0]["upload-time"] = YOUNG.isoformat()
    assert check(project, index) == 0
    assert check(project, index, "--max-age", "2") == UpstreamError.exit_code


def test_an_index_without_dates_makes_no_lock_old(project: Path) -> None:
    index = fresh_index()
    for name in ("pip", "torch"):
        del index.listed[name][0]["upload-time"]
    assert check(project, index) == 0


def test_an_index_that_fails_is_no_finding(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = fresh_index()
    index.pages["/simple/pip/"] = (200, "text/html", b"<")
    assert check(project, index) == FetchError.exit_code
    assert "pip" in capsys.readouterr().err
