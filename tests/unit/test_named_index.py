"""An index per CUDA: named in the matrix, its URL a setting; facts, plan, lock and files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import planning
import pytest
import yaml
from locking import Index, sha256, torch_index
from wheels import make_wheel

from wheelyard.cli import main
from wheelyard.console.progress import QuietReporter
from wheelyard.contract.imageconfig import image_config
from wheelyard.errors import FetchError, LockError, MatrixError, SettingsError
from wheelyard.fetching.fetch import fetch_all
from wheelyard.lock.index import locate
from wheelyard.lock.inputs import cells_by_id, requirements_inputs
from wheelyard.lock.lockfile import read_requirements_lock, render_requirements_lock
from wheelyard.lock.resolve import index_urls, resolve_cell
from wheelyard.lock.uv import ResolutionRequest, compile_argv, index_environment
from wheelyard.model import Cell, Plan, RequirementsLock
from wheelyard.planning.explain import explain
from wheelyard.planning.facts import CPU, Upstream, make_release
from wheelyard.planning.matrix import load_matrix
from wheelyard.planning.plan import make_plan
from wheelyard.rendering.devcontainers import variants
from wheelyard.settings import Settings, load_settings

CU118 = {
    "nvidia-cuda-runtime-cu11": "==11.8.89",
    "nvidia-cudnn-cu11": "==8.7.0.84",
}
FACTS: Upstream = {
    "pytorch": {
        "2.3.1": planning.torch("2.3.1", "12.1", "8.9.2.26"),
        "2.3.1+cu118": make_release("2.3.1+cu118", "x.whl", "11.8", ["3.11"], CU118),
        "2.3.1+cpu": make_release("2.3.1+cpu", "y.whl", CPU, ["3.11"], {}),
    }
}
INDEXES = {
    "11.8": {"index": "torch-cu118", "local": "cu118"},
    "12.1": {"index": "torch-cu121", "local": "cu121"},
    "cpu": {"index": "torch-cpu", "local": "cpu"},
}


def document(**axes: Any) -> dict[str, Any]:
    wanted = {
        "cuda": ["11.8", "12.1", "cpu"], "cudnn": ["8.7", "8.9", "none"],
        "framework": ["pytorch 2.3.1"], "flavour": ["runtime"],
    }  # fmt: skip
    data = planning.document(axes=wanted | axes)
    data["frameworks"]["pytorch"]["indexes"] = INDEXES
    return data


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return make_plan(load_matrix(planning.write(tmp_path, document())), FACTS)


def cell_of(plan: Plan, cuda: str) -> Cell:
    return next(cell for cell in plan.cells if cell.cuda == cuda)


class Site:
    """The default index and one with CUDA 11.8 and CPU builds, each on a port of its own."""

    def __init__(self, folder: Path) -> None:
        self.default = torch_index(folder / "default")
        self.default.add("pip", "26.0")
        self.other = Index(folder / "other")
        self.add_torch("2.3.1+cu118", [f"{n}{spec}" for n, spec in CU118.items()])
        self.add_torch("2.3.1+cpu", [])
        for name, spec in CU118.items():
            self.other.add(name, spec.removeprefix("=="))
        self.urls = ("", "")

    def add_torch(self, version: str, requires: list[str]) -> Path:
        lines = "".join(f"Requires-Dist: {line}\n" for line in [*requires, "filelock"])
        return make_wheel(self.other.folder / "files", "torch", version, metadata=lines)

    def settings(self, folder: Path, **named: str) -> Settings:
        (folder / "matrix.yaml").touch()
        text = " ".join(f"{name.replace('_', '-')}={url}" for name, url in named.items())
        return load_settings(
            {
                "project": str(folder),
                "cache_dir": str(folder / "cache"),
                "index_url": self.urls[0],
                "indexes": text or None,
            },
            {},
        )


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path / "site")
    with made.default.serve() as default, made.other.serve() as other:
        made.urls = (default, other)
        yield made


def lock(cell: Cell, plan: Plan, settings: Settings) -> RequirementsLock:
    inputs = requirements_inputs(cell, cells_by_id(plan.cells))
    return resolve_cell(cell, inputs, None, {}, settings)


def test_the_default_index_wins_where_it_has_the_build(plan: Plan) -> None:
    assert [(cell.id, cell.index) for cell in plan.cells] == [
        ("pytorch-2.3.1-cuda11.8-cudnn8.7-py3.11-runtime", "torch-cu118"),
        ("pytorch-2.3.1-cuda12.1-cudnn8.9-py3.11-runtime", None),
        ("pytorch-2.3.1-cpu-py3.11-runtime", "torch-cpu"),
    ]
    assert cell_of(plan, "11.8").requirements[0] == "torch==2.3.1+cu118"
    assert cell_of(plan, "11.8").tags[:2] == (
        "pytorch:2.3.1-cuda11.8-cudnn8.7-py3.11", "pytorch:2.3.1-cuda11.8",
    )  # fmt: skip
    assert cell_of(plan, "cpu").tags[:2] == ("pytorch:2.3.1-cpu-py3.11", "pytorch:2.3.1-cpu")
    assert "pytorch:latest" in cell_of(plan, "12.1").tags


def test_a_build_without_facts_says_how_to_get_them(tmp_path: Path) -> None:
    matrix = load_matrix(planning.write(tmp_path, document(cuda=["12.1"], cudnn=["8.9"])))
    facts = {"pytorch": {"2.3.1": FACTS["pytorch"]["2.3.1"]}}
    made = make_plan(matrix, facts)
    assert "built for CUDA 12.1" in explain(matrix, facts, made, "pytorch-2.3.1-cuda11.8")
    wide = load_matrix(planning.write(tmp_path, document()))
    with pytest.raises(
        MatrixError, match=r"no upstream facts about PyTorch 2\.3\.1\+cu118"
    ) as caught:
        make_plan(wide, facts)
    assert "--indexes torch-cu118=URL" in str(caught.value)


def test_it_locks_from_the_named_index_and_the_rest_from_the_default(
    tmp_path: Path, plan: Plan, site: Site
) -> None:
    cell = cell_of(plan, "11.8")
    settings = site.settings(tmp_path, torch_cu118=site.urls[1])
    locked = lock(cell, plan, settings)
    versions = {wheel.name: wheel.version for wheel in locked.wheels}
    assert versions == {
        "torch": "2.3.1+cu118", "nvidia-cuda-runtime-cu11": "11.8.89",
        "nvidia-cudnn-cu11": "8.7.0.84", "filelock": "3.1", "pip": "26.0",
    }  # fmt: skip
    text = render_requirements_lock(locked)
    assert "http" not in text
    path = tmp_path / "images" / cell.id / "requirements.lock"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert read_requirements_lock(path) == locked


def test_its_files_are_fetched_from_there(tmp_path: Path, plan: Plan, site: Site) -> None:
    cell = cell_of(plan, "11.8")
    settings = site.settings(tmp_path, torch_cu118=site.urls[1])
    wheels = lock(cell, plan, settings).wheels
    downloads = locate(wheels, cell.python, settings, index_urls(cell, settings))
    fetched = fetch_all(downloads, tmp_path / "files", settings, QuietReporter(None))
    assert {path.name for path in fetched.values()} == {wheel.filename for wheel in wheels}
    with pytest.raises(FetchError, match="nvidia-cuda-runtime-cu11"):
        locate(wheels, cell.python, settings)  # the default index alone does not have them


def test_a_file_with_another_hash_than_the_lock_is_refused(
    tmp_path: Path, plan: Plan, site: Site
) -> None:
    cell = cell_of(plan, "11.8")
    settings = site.settings(tmp_path, torch_cu118=site.urls[1])
    wheels = lock(cell, plan, settings).wheels
    wheel = site.other.folder / "files" / "torch-2.3.1+cu118-py3-none-any.whl"
    before = sha256(wheel)
    wheel.write_bytes(wheel.read_bytes() + b"more")  # the index still lists the old hash
    assert sha256(wheel) != before
    downloads = locate(wheels, cell.python, settings, index_urls(cell, settings))
    with pytest.raises(FetchError, match=r"torch-2\.3\.1\+cu118-py3-none-any\.whl"):
        fetch_all(downloads, tmp_path / "files", settings, QuietReporter(None))


def test_a_cpu_image_has_no_cuda_at_all(tmp_path: Path, plan: Plan, site: Site) -> None:
    cell = cell_of(plan, "cpu")
    locked = lock(cell, plan, site.settings(tmp_path, torch_cpu=site.urls[1]))
    assert {wheel.name for wheel in locked.wheels} == {"torch", "filelock", "pip"}
    config = image_config(cell, locked)
    assert not [name for name, _ in config.env if name.startswith("NVIDIA")]
    assert "CPU only" in dict(config.labels)["org.opencontainers.image.title"]
    stray = replace(cell, requirements=(*cell.requirements, "nvidia-cudnn-cu12==8.9.2.26"))
    with pytest.raises(
        LockError, match="cuDNN: the cell has none, but nvidia-cudnn-cu12 was resolved"
    ):
        lock(stray, plan, site.settings(tmp_path, torch_cpu=site.urls[1]))


def test_a_build_without_cuda_has_no_dev_container_for_gpus(tmp_path: Path) -> None:
    flavours = ["runtime", "devel"]
    for cuda, cudnn, names in (
        (["cpu"], ["none"], ["pytorch"]),
        (["12.1", "cpu"], ["8.9", "none"], ["pytorch", "pytorch-gpu"]),
    ):
        matrix = document(cuda=cuda, cudnn=cudnn, flavour=flavours)
        cells = make_plan(load_matrix(planning.write(tmp_path, matrix)), FACTS).cells
        found = {variant.name: variant.cell.cuda for variant in variants(cells)}
        assert found == dict.fromkeys(names, cuda[0])


def test_without_the_setting_nothing_is_guessed(tmp_path: Path, plan: Plan, site: Site) -> None:
    with pytest.raises(SettingsError, match='--indexes "torch-cu118=URL"'):
        lock(cell_of(plan, "11.8"), plan, site.settings(tmp_path))


def test_the_lock_is_stale_when_the_index_changes(plan: Plan) -> None:
    cell = cell_of(plan, "11.8")
    index = cells_by_id(plan.cells)
    before = requirements_inputs(cell, index)
    assert requirements_inputs(replace(cell, index="another"), index) != before
    assert requirements_inputs(replace(cell, overrides=("a==1",)), index) != before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("torch-cu118", "is not NAME=URL"),
        ("Torch=http://host/", "is not NAME=URL"),
        ("a=http://host/ a=http://other/", "is given twice"),
        ("a=gopher://host/", "is not a URL that starts with"),
    ],
)
def test_indexes_that_cannot_be_used(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "matrix.yaml").touch()
    with pytest.raises(SettingsError, match=says):
        load_settings({"project": str(tmp_path), "indexes": text}, {})


def test_indexes_come_from_the_config_file_too_and_show_no_login(tmp_path: Path) -> None:
    (tmp_path / "matrix.yaml").touch()
    config = tmp_path / "config.toml"
    config.write_text('[indexes]\ntorch-cu118 = "https://me:secret@host/simple"\n')
    settings = load_settings({"project": str(tmp_path)}, {"WHEELYARD_CONFIG": str(config)})
    assert settings.index("torch-cu118") == "https://me:secret@host/simple"
    assert "secret" not in repr(settings)
    again = load_settings(
        {"project": str(tmp_path)}, {"WHEELYARD_INDEXES": "a=http://h/ b=http://i/"}
    )
    assert again.indexes == (("a", "http://h/"), ("b", "http://i/"))


def test_the_command_line_takes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "matrix.yaml").write_text(yaml.safe_dump(planning.document()))
    code = main(["--project", str(tmp_path), "--indexes", "wrong", "plan"])
    assert code == SettingsError.exit_code
    assert "--indexes" in capsys.readouterr().err


def test_no_login_of_an_index_stands_on_a_command_line() -> None:
    urls = ("http://me:secret@one/simple/", "http://me:secret@two/simple/")
    asked = ResolutionRequest(("torch==2.3.1+cu118",), "3.11", None, indexes=urls)
    assert not [word for word in compile_argv("uv", asked, Path("cache")) if "secret" in word]
    assert index_environment("http://me:secret@host/", urls) == {
        "UV_DEFAULT_INDEX": "http://me:secret@host/", "UV_INDEX": " ".join(urls),
    }  # fmt: skip
    assert index_environment(None, ()) == {}
