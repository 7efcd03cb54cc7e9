"""selfcheck and bytecode in the images, all emulated: minutes where arm64 takes seconds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.built import need_dist
from tests.needs import need_to_be_root, need_tools
from wheelyard.console.progress import QuietReporter
from wheelyard.images.assemble import compile_worker
from wheelyard.oci.layout import Layout
from wheelyard.planning.plan import load_plan
from wheelyard.planning.selector import select
from wheelyard.verify.places import Place, Run, opened

ROOT = Path(__file__).parents[2]
# image -> the version, and what prints it and the CUDA of the libraries
IMAGES = {
    "pytorch:2.15.0-arm64": (
        "2.15.0",
        "import torch; print(torch.__version__, torch.version.cuda)",
    ),
    "jax:0.12.0.1-arm64": (
        "0.12.0.1",
        "import jax, importlib.metadata as m; m.version('jax-cuda13-plugin');"
        "print(jax.__version__, m.version('nvidia-cuda-runtime'))",
    ),
}
SELFCHECK = ("selfcheck",)
COMPARE = """
import importlib.util, sys, sysconfig
from pathlib import Path
scope = {"__name__": "worker"}
exec(sys.argv[1], scope)
sources = sorted(Path(sysconfig.get_path("purelib")).rglob("*.py"))[::20]
compiled = [(path, Path(importlib.util.cache_from_source(str(path)))) for path in sources]
compiled = [(path, pyc) for path, pyc in compiled if pyc.exists()]
others = [str(path) for path, pyc in compiled
          if scope["compile_module"](path.read_bytes(), str(path)) != pyc.read_bytes()]
print(len(compiled), others)
"""


@pytest.fixture(scope="module", params=IMAGES)
def image(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def run(
    request: pytest.FixtureRequest, image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Run]:
    """Run commands in an arm64 image of the layout."""
    need_to_be_root()
    need_tools("qemu-aarch64-static")
    layout = Layout(need_dist(request.config))
    references = layout.references()
    (cell,) = select(load_plan(ROOT), image)
    if cell.tags[0] not in references:
        pytest.skip(f"the image for arm64 is not built: wheelyard build {image} --no-load")
    folder = Path(request.config.getoption("--scratch") or tmp_path_factory.mktemp("arm64"))
    manifest = references[cell.tags[0]].digest
    place = Place("chroot", gpu=False)
    with opened(place, manifest, cell.tags, layout, folder, QuietReporter(None)) as running:
        yield running


def said(run: Run, words: Sequence[str]) -> list[dict[str, Any]]:
    """Run selfcheck and return its checks; none may fail."""
    answer = run((*SELFCHECK, *words, "--json"), lambda _: None)
    assert answer.code == 0, answer.stderr[-2000:] + answer.stdout[-2000:]
    checks: list[dict[str, Any]] = json.loads(answer.stdout)["checks"]
    print(json.dumps([{k: c.get(k) for k in ("name", "status", "detail")} for c in checks]))
    return checks


def test_the_machine_is_arm64(run: Run, image: str) -> None:
    expected, code = IMAGES[image]
    code = f"import platform; print(platform.machine()); {code}"
    answer = run(("/opt/venv/bin/python", "-c", code), lambda _: None)
    assert answer.code == 0, answer.stderr
    machine, version, cuda = answer.stdout.split()
    assert machine == "aarch64"
    assert version.startswith(expected)
    assert cuda.startswith("13.2")


@pytest.mark.parametrize("group", ["versions", "libraries"])
def test_versions_and_libraries(run: Run, group: str) -> None:
    assert said(run, (group,))


def test_a_training(run: Run) -> None:
    assert said(run, ("train", "--device", "cpu", "--model", "mlp", "--samples", "1500"))


def test_bytecode_of_the_other_processor_is_its_own(run: Run) -> None:
    """The image's bytecode was made by amd64's Python; its own, emulated, makes the same."""
    worker = Path(compile_worker.__file__).read_text(encoding="utf-8")
    answer = run(("/opt/venv/bin/python", "-c", COMPARE, worker), lambda _: None)
    assert answer.code == 0, answer.stderr
    count, others = answer.stdout.split(maxsplit=1)
    assert int(count) >= 100
    assert others.strip() == "[]"
