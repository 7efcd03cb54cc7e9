"""A newcomer's three commands: a requirements file and a published set become a pushed image."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from locking import Index
from tiny import Tiny

from tests.peers.command import wheelyard
from tests.peers.project import REPOSITORY
from tests.peers.registries import registry as serve_registry
from wheelyard.images.build.report import read_report
from wheelyard.oci.address import parse_address
from wheelyard.oci.layout import Layout
from wheelyard.planning.catalogue import plan_entries
from wheelyard.planning.plan import load_inputs
from wheelyard.publish.catalogue import publish_catalogue
from wheelyard.publish.published import publications
from wheelyard.registry.client import open_registry
from wheelyard.registry.push import Pushed, push_images


@pytest.fixture
def published(registry_tools: None, tmp_path: Path, tiny: Tiny, tiny_dist: Path) -> Iterator[str]:
    """The address of a registry that has the tiny set with its catalogue."""
    (tmp_path / "registry").mkdir()
    with serve_registry(tmp_path / "registry") as host:
        address = parse_address(f"http://{host}/team")
        with open_registry(address, tiny.context.settings, tiny.context.reporter) as opened:
            layout = Layout(tiny_dist)
            images = publications(layout, tiny.plan.cells, unverified=True)
            results = push_images(opened, layout, images, (), tmp_path / "notes")
            assert all(isinstance(result, Pushed) for result in results), results
            _matrix, upstream, plan = load_inputs(tiny.folder)
            built = read_report(tiny_dist)
            publish_catalogue(opened, plan_entries(plan.cells, upstream, built))
        yield f"http://{host}/team"


def test_three_commands_publish_a_project(published: str, tiny: Tiny, tmp_path: Path) -> None:
    index = Index(tmp_path / "index")
    index.add("extra", "1.0")
    folder = tmp_path / "My Model"
    folder.mkdir()
    (folder / "requirements.txt").write_text("extra\n")
    (folder / "train.py").write_text("import extra\n")
    env = {"WHEELYARD_REGISTRY": published, "WHEELYARD_CACHE": str(tmp_path / "cache")}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return wheelyard(words, folder, env)

    with index.serve() as url:
        env["WHEELYARD_INDEX_URL"] = url
        name = f"{published.removeprefix('http://')}/my-model:latest"
        start = "docker run --gpus all"
        told = {
            "init": "next    wheelyard lock",
            "lock": "Next: wheelyard push, or wheelyard run",
            "push": f"{name} is not signed (--sign-key). It starts by: {start} {name}\n",
        }
        for command, said in told.items():
            done = run(command)
            assert done.returncode == 0, f"{command}: {done.stderr}"
            assert said in done.stdout + done.stderr
        assert run("lock", "--check").returncode == 0
        elsewhere = run("lock", "--registry", published.replace("team", "nobody"))
        assert elsewhere.returncode == 16
        assert "has no catalogue, so no images of a set" in elsewhere.stderr
    image = tiny.cell("runtime").tags[0]
    assert tomllib.loads((folder / "wheelyard.toml").read_text())["image"] == image
    lock = tomllib.loads((folder / "pylock.toml").read_text())
    assert [package["name"] for package in lock["packages"]] == ["extra"]
    base = manifest(f"{published}/{image}")
    assert lock["tool"]["wheelyard"]["base"] == image
    assert lock["tool"]["wheelyard"]["base-digest"] == base[1]
    layers = manifest(f"{published}/my-model:latest")[0]["layers"]
    assert layers[: len(base[0]["layers"])] == base[0]["layers"]


def test_the_template_is_published_as_it_is(published: str, tiny: Tiny, tmp_path: Path) -> None:
    index = Index(tmp_path / "index")
    index.add("einops", "0.8.1")
    for wheel in tiny.wheels.values():
        shutil.copy(wheel, index.folder / "files")
    folder = tmp_path / "copy"
    shutil.copytree(REPOSITORY / "docs/examples/project", folder)
    table = (folder / "pyproject.toml").read_text()
    base = tiny.cell("runtime").tags[0]
    table = table.replace('"pytorch:2.3.1-cuda12.1-cudnn8.9-py3.11"', f'"{base}"')
    (folder / "pyproject.toml").write_text(table)
    env = {"WHEELYARD_REGISTRY": published, "WHEELYARD_CACHE": str(tmp_path / "cache")}
    with index.serve() as url:
        env["WHEELYARD_INDEX_URL"] = url
        for command in ("lock", "push"):
            done = wheelyard((command,), folder, env)
            assert done.returncode == 0, f"{command}: {done.stderr}"
    found, _ = manifest(f"{published}/my-model:0.1.0")
    assert len(found["layers"]) > len(manifest(f"{published}/{base}")[0]["layers"])


def script(example: str) -> str:
    """What an example's jobs run, without the installation of wheelyard itself."""
    text = (REPOSITORY / "docs/examples" / example).read_text()
    jobs = yaml.safe_load(text)
    if example == "project-github.yml":
        lines = [step["run"] for step in jobs["jobs"]["image"]["steps"] if "run" in step]
    else:
        lines = [*jobs["lock"]["script"], *jobs["publish"]["script"]]
    return "\n".join(line for line in lines if not re.match(r"pipx? install|apt-get", line))


@pytest.mark.parametrize("example", ["project-github.yml", "project-gitlab.yml"])
def test_the_examples_for_runners_lock_push_and_sign(
    published: str, tmp_path: Path, example: str
) -> None:
    (folder := tmp_path / "project").mkdir()
    (folder / "train.py").write_text("print(1)\n")
    key, word = tmp_path / "sign.pem", "for tests"
    make = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
    more = ["-aes256", "-pass", f"pass:{word}", "-out", str(key)]
    subprocess.run([*make, *more], check=True, capture_output=True)
    env = {
        "WHEELYARD_REGISTRY": published, "WHEELYARD_CACHE": str(tmp_path / "cache"),
        "WHEELYARD_SIGN_PASSPHRASE": word, "REGISTRY_USER": "anna", "REGISTRY_PASSWORD": "x",
        "SIGN_KEY": key.read_text() if "github" in example else str(key),
        "RUNNER_TEMP": str(tmp_path), "DOCKER_CONFIG": str(tmp_path / "docker"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    for command in ("init", "lock"):
        assert wheelyard((command,), folder, env).returncode == 0
    argv = ["bash", "-euo", "pipefail", "-c", script(example)]
    done = subprocess.run(argv, cwd=folder, env=os.environ | env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    digest = manifest(f"{published}/project:latest")[1]
    tag = f"{published}/project:{digest.replace(':', '-')}.sig"  # where cosign looks
    assert "layers" in manifest(tag)[0]


def manifest(address: str) -> tuple[dict[str, list[object]], str]:
    """An image's manifest and its digest, as a stranger sees them."""
    name = f"docker://{address.partition('//')[2]}"
    raw = ["skopeo", "inspect", "--tls-verify=false", "--raw", name]
    text = subprocess.run(raw, capture_output=True, check=True).stdout
    told = ["skopeo", "inspect", "--tls-verify=false", "--format", "{{.Digest}}", name]
    digest = subprocess.run(told, capture_output=True, check=True, text=True).stdout.strip()
    return json.loads(text), digest
