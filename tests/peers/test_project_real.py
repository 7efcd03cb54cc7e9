"""A small project on a real image: in Docker, with one version of each distribution."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tiny import locked
from wheels import make_wheel

from tests.engines.daemons import output_of
from tests.image.layout import BuiltImage
from wheelyard.console.progress import QuietReporter
from wheelyard.context import Context
from wheelyard.images.build.loading import find_loader
from wheelyard.oci.layout import MANIFEST_TYPE, Descriptor, Layout
from wheelyard.projects.base import base_contents
from wheelyard.projects.local import build_project, load_into_docker
from wheelyard.projects.model import ProjectLock, ProjectWheel
from wheelyard.projects.published import base_from_layout
from wheelyard.projects.pylock import render_lock
from wheelyard.projects.requirements import collect
from wheelyard.projects.state import inputs_of
from wheelyard.projects.table import read_project
from wheelyard.settings import load_settings

if TYPE_CHECKING:
    from docker import DockerClient

REPLACED = "markdown"  # of the image; small, and pure Python
TABLE = """\
[project]
name = "real-model"
version = "0.1"
scripts = {{train = "real_model:run"}}

[tool.wheelyard]
image = "{image}"
command = ["train"]
"""
CODE = """\
import markdown, torch

def run():
    print(torch.__version__.partition("+")[0], markdown.__version__, float(torch.ones(3).sum()))
"""


@pytest.fixture
def layout(runtime_image: BuiltImage, tmp_path: Path) -> Layout:
    """The image in a layout of our own."""
    own = Layout(tmp_path / "dist")
    own.create()
    config = runtime_image.manifest["config"]["digest"]
    for digest in (runtime_image.digest, config, *runtime_image.layers):
        own.blob(digest).symlink_to(runtime_image.blob(digest))
    size = runtime_image.blob(runtime_image.digest).stat().st_size
    manifest = Descriptor(MANIFEST_TYPE, runtime_image.digest, size)
    own.set_references({runtime_image.tags[0]: manifest})
    return own


def test_one_of_each_and_the_framework_works(
    runtime_image: BuiltImage, layout: Layout, engine: DockerClient, tmp_path: Path
) -> None:
    base = base_from_layout(layout, runtime_image.tags[0])
    below = [wheel for wheel in base.wheels if wheel.name == REPLACED]
    assert below, f"{runtime_image.id} has no {REPLACED} to replace"
    (tmp_path / "wheels").mkdir()
    newer = make_wheel(
        tmp_path / "wheels", REPLACED, "99.0", {"markdown/__init__.py": "__version__ = '99.0'\n"},
        extra={f"{REPLACED}-99.0.dist-info/WHEEL": "Wheel-Version: 1.0\nTag: py3-none-any\n"},
    )  # fmt: skip
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(TABLE.format(image=runtime_image.tags[0]))
    (folder / "real_model.py").write_text(CODE)
    project = read_project(folder)
    assert project is not None
    lock = ProjectLock(
        base=base.reference,
        base_digest=base.digest,
        contents=base_contents(base),
        inputs="",
        wheels=(ProjectWheel(locked(newer), newer.as_uri()),),
        shadowed=tuple(below),
        python=base.python,
    )
    inputs = inputs_of(project, collect(project, lock.python), lock.contents)
    project.lock.write_text(render_lock(replace(lock, inputs=inputs)))
    context = Context(load_settings({}, needs_project=False), QuietReporter(None))
    loader = find_loader(wanted=True, context=context)
    assert loader is not None
    built = build_project(project, layout.folder, context)
    load_into_docker(built, loader, context)

    def run(*words: str, user: str | None = None) -> list[str]:
        ran = output_of(engine, built.tag, list(words) or None, network_mode="none", user=user)
        return [str(line) for line in ran.decode().splitlines()]

    version = runtime_image.cell["framework_version"].partition("+")[0]
    assert run() == [f"{version} 99.0 3.0"]
    assert run(user="1234:1234") == [f"{version} 99.0 3.0"]
    listed = run("pip", "list", "--disable-pip-version-check", "--format=freeze")
    assert [line for line in listed if line.lower().startswith(REPLACED)] == ["markdown==99.0"]
    assert "real-model==0.1" in listed
    shown = run("pip", "list", "--disable-pip-version-check", "--editable")
    assert any(line.split() == ["real-model", "0.1", "/workspace"] for line in shown)
    assert run("pip", "show", "--files", "real-model")
    assert "no broken requirements" in run("pip", "check")[-1].lower()
