"""What this repository has for projects of others: the template, and the feature for own images."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.devcontainer.workplace import Workplace, give, init
from tests.image.test_install import WHEEL, make_wheel
from tests.needs import need_tools
from tests.peers.command import wheelyard
from tests.peers.project import REPOSITORY
from wheelyard.console.progress import QuietReporter
from wheelyard.fetching.trust import trust_file
from wheelyard.lock.sources import debian_sources
from wheelyard.settings import Settings

OWN = "own-image:1"
# Somebody's image: Debian with Python and a user, and nothing of ours.
DOCKERFILE = f"FROM {OWN}\nRUN useradd --create-home --shell /bin/bash me\n"


def bootstrap_command(tar: Path, settings: Settings, trust: Path | None) -> list[str]:
    sources = debian_sources("bookworm", settings, QuietReporter(None))
    trusted = [] if trust is None else [f'--aptopt=Acquire::https::CAInfo "{trust}"']
    lines = [f"deb {x.uri} {x.suite} {' '.join(x.components)}" for x in sources]
    head = ["mmdebstrap", "--mode=root", "--variant=minbase", "--include=python3-venv"]
    return [*head, *trusted, "bookworm", str(tar), *lines]


@pytest.fixture
def own_image(place: Workplace, settings: Settings) -> Iterator[str]:
    """Debian with Python in the engine."""
    need_tools("mmdebstrap")
    tar = place.folder / "own.tar"
    command = bootstrap_command(tar, settings, trust_file(settings, place.folder))
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    place.engine.client.api.import_image_from_file(str(tar), *OWN.split(":"))
    tar.unlink()
    yield OWN
    place.engine.client.images.remove(OWN, force=True)


def test_the_feature_gives_an_image_selfcheck_and_an_environment(
    place: Workplace, own_image: str
) -> None:
    command = ["devcontainer", "feature", "--output", str(place.project)]
    done = wheelyard([*command, "--project", str(REPOSITORY)], place.folder, place.variables)
    assert done.returncode == 0, done.stderr
    (place.project / ".devcontainer" / "Dockerfile").write_text(DOCKERFILE)
    (place.project / WHEEL).write_bytes(make_wheel())
    place.write(
        {
            "build": {"dockerfile": "Dockerfile"},
            "remoteUser": "me",
            "features": {"./wheelyard": {}},
        }
    )
    give(place)
    place.with_options("--buildkit", "never").up()
    for shell in ("-c", "-lc"):
        assert place.output("bash", shell, "command -v python") == "/opt/venv/bin/python"
    assert place.shell("id -u; id -Gn").split()[::2] == [str(place.uid), "venv"]
    place.shell(f"pip install --no-index --disable-pip-version-check {WHEEL}")
    assert place.output("wheelyard-probe") == "probe answers"
    done = place.execute("selfcheck", "versions", "--json")
    checks = json.loads(done.stdout)["checks"]
    assert {check["name"] for check in checks}


def test_a_project_from_the_template_trains_and_its_tests_pass(place: Workplace) -> None:
    shutil.copytree(REPOSITORY / "devcontainer/template", place.project, dirs_exist_ok=True)
    init(place)
    place.up()
    tasks = json.loads((place.project / ".vscode/tasks.json").read_text())["tasks"]
    commands = {task["label"]: task["command"] for task in tasks}
    assert "epoch 9: loss" in place.shell(commands["Train"])
    assert "epoch 10: loss" in place.shell(f"{commands['Train']} --resume --epochs 1")
    assert (place.project / "checkpoints/last.pt").stat().st_uid == place.uid
    assert place.shell("ls runs | head -1").startswith("events.out.tfevents")
    done = place.execute("bash", "-c", commands["Test"])
    assert (done.returncode, "OK" in done.stderr + done.stdout) == (0, True), done.stderr
