"""Layers packed again as Docker reads them: it unpacks each and holds it against its diff_id."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tiny import make_tiny

from tests.engines.conftest import CONTAINERD, NEW
from tests.engines.daemons import Engine
from tests.engines.test_pinned import registry
from wheelyard.cli import main
from wheelyard.images.build.build import build_images

RUNTIME = "pytorch:2.3.1-cuda12.1-cudnn8.9-py3.11"


@pytest.mark.parametrize("engine", [NEW, CONTAINERD], indirect=True)
@pytest.mark.parametrize("compression", ["zstd", "estargz"])
def test_docker_pulls_what_is_pushed_in_another_packing(
    engine: Engine, compression: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    tiny = make_tiny(tmp_path / "tiny")
    build_images([tiny.cell("runtime")], tiny.plan, tmp_path / "dist", tiny.context)
    options = [
        "--project",
        tiny.folder,
        "--output",
        tmp_path / "dist",
        "--compression",
        compression,
    ]
    options += ["--cache-dir", tiny.context.settings.cache_dir, "--json"]
    with registry(tmp_path) as address:
        words = ["push", "runtime", "--registry", f"http://{address}", *options]
        assert main(list(map(str, words))) == 0
        (pushed,) = json.loads(capsys.readouterr().out)
        name = f"{address}/{RUNTIME}"

        def docker(*arguments: str) -> str:
            command = ["docker", *arguments]
            done = subprocess.run(
                command, env=engine.environment, check=False, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        assert pushed["digest"] in docker("pull", name)
        seen = docker("inspect", "--format", "{{json .RootFS.Layers}}", name)
    (image,) = json.loads((tmp_path / "dist/build.json").read_text())["images"]
    diff_ids = [layer["diff_id"] for layer in image["layers"]]
    assert len(json.loads(seen)) == len(diff_ids)
    assert (json.loads(seen) == diff_ids) == (compression == "zstd")  # eStargz adds two files
