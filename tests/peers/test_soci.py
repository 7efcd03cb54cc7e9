"""SOCI's index of a plain layer, by Debian trixie's soci 0.4.1: it takes many gzip members for one.

The guide for servers warns of it. When this fails, Debian's soci has learned to read such layers
(awslabs/soci-snapshotter#1834): correct the guide.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tiny import Tiny

from tests.engines import trixie
from tests.peers import lazy
from tests.peers.project import REPOSITORY
from tests.peers.pushed import RUNTIME
from tests.peers.registries import registry
from wheelyard.cli import main
from wheelyard.settings import Settings, load_settings

pytestmark = pytest.mark.usefixtures("at_nobodys_home", "registry_tools", "need_root")
SPAN = 4 << 20  # bytes of the tar that one of SOCI's spans has at most, or little more
Soci = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def settings() -> Settings:
    """This user's, before a test has no home: the cache keeps what is made here once."""
    return load_settings({"project": str(REPOSITORY)})


@pytest.fixture
def soci(
    tiny: Tiny, tiny_dist: Path, need: Callable[..., None], tmp_path: Path, settings: Settings
) -> Iterator[Soci]:
    """soci beside a containerd that has the small image and an index of each of its layers."""
    need("go", "containerd", "ctr-remote", "mmdebstrap")
    root = trixie.trixie_root(settings, ("ca-certificates", "soci-snapshotter"))
    program = trixie.started_from(root, "usr/bin/soci")
    with (
        registry(tmp_path) as address,
        lazy.containerd(tmp_path, lazy.program("snapshotter", settings)) as running,
    ):
        words = ["push", "runtime", "--no-attest", "--registry", f"http://{address}", "--quiet"]
        words += ["--output", str(tiny_dist), "--project", str(tiny.folder)]
        assert main([*words, "--cache-dir", str(tiny.context.settings.cache_dir)]) == 0
        name = f"{address}/{RUNTIME}"
        assert running.ctr("image", "pull", "--plain-http", name).returncode == 0

        def call(*words: str) -> subprocess.CompletedProcess[str]:
            return running.inside(*program, "--address", tmp_path / "c.sock", *words)

        created = call("create", "--min-layer-size", "0", name)
        assert created.returncode == 0, created.stderr
        yield call


def test_an_old_soci_has_one_span_for_a_layer_of_many(soci: Soci, tiny_dist: Path) -> None:
    (image,) = (
        x for x in json.loads((tiny_dist / "build.json").read_text())["images"]
        if x["id"].endswith("-runtime")
    )  # fmt: skip
    largest = max(image["layers"], key=lambda layer: int(layer["unpacked_size"]))
    assert largest["unpacked_size"] > 4 * SPAN
    (index,) = (line.split()[0] for line in soci("ztoc", "list").stdout.splitlines()
                if largest["digest"] in line)  # fmt: skip
    told = json.loads(soci("ztoc", "info", index).stdout)
    assert told["num_spans"] == 1
