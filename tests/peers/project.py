"""Projects that build from real Debian packages and small wheels."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from tiny import Tiny, make_tiny, put_wheel, write_lock
from wheels import make_wheel

from tests.image.layout import read_built
from wheelyard.console.progress import QuietReporter
from wheelyard.context import Context
from wheelyard.fetching.wanted import cached, place
from wheelyard.model import PackageLock
from wheelyard.planning.facts import DATA, OWN
from wheelyard.planning.plan import load_plan
from wheelyard.settings import Settings, load_settings
from wheelyard.system.storage import link_or_copy

REPOSITORY = Path(__file__).parents[2]
LEAN = ("python3.11", "tini")  # a base without compilers is made in a third of the time
# The small torch asks for less than the real one; the cell still wants the whole CUDA set.
TOOLS = ("ballast", "nvidia-cuda-runtime-cu12", "nvidia-nccl-cu12", "pip")


def write_matrix(
    folder: Path, packages: Iterable[str] | None = None, base: str = "bookworm"
) -> None:
    """One cell of the real matrix, with small tools and, if given, other packages."""
    matrix: dict[str, Any] = yaml.safe_load((REPOSITORY / "matrix.yaml").read_text())
    runtime = matrix["flavours"]["runtime"]
    runtime["tools"] = list(TOOLS)
    runtime["packages"] = runtime["packages"] if packages is None else list(packages)
    small = {
        "version": matrix["version"],
        "axes": {
            "cuda": ["12.1"],
            "cudnn": ["8.9"],
            "framework": ["pytorch 2.3.1"],
            "python": [matrix["bases"][base]["python"]],
            "base": [base],
            "flavour": ["runtime"],
        },
        "frameworks": {"pytorch": {"title": "PyTorch", "distribution": "torch"}},
        "bases": {base: matrix["bases"][base]},
        "flavours": {"runtime": runtime},
    }
    folder.mkdir(parents=True, exist_ok=True)
    if base == "trixie":  # the small torch is for its Python, too
        facts = json.loads(DATA.read_text())
        facts["pytorch"]["2.3.1"]["pythons"].append("3.13")
        (folder / OWN).write_text(json.dumps(facts))
    (folder / "matrix.yaml").write_text(yaml.safe_dump(small))
    shutil.copytree(REPOSITORY / "templates", folder / "templates")


def small_wheels(folder: Path) -> dict[str, Path]:
    """The wheels of the unit tests' tiny project, and one whose bytecode takes a few seconds."""
    wheels = make_tiny(folder).wheels
    body = "".join(f"def f{n}(x, y={n}):\n    return [x + {n}, y, {{x: y}}]\n" for n in range(4000))
    modules = {f"ballast/module_{n}.py": body for n in range(24)}
    ballast = make_wheel(folder, "ballast", "1.0", {"ballast/__init__.py": "", **modules})
    return {"ballast": ballast, **{name: x for name, x in wheels.items() if name != "demo"}}


def real_base_project(folder: Path, base: str = "bookworm") -> Tiny:
    """Small wheels on one of the repository's own bases, with its committed package lock."""
    project, cache = folder / "project", folder / "cache"
    write_matrix(project, base=base)
    wheels = small_wheels(folder / "wheels")
    settings = Settings(project, cache, None, None, None, None, 2, 60.0)
    plan = load_plan(project)
    made = Tiny(project, Context(settings, QuietReporter(None)), plan, wheels)
    (cell,) = plan.cells
    write_lock(made, cell, list(wheels.values()))
    base_lock = project / cell.base_lock
    base_lock.parent.mkdir(parents=True)
    shutil.copy(REPOSITORY / cell.base_lock, base_lock)
    for path in wheels.values():
        put_wheel(cache, path)
    return made


def machine_cache() -> Path:
    """The cache of this user's own builds; read here, never written."""
    return load_settings({"project": str(REPOSITORY)}).cache_dir


def lend_packages(lock: PackageLock, cache: Path) -> None:
    """Put the packages that this machine has fetched before into another cache."""
    for deb in lock.packages:
        name = deb.path.rpartition("/")[2]
        known = cached(machine_cache() / "files", deb.sha256, name, deb.size)
        if known is not None:
            target = place(cache / "files", deb.sha256, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(known, target)


def digest_of(dist: Path) -> str:
    """The manifest digest of the one image in a layout."""
    (image,) = read_built(dist)
    return image.digest
