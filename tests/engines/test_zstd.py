"""Layers packed again as engines read them: they unpack each and hold it against its diff_id."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny import make_tiny

from tests.engines.conftest import CONTAINERD, NEW, OLD
from tests.engines.daemons import Engine, temporary_folder
from tests.engines.podman import Storage
from tests.engines.test_pinned import registry
from tests.needs import need_to_be_root, need_tools
from wheelyard.cli import main
from wheelyard.images.build.build import build_images

RUNTIME = "pytorch:2.3.1-cuda12.1-cudnn8.9-py3.11"
Push = Callable[[str], str]


@pytest.fixture
def push(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Iterator[Push]:
    """Push the small image in a packing to a registry on loopback; its name there."""
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    tiny = make_tiny(tmp_path / "tiny")
    build_images([tiny.cell("runtime")], tiny.plan, tmp_path / "dist", tiny.context)
    with registry(tmp_path) as address:

        def call(compression: str) -> str:
            words = ["push", "runtime", "--registry", f"http://{address}", "--json", "--no-attest"]
            words += ["--compression", compression, "--output", str(tmp_path / "dist")]
            words += ["--project", str(tiny.folder)]
            words += ["--cache-dir", str(tiny.context.settings.cache_dir)]
            assert main(words) == 0
            (pushed,) = json.loads(capsys.readouterr().out)
            return f"{address}/{RUNTIME.partition(':')[0]}@{pushed['digest']}"

        yield call


def diff_ids(name: str, dist: Path) -> list[str]:
    """What the pushed image's config says, seen by skopeo; eStargz adds two files to each layer."""
    shown = run("skopeo", "inspect", "--config", "--tls-verify=false", f"docker://{name}")
    seen: list[str] = json.loads(shown)["rootfs"]["diff_ids"]
    (image,) = json.loads((dist / "build.json").read_text())["images"]
    plain = [layer["diff_id"] for layer in image["layers"]]
    assert len(seen) == len(plain)
    assert set(seen).isdisjoint(plain) or seen == plain
    return seen


def run(*argv: str | Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(list(map(str, argv)), env=env, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@pytest.mark.parametrize(
    ("engine", "compression"),
    [
        (OLD, "estargz"),
        *((kind, way) for kind in (NEW, CONTAINERD) for way in ("zstd", "estargz")),
    ],
    indirect=["engine"],
)
def test_docker_pulls_what_is_pushed_in_another_packing(
    engine: Engine, compression: str, push: Push, tmp_path: Path
) -> None:
    name = push(compression)
    assert name.rpartition("@")[2] in run("docker", "pull", name, env=engine.environment)
    shown = ("docker", "inspect", "--format", "{{json .RootFS.Layers}}", name)
    assert json.loads(run(*shown, env=engine.environment)) == diff_ids(name, tmp_path / "dist")


@pytest.mark.parametrize("compression", ["zstd", "estargz"])
def test_podman_and_buildah_pull_it(compression: str, push: Push, tmp_path: Path) -> None:
    need_to_be_root()
    need_tools("podman", "buildah", "skopeo", "unshare", "setpriv")
    name = push(compression)
    with temporary_folder() as folder, temporary_folder() as state:
        storage = Storage(folder, state)
        storage.podman("pull", "--quiet", "--tls-verify=false", name)
        (image,) = json.loads(storage.podman("image", "inspect", name))
        assert image["RootFS"]["Layers"] == diff_ids(name, tmp_path / "dist")
        container = storage.buildah("from", "--pull-never", name).strip()
        assert json.loads(storage.buildah("inspect", container))["FromImageDigest"] in name


def test_umoci_unpacks_estargz(push: Push, tmp_path: Path) -> None:
    """umoci knows no zstd, and refuses a layer whose content is not its diff_id."""
    need_to_be_root()
    need_tools("umoci", "skopeo")
    name = push("estargz")
    layout = f"{tmp_path}/layout:it"
    run("skopeo", "copy", "--src-tls-verify=false", f"docker://{name}", f"oci:{layout}")
    run("umoci", "unpack", "--image", layout, tmp_path / "bundle")
    cell = tmp_path / "bundle/rootfs/opt/wheelyard/cell.json"
    assert json.loads(cell.read_text())["id"].startswith("pytorch-2.3.1")
