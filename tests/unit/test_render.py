"""Rendering: pure, complete, clean; and the committed images are what it gives."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path, PurePosixPath

import planning
import pytest
from locking import devel_cell, runtime_cell

from wheelyard.contract.imageconfig import image_config
from wheelyard.dockerfiles.docker_engine import image_context
from wheelyard.errors import LockError, MatrixError, StorageError
from wheelyard.lock.inputs import cells_by_id, package_inputs, requirements_inputs
from wheelyard.lock.lockfile import render_requirements_lock
from wheelyard.lock.packages import read_package_lock, render_package_lock
from wheelyard.lock.state import load_requirements_lock
from wheelyard.model import Cell, LockedWheel, PackageLock, RequirementsLock
from wheelyard.planning.drivers import driver_floor, require_cuda
from wheelyard.rendering.render import (
    BEGIN,
    END,
    find_drift,
    render_all,
    render_cell,
    write_rendered,
)
from wheelyard.system.templates import make_environment, quoted

ROOT = Path(__file__).parents[2]
CELLS = (runtime_cell(), devel_cell())
WHEEL = LockedWheel("numpy", "1.26.4", "numpy-1.26.4-py3-none-any.whl", "a" * 64, 7)
LOCK = RequirementsLock(CELLS[0].id, "f" * 64, (WHEEL,))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return project_of(tmp_path, CELLS, ROOT / "templates")


def project_of(
    tmp_path: Path, cells: tuple[Cell, ...], templates: Path, *, pip: bool = False
) -> Path:
    """Templates and locks of `cells` in `tmp_path`."""
    shutil.copytree(templates, tmp_path / "templates")
    wheels = (WHEEL, replace(WHEEL, name="pip")) if pip else (WHEEL,)
    index = cells_by_id(cells)
    for cell in cells:
        lock = RequirementsLock(cell.id, requirements_inputs(cell, index), wheels)
        write(tmp_path / cell.lock, render_requirements_lock(lock))
        inputs = package_inputs(cell, index)
        packages = PackageLock(cell.base.name, cell.flavour.name, "bookworm", inputs, ())
        write(tmp_path / cell.base_lock, render_package_lock(packages))
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def drift(project: Path, cells: tuple[Cell, ...] = CELLS) -> list[tuple[str, str]]:
    found = find_drift(project, cells, render_all(project, cells))
    return [(str(item.path), item.kind) for item in found]


def test_the_committed_images_are_what_the_matrix_and_the_locks_render() -> None:
    cells = planning.committed_plan().cells
    assert find_drift(ROOT, cells, render_all(ROOT, cells)) == ()


@pytest.mark.parametrize("cell", planning.committed_plan().cells, ids=lambda cell: str(cell.id))
def test_every_dockerfile_keeps_the_image_contract(cell: Cell) -> None:
    text = (ROOT / cell.folder / "Dockerfile").read_text()
    lines = text.splitlines()
    assert text.startswith("# Written by `wheelyard render`")
    assert [line for line in lines if line.startswith("USER")][-1] == "USER 1000"
    assert "WORKDIR /workspace" in lines
    assert 'ENTRYPOINT ["/usr/bin/tini", "-s", "--", "/opt/wheelyard/entrypoint"]' in lines
    assert "STOPSIGNAL SIGTERM" in lines
    assert "HEALTHCHECK NONE" in lines
    assert "--require-hashes" in text
    assert f"NVIDIA_REQUIRE_CUDA='cuda>={cell.cuda.partition('.')[0]}.0'" in text
    newer = (
        "# syntax=",
        "<<",
        "--link",
        "--chmod",
    )  # than Docker 20.10's BuildKit and buildah read
    assert [word for word in (*newer, "://") if word in text] == []


@pytest.mark.parametrize("base", ["bookworm-runtime", "trixie-runtime"])
def test_a_base_by_an_engine_alone_has_the_locked_packages_and_its_context(base: str) -> None:
    text = (ROOT / "images/bases" / base / "Dockerfile").read_text()
    lock = read_package_lock(ROOT / "images/bases" / f"{base}.lock")
    assert lock.packages
    for deb in lock.packages:
        assert f"'{deb.sha256} {deb.archive} {deb.path}'" in text
    assert f"ARG DEBIAN=debian:{lock.suite}-slim\n" in text
    copied = [line.split()[1] for line in text.splitlines() if line.startswith("COPY builder/")]
    assert len(copied) > 1
    sent = tuple(x[1:] for x in (ROOT / ".dockerignore").read_text().split("\n") if x[:1] == "!")
    assert [path for path in copied if not path.startswith(sent)] == []


def test_without_mounts_every_builder_reads_it() -> None:
    cells = planning.committed_plan().cells
    for cell in cells[:2]:
        text = render_cell(ROOT, cell, cells, mounts=False)
        newer = ("# syntax=", "<<", "--link", "--mount", "--chmod", " AS ")
        assert [word for word in newer if word in text] == []
        assert text.count("://") == text.count(r"http://\1:\2")  # what /etc/hosts names alone
        assert text.endswith((ROOT / cell.folder / "Dockerfile").read_text()[-500:])


def test_a_builder_is_sent_what_the_dockerfile_copies() -> None:
    cells = planning.committed_plan().cells
    cell = cells[0]
    text = render_cell(ROOT, cell, cells, mounts=False)
    lock = load_requirements_lock(ROOT, cell, cells_by_id(cells))
    with tarfile.open(fileobj=io.BytesIO(image_context(text.encode(), lock))) as tar:
        sent = {member.name: tar.extractfile(member) for member in tar}
    copied = [line.split()[1] for line in text.splitlines() if line.startswith("COPY ")]
    assert copied == ["requirements.lock"]
    assert sent.keys() == {"Dockerfile", *copied}
    content = sent["requirements.lock"]
    assert content is not None
    assert content.read() == (ROOT / cell.lock).read_bytes()  # what a build by hand copies


def test_rendering_knows_neither_clock_nor_environment(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = render_all(project, CELLS)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("LANG", "tr_TR.UTF-8")
    monkeypatch.chdir("/")
    assert render_all(project, CELLS) == first
    assert render_all(project, CELLS[::-1]) == first


def test_drift_is_found_and_put_right(project: Path) -> None:
    files = [str(cell.folder / "Dockerfile") for cell in CELLS]
    files.append("docker-bake.json")
    files += [
        f"{root}/{name}/devcontainer.json"
        for root in ("devcontainer", ".devcontainer")
        for name in ("pytorch", "pytorch-gpu")
    ]
    files.append("devcontainer/template/.devcontainer/devcontainer.json")
    assert drift(project) == [(name, "missing") for name in sorted(files, key=PurePosixPath)]
    write_rendered(project, CELLS, render_all(project, CELLS))
    assert drift(project) == []
    (project / files[0]).write_text("edited\n")
    assert drift(project) == [(files[0], "differs")]
    write_rendered(project, CELLS, render_all(project, CELLS))
    assert drift(project) == []


def test_what_belongs_to_no_image_is_removed_and_other_files_are_not(project: Path) -> None:
    write_rendered(project, CELLS, render_all(project, CELLS))
    runtime, devel = CELLS
    write(project / devel.folder / "notes.txt", "mine")
    write(project / "images" / "gone-runtime" / "Dockerfile", "")
    write(project / runtime.folder / "Dockerfile.bake", "of an earlier release")
    left_over = {(name, kind) for name, kind in drift(project, (runtime,)) if kind != "stale"}
    assert left_over == {("docker-bake.json", "differs")}
    write_rendered(project, (runtime,), render_all(project, (runtime,)))
    assert drift(project, (runtime,)) == []
    left = sorted(str(path.relative_to(project)) for path in project.glob("images/*/*"))
    assert left == sorted(
        [
            str(devel.folder / "notes.txt"),
            str(runtime.base_lock),
            str(runtime.folder / "Dockerfile"),
            str(runtime.lock),
        ]
    )
    assert not (project / "images" / "gone-runtime").exists()


def test_a_page_with_the_markers_gets_the_table_of_images(project: Path) -> None:
    write(project / "docs" / "images.md", f"# Mine\n{BEGIN}\nold\n{END}\nrest\n")
    text = render_all(project, CELLS)[PurePosixPath("docs/images.md")]
    assert text.startswith(f"# Mine\n{BEGIN}\n| image ")
    assert text.endswith(f"{END}\nrest\n")
    assert all(f"`{cell.tags[0]}`" in text for cell in CELLS if cell.parent is None)
    assert "| `-devel` |" in text
    assert "old" not in text


def test_without_its_lock_nothing_is_rendered(project: Path) -> None:
    (project / CELLS[0].lock).unlink()
    with pytest.raises(LockError, match=f"wheelyard lock {CELLS[0].id}"):
        render_all(project, CELLS)


def test_the_dockerfile_and_the_config_say_the_same(project: Path) -> None:
    cell = CELLS[0]
    text = render_all(project, CELLS)[PurePosixPath(cell.folder / "Dockerfile")]
    lock = replace(LOCK, inputs=requirements_inputs(cell, cells_by_id(CELLS)))
    config = image_config(cell, lock)
    for name, value in (*config.env, *config.labels):
        assert f"{name}={quoted(value)}" in text


def test_the_cells_label_is_json_that_names_the_cell() -> None:
    labels = dict(image_config(CELLS[0], LOCK).labels)
    facts = json.loads(labels["wheelyard.cell"])
    assert (facts["id"], facts["cuda"], facts["lock"]) == (CELLS[0].id, "12.1", "f" * 64)
    assert facts["driver"] == {"minimum": "525.60.13", "native": "530.30.02"}
    assert json.loads(labels["devcontainer.metadata"])[0]["remoteUser"] == "dev"
    assert labels["org.opencontainers.image.version"] == "2.3.1-cuda12.1-cudnn8.9-py3.11"


def test_frameworks_beside_jax_take_a_gpus_memory_as_they_need_it() -> None:
    """Alone, JAX takes three quarters of it at once, as upstream has it; the docs name both."""
    page = (ROOT / "docs" / "images.md").read_text()
    for cell in planning.committed_plan().cells:
        names = [pin.name for pin in cell.frameworks]
        if "jax" not in names:
            continue
        env = dict(image_config(cell, LOCK).env)
        shared = {name: value for name, value in env.items() if name.startswith(("XLA_", "TF_"))}
        assert shared == ({} if len(names) == 1 else {
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        })  # fmt: skip
        assert all(f"`{name}={value}`" in page for name, value in shared.items())


def test_jax_on_cuda_13_does_not_ask_cupti_for_its_version() -> None:
    """Without a driver that crashes; nothing else needs this, and the docs name it."""
    name, page = "JAX_SKIP_CUDA_CONSTRAINTS_CHECK", (ROOT / "docs" / "images.md").read_text()
    for cell in planning.committed_plan().cells:
        names = [pin.name for pin in cell.frameworks]
        value = dict(image_config(cell, LOCK).env).get(name)
        assert value == ("1" if "jax" in names and cell.cuda.startswith("13.") else None), cell.id
    assert f"`{name}=1`" in page


def test_labels_say_of_their_makers_what_the_matrix_says(tmp_path: Path) -> None:
    prefix = "org.opencontainers.image."
    said = {"source": "https://git.example/x", "licenses": "Apache-2.0 AND BSD-3-Clause"}
    (cell, *_) = planning.plan(tmp_path, about=said).cells
    labels = dict(image_config(cell, LOCK).labels)
    assert {name: labels[prefix + name] for name in said} == said
    assert f"{prefix}documentation" not in labels
    (silent, *_) = planning.plan(tmp_path).cells
    assert f"{prefix}source" not in dict(image_config(silent, LOCK).labels)


def test_a_name_that_a_template_does_not_get_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.j2").write_text("{{ nothing }}")
    with pytest.raises(StorageError, match=r"x\.j2:1 .*'nothing' is undefined"):
        make_environment(tmp_path).get_template("x.j2").render()


@pytest.mark.parametrize(
    ("value", "expected"),
    [("a b", "'a b'"), ('{"a":"$b"}', '\'{"a":"$b"}\''), ("it's $5\\", '"it\'s \\$5\\\\"')],
)
def test_values_are_quoted_so_that_nothing_expands(value: str, expected: str) -> None:
    assert quoted(value) == expected


@pytest.mark.parametrize(
    ("cuda", "expected"), [("11.8", "cuda>=11.0"), ("12.1", "cuda>=12.0"), ("13.0", "cuda>=13.0")]
)
def test_the_driver_asked_for_is_the_lowest_that_runs_the_major(cuda: str, expected: str) -> None:
    assert require_cuda(cuda) == expected


def test_a_cuda_without_a_known_driver_says_where_to_add_it() -> None:
    with pytest.raises(MatrixError, match=r"drivers\.json"):
        driver_floor("99.0")
