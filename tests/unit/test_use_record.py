"""The record of what was played in images: later runs replace earlier ones, failures stand out."""

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


def test_the_page_counts_and_says_what_failed() -> None:
    page = report.page([entry("docker", report.PASSED, report.FAILED, report.LEFT_OUT)])
    assert "1 passed, 1 failed, 1 not applicable" in page
    assert "| story 0 | yes |" in page
    assert "| story 1 | **FAILED** |" in page
    assert "story 1, dev: `OSError: full`" in page
    assert "| story 2 |" not in page
