"""`wheelyard build --load` into each engine: the image is there, runs, and is not sent twice."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.engines.conftest import REPOSITORY
from tests.engines.daemons import Engine
from tests.image.layout import BuiltImage, read_built
from tests.peers.command import wheelyard
from tests.peers.project import machine_cache
from wheelyard.engines.docker import uses_containerd

SELECTOR = "pytorch-2.3.1-runtime"
TIMEOUT = 600
IMPORT = "import os, torch; print(os.getuid(), torch.__version__, torch.ones(2, 2).sum().item())"


@pytest.fixture(scope="module")
def first(engine: Engine, scratch: Path) -> subprocess.CompletedProcess[str]:
    """A build into an engine that has nothing."""
    return build(engine, scratch)


@pytest.fixture(scope="module")
def image(first: subprocess.CompletedProcess[str], scratch: Path) -> BuiltImage:
    """What that build made."""
    assert first.returncode == 0, first.stderr
    (image,) = read_built(scratch / "dist")
    return image


def build(engine: Engine, folder: Path) -> subprocess.CompletedProcess[str]:
    """The command as a user gives it, with this user's cache."""
    given: list[str | Path] = ["build", SELECTOR, "--load", "--output", folder / "dist"]
    given += ["--project", REPOSITORY, "--cache-dir", machine_cache()]
    return wheelyard(given, folder, engine.client_settings, timeout=TIMEOUT)


def run(engine: Engine, image: BuiltImage, *command: str) -> str:
    """What a command prints in a container of the image's first tag."""
    docker = ["docker", "run", "--rm", "--network=none", image.tags[0], *command]
    done = subprocess.run(
        docker, check=False, capture_output=True, text=True, env=engine.environment, timeout=TIMEOUT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_there_under_all_its_tags(engine: Engine, image: BuiltImage) -> None:
    expected = image.manifest["config"]["digest"]
    if uses_containerd(engine.client):
        expected = image.digest
    for tag in image.tags:
        found = engine.client.images.get(tag)
        assert found.id == expected
        assert found.attrs["RootFS"]["Layers"] == image.config["rootfs"]["diff_ids"]
        assert found.attrs["Config"]["Labels"] == image.settings["Labels"]


def test_torch_computes_as_the_image_s_own_user(engine: Engine, image: BuiltImage) -> None:
    uid, version, total = run(engine, image, "python", "-c", IMPORT).split()
    assert uid == "1000"
    assert version.partition("+")[0] == image.cell["framework_version"]
    assert float(total) == 4.0


def test_run_starts_it_with_this_folder(engine: Engine, image: BuiltImage, scratch: Path) -> None:
    """`wheelyard run`: the image is there, so nothing is built; what it writes is the caller's."""
    folder = scratch / "mine"
    folder.mkdir(exist_ok=True)
    given: list[str | Path] = ["run", "--project", REPOSITORY, "--output", scratch / "dist"]
    given += [SELECTOR, "python", "-c", f"{IMPORT}; open('checkpoint', 'w').write('x')"]
    done = wheelyard(given, folder, engine.client_settings, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == str(os.getuid())
    assert (folder / "checkpoint").stat().st_uid == os.getuid()
    failing = [*given[:-2], "-c", "raise SystemExit(7)"]
    assert wheelyard(failing, folder, engine.client_settings, timeout=TIMEOUT).returncode == 7


def test_what_is_started_later_sees_the_image_s_files_as_its_user(
    engine: Engine, image: BuiltImage
) -> None:
    container = engine.client.containers.run(
        image.tags[0], ["sleep", "infinity"], detach=True, init=True, network_mode="none"
    )
    try:
        asked = ["python", "-c", "import os, sys; print(os.getuid(), sys.prefix)"]
        code, said = container.exec_run(asked)
        assert isinstance(said, bytes)
        assert (code, said.split()) == (0, [b"1000", b"/opt/venv"])
    finally:
        container.remove(force=True)


def test_selfcheck_passes_every_version(engine: Engine, image: BuiltImage) -> None:
    assert_versions(json.loads(run(engine, image, "selfcheck", "--json", "versions")))


def test_what_is_there_is_not_sent_again(
    engine: Engine,
    image: BuiltImage,
    first: subprocess.CompletedProcess[str],
    scratch: Path,
) -> None:
    sending = f"load {image.tags[0]}"
    assert sending in first.stderr
    again = build(engine, scratch)
    assert again.returncode == 0, again.stderr
    assert sending not in again.stderr


def assert_versions(report: dict[str, Any]) -> None:
    """Everything that has a version was asked for it, and it is the cell's."""
    others = {check["name"]: check["reason"] for check in report["checks"] if not passed(check)}
    assert "none answers here" in others.pop("versions.driver", "none answers here")  # no GPU
    assert others == {}
    assert {"versions.pytorch", "versions.cudart", "versions.cudnn"} <= {
        check["name"] for check in report["checks"]
    }


def passed(check: dict[str, Any]) -> bool:
    return bool(check["status"] == "pass")
