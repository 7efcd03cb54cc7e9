"""Renders Dockerfiles from matrix and locks. Pure and offline: the same inputs, the same bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from packaging.version import Version

from wheelyard.contract.compiler import HOME, PROFILE, PROFILE_TEXT, has_compiler
from wheelyard.contract.constraints import constraint_files
from wheelyard.contract.exclusions import NOT_COMPILED, path_rules
from wheelyard.contract.imageconfig import (
    CELL_LABEL,
    base_config,
    base_folder,
    base_image,
    image_config,
    title,
)
from wheelyard.contract.installer import load_installer
from wheelyard.contract.paths import VENV
from wheelyard.contract.users import PIP_UMASK, PTH, SAFE, text_files
from wheelyard.errors import StorageError
from wheelyard.lock.changes import versions
from wheelyard.lock.inputs import Cells, cells_by_id, parent_of
from wheelyard.lock.state import BASES, load_package_lock, load_requirements_lock, orphans
from wheelyard.model import Cell
from wheelyard.planning.facts import facts_file, load_upstream
from wheelyard.planning.provenance import Provenance, provenance
from wheelyard.rendering.bakefile import DOCKERFILE, BakeRecipe, bake_file, target_name
from wheelyard.rendering.devcontainers import render_devcontainers, stale_devcontainers
from wheelyard.rendering.published import load_published
from wheelyard.rendering.steps import CONTRACT, Locks, PackageStep, make_steps
from wheelyard.system.templates import make_environment
from wheelyard.system.textfiles import write_text

if TYPE_CHECKING:
    from jinja2 import Environment

BAKE_FILE = PurePosixPath("docker-bake.json")
_IMAGES_PAGE = PurePosixPath("docs/images.md")
_COMPILER = {"home": HOME, "profile": PROFILE, "lines": PROFILE_TEXT.splitlines()}
BEGIN, END = "<!-- images: written by `wheelyard render` -->", "<!-- images: end -->"
# Generated files in an image's folder; other files in a stale folder are not deleted.
_FORMER = "Dockerfile.bake"  # of releases that rendered two kinds
_GENERATED = (DOCKERFILE, _FORMER, "requirements.lock")


@dataclass(frozen=True, slots=True)
class Drift:
    """One path below images/ that differs from what would be rendered."""

    path: PurePosixPath  # relative to the project
    kind: Literal["missing", "differs", "stale"]


def render_all(project: Path, cells: Sequence[Cell]) -> dict[PurePosixPath, str]:
    """Return every rendered file: path relative to the project -> text.

    Raises LockError if a lock is missing, edited or stale.
    """
    environment = make_environment(project / "templates")
    return {
        **_dockerfiles(project, cells, environment),
        **render_devcontainers(cells, environment, load_published(project)),
        **_images_page(project, cells, environment),
    }


def _images_page(
    project: Path, cells: Sequence[Cell], environment: Environment
) -> dict[PurePosixPath, str]:
    """Return the page of all images with its table, if it has the two markers."""
    page = project / _IMAGES_PAGE
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        return {}
    table = environment.get_template("images.md.j2").render(rows=_rows(project, cells))
    return {_IMAGES_PAGE: f"{before}{BEGIN}\n{table}{END}{after}"}


def _rows(project: Path, cells: Sequence[Cell]) -> list[tuple[Cell, Provenance, list[str]]]:
    """Return each image that extends none, the origin of its CUDA, and what follows its name.

    What follows are the flavours above it and the other architectures; an architecture that
    differs in more than its name has its own row.
    """
    upstream, index = load_upstream(facts_file(project)), cells_by_id(cells)
    said = {
        cell.id: (
            provenance(cell, upstream, versions(load_requirements_lock(project, cell, index))),
            [other.flavour.name for other in cells if other.parent == cell.id],
        )
        for cell in sorted(cells, key=_age)
        if cell.parent is None
    }
    alike = {
        name: index[name].architecture
        for name in said
        if index[name].sibling != name and said.get(index[name].sibling) == said[name]
    }
    return [
        (index[name], origin, [*flavours, *(alike[x] for x in alike if index[x].sibling == name)])
        for name, (origin, flavours) in said.items()
        if name not in alike
    ]


def _age(cell: Cell) -> tuple[str, list[Version], str]:
    return cell.framework, [Version(pin.version) for pin in cell.frameworks], cell.tags[0]


def _dockerfiles(
    project: Path, cells: Sequence[Cell], environment: Environment
) -> dict[PurePosixPath, str]:
    """Yield two variants for each image, the file that builds them together, and pinned bases."""
    index = cells_by_id(cells)
    files: dict[PurePosixPath, str] = {}
    recipes = []
    for cell in cells:
        locks = _locks(project, cell, index)
        recipes.append(_dockerfile(environment, cell, locks, mounts=True))
        files[cell.folder / DOCKERFILE] = recipes[-1].text
        if cell.parent is None and _has_base(cell, locks[0]):
            text = _base(environment, cell, locks[0], mounts=True)
            files[base_folder(cell) / DOCKERFILE] = text
    bake = json.dumps(bake_file(recipes), indent=2, ensure_ascii=False)
    return {**files, BAKE_FILE: f"{bake}\n"} if recipes else files


def render_cell(project: Path, cell: Cell, cells: Iterable[Cell], *, mounts: bool = True) -> str:
    """Render the Dockerfiles of one image, name -> text; `cells` are those of the plan.

    Raises LockError if one of its locks is missing, edited or stale.
    """
    environment = make_environment(project / "templates")
    locks = _locks(project, cell, cells_by_id(cells))
    return _dockerfile(environment, cell, locks, mounts=mounts).text


def render_base(project: Path, cell: Cell, cells: Iterable[Cell]) -> str:
    """Return the Dockerfile, without mounts, of a base that starts from a registry's image."""
    locks = _locks(project, cell, cells_by_id(cells))
    return _base(make_environment(project / "templates"), cell, locks[0], mounts=False)


def _locks(project: Path, cell: Cell, cells: Cells) -> tuple[Locks, ...]:
    """Return the locks of a cell's flavours, the lowest first."""
    parent = parent_of(cell, cells)
    below = () if parent is None else _locks(project, parent, cells)
    wheels = load_requirements_lock(project, cell, cells)
    return (*below, Locks(wheels, load_package_lock(project, cell, cells)))


def _dockerfile(
    environment: Environment, cell: Cell, locks: Sequence[Locks], *, mounts: bool
) -> BakeRecipe:
    """Render a Dockerfile and its steps: in plain syntax, or BuildKit's with mounts."""
    config = image_config(cell, locks[-1].wheels)
    names = {
        "cell": cell,
        "title": title(cell),
        "base_image": base_image(cell),
        "base_folder": base_folder(cell),
        "target": target_name(cell.id),
        "venv": f"/{VENV}",
        "config": config,
        "cell_json": dict(config.labels)[CELL_LABEL],
        "texts": constraint_files(cell, locks[-1].wheels.wheels),
        "compiler": _COMPILER if has_compiler(locks[-1].wheels.wheels) else None,
        "installer": load_installer(cell.architecture),
        "not_compiled": NOT_COMPILED,
        "mounts": mounts,
    }
    steps = make_steps(cell, locks)
    texts = [
        environment.get_template(f"partials/{step.kind}.j2").render(step=step, **names)
        for step in steps
    ]
    template = environment.get_template("Dockerfile.j2")
    text = template.render(steps=list(zip(steps, texts, strict=True)), **names)
    return BakeRecipe(
        cell,
        text,
        tuple(step.stage for step in steps),
        tuple(texts),
        config,
        _has_base(cell, locks[0]),
    )


def _has_base(cell: Cell, locks: Locks) -> bool:
    """Tell whether a base has a Dockerfile: one of ours needs the locked pip."""
    return cell.base.image is not None or any(x.name == "pip" for x in locks.wheels.wheels)


def _base(environment: Environment, cell: Cell, locks: Locks, *, mounts: bool) -> str:
    """Render the Dockerfile of a base: on a registry's image, or on Debian's own."""
    title, debs = f"Debian packages of {base_image(cell)}", locks.packages.packages
    own = cell.base.image is None
    rules = path_rules(locks.packages) if own else ()
    step = PackageStep("base", title, debs, rules, exact=own)
    names = {"cell": cell, "venv": f"/{VENV}", "mounts": mounts}
    return environment.get_template("base.j2").render(
        text=environment.get_template("partials/packages.j2").render(step=step, **names),
        wheels=locks.wheels.wheels,
        pip_umask=PIP_UMASK,
        pth=PTH,
        texts={home: text_files(home, cell.python) for home in ("usr/local", "usr")},
        base_image=base_image(cell),
        base_folder=base_folder(cell),
        debian=f"debian:{cell.base.suite}-slim",
        safe=SAFE,
        config=base_config(cell),
        **CONTRACT,
        **names,
    )


def find_drift(
    project: Path, cells: Sequence[Cell], rendered: Mapping[PurePosixPath, str]
) -> tuple[Drift, ...]:
    """Compare images/ with what would be rendered, without version control."""
    return (
        *_differences(project, rendered),
        *(Drift(path, "stale") for path in stale(project, cells)),
        *(Drift(path, "stale") for path in stale_devcontainers(project, list(rendered))),
    )


def write_rendered(
    project: Path, cells: Sequence[Cell], rendered: Mapping[PurePosixPath, str]
) -> tuple[Drift, ...]:
    """Bring images/ up to date and return what changed; stale files are removed."""
    changed = find_drift(project, cells, rendered)
    for drift in changed:
        if drift.kind == "stale":
            _remove(project / drift.path)
        else:
            write_text(project / drift.path, rendered[drift.path])
    return changed


def stale(project: Path, cells: Sequence[Cell]) -> Iterator[PurePosixPath]:
    """Find generated files that belong to no cell."""
    folders = {folder for cell in cells for folder in (cell.folder, base_folder(cell))}
    former = (folder / _FORMER for folder in sorted(folders))
    yield from (path for path in former if (project / path).is_file())
    for path in orphans(project, cells):
        if path.parent == BASES:
            yield path
        else:
            yield from (path / name for name in _GENERATED if (project / path / name).is_file())


def _differences(project: Path, rendered: Mapping[PurePosixPath, str]) -> Iterator[Drift]:
    for path, text in sorted(rendered.items()):
        if not (project / path).is_file():
            yield Drift(path, "missing")
        elif (project / path).read_bytes() != text.encode():
            yield Drift(path, "differs")


def _remove(path: Path) -> None:
    """Delete a generated file, and its folder if it is empty then."""
    try:
        path.unlink()
        if not any(path.parent.iterdir()):
            path.parent.rmdir()
    except OSError as refused:
        raise StorageError(f"cannot remove {path}: {refused.strerror}") from refused
