"""`wheelyard verify` in an engine: a real image, once."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.image.box import Box
from wheelyard.cli import main


def test_an_image_proves_itself_in_an_engine_once(
    box: Box, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if box.backend != "docker":
        pytest.skip("in a chroot this would unpack the image a second time")
    words = [
        "verify", box.image.id, "--backend", "docker", "--group", "versions",
        "--output", str(box.image.dist), "--report", str(tmp_path),
    ]  # fmt: skip
    assert main(words) == 0, capsys.readouterr().out
    (image,) = json.loads((tmp_path / "report.json").read_text())["images"]
    assert (image["digest"], image["backend"]) == (box.image.digest, "docker")
    cases = [case.get("name") for case in ET.parse(tmp_path / "junit.xml").iter("testcase")]
    assert cases == [check["name"] for check in image["checks"]]
    assert "versions.python" in cases
    assert box.image.id in (tmp_path / "index.html").read_text()
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    again = capsys.readouterr()
    assert "unchanged since it was tested" in again.err
    assert json.loads(again.out)["images"] == [image]
