"""`{"image": "..."}` and nothing else: what the label of a devel image is worth."""

from __future__ import annotations

import json

from devcontainers import problems

from tests.devcontainer.workplace import Workplace, init
from tests.image.layout import BuiltImage
from wheelyard.contract.editor import metadata


def test_the_label_is_what_the_plan_says_and_the_schema_knows(image: BuiltImage) -> None:
    label = json.loads(image.settings["Labels"]["devcontainer.metadata"])
    assert label == metadata("devel"), "dist/ holds an older image: run `make build`"
    assert problems({"image": "x", **label[0]}) == []


def test_it_is_a_working_environment(place: Workplace) -> None:
    init(place)
    place.write({"image": place.read()["image"]})
    assert place.up()["remoteUser"] == "dev"
    found = place.shell("id -un; id -u; command -v python; cat /proc/1/comm; touch probe")
    assert found.splitlines() == ["dev", str(place.uid), "/opt/venv/bin/python", "docker-init"]
    assert place.output("python", "-c", "import torch; print(torch.ones(2).sum().item())") == "2.0"


def test_an_editor_is_told_extensions_settings_and_ports(place: Workplace) -> None:
    init(place)
    place.write({"image": place.read()["image"]})
    said = place.call("read-configuration", "--include-merged-configuration")
    assert said.returncode == 0, said.stderr
    merged = json.loads(said.stdout)["mergedConfiguration"]
    (editor,) = merged["customizations"]["vscode"]
    assert "charliermarsh.ruff" in editor["extensions"]
    assert editor["settings"]["python.defaultInterpreterPath"] == "/opt/venv/bin/python"
    assert merged["remoteUser"] == "dev"
    assert merged["forwardPorts"] == [8888, 6006]
