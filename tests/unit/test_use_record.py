"""The record of what was played in images: what is played again replaces, failures stand out."""

from __future__ import annotations

import json
from pathlib import Path

from tests.use import report


def entry(engine: str, *outcomes: str) -> report.Entry:
    runs = [
        report.run("dev", f"story {number}", outcome, reason="Traceback\nOSError: full")
        for number, outcome in enumerate(outcomes)
    ]
    return report.entry("some-image", "sha256:" + 64 * "0", engine, "1.0", runs)


def test_an_image_in_an_engine_is_recorded_once(tmp_path: Path) -> None:
    file = tmp_path / "new" / "use.json"
    report.write(file, [entry("docker", report.FAILED), entry("podman", report.FAILED)])
    report.write(file, [entry("docker", report.PASSED)])
    found = {item["engine"]: item["runs"][0]["outcome"] for item in json.loads(file.read_text())}
    assert found == {"docker": report.PASSED, "podman": report.FAILED}
    assert file.with_suffix(".md").read_text().count("## some-image") == 2


def played(digest: str, outcome: str, *users: str) -> report.Entry:
    runs = [report.run(user, "story", outcome) for user in users]
    return report.entry("some-image", f"sha256:{64 * digest}", "podman", "1.0", runs)


def read(file: Path) -> dict[str, dict[str, str]]:
    """Outcome by user, by the digest's first digit."""
    found = json.loads(file.read_text())
    return {
        item["digest"][7]: {run["user"]: run["outcome"] for run in item["runs"]} for item in found
    }


def test_a_part_played_later_leaves_the_other_users(tmp_path: Path) -> None:
    file = tmp_path / "use.json"
    report.write(file, [played("a", report.PASSED, "dev", "keep-id")])
    report.write(file, [played("a", report.FAILED, "dev", "root")])
    failed, passed = report.FAILED, report.PASSED
    assert read(file) == {"a": {"keep-id": passed, "dev": failed, "root": failed}}


def test_what_was_played_with_another_digest_keeps_it(tmp_path: Path) -> None:
    file = tmp_path / "use.json"
    old, new = played("a", report.PASSED, "dev", "keep-id"), played("b", report.PASSED, "dev")
    for item in old, new:
        item["runs"].append(report.run("root", "story", report.LEFT_OUT))
        report.write(file, [item])
    passed, left_out = report.PASSED, report.LEFT_OUT
    assert read(file) == {
        "b": {"dev": passed, "root": left_out},
        "a": {"keep-id": passed, "root": left_out},
    }
    report.write(file, [played("c", report.PASSED, "dev", "keep-id", "root")])
    assert list(read(file)) == ["c"]


def test_what_is_not_applicable_leaves_no_entry_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "use.json"
    report.write(file, [played("a", report.LEFT_OUT, "keep-id")])
    report.write(file, [played("b", report.PASSED, "dev")])
    assert list(read(file)) == ["b"]


def test_the_page_counts_and_says_what_failed() -> None:
    page = report.page([entry("docker", report.PASSED, report.FAILED, report.LEFT_OUT)])
    assert "1 passed, 1 failed, 1 not applicable" in page
    assert "| story 0 | yes |" in page
    assert "| story 1 | **FAILED** |" in page
    assert "story 1, dev: `OSError: full`" in page
    assert "| story 2 |" not in page
