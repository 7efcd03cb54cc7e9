"""render: matrix and locks -> Dockerfiles. Pure and offline: the same inputs, the same bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from packaging.version import Version

from builder.compiler import HOME, PROFILE, PROFILE_TEXT, has_compiler
from builder.errors import StorageError
from builder.imageconfig import VENV, base_image, image_config, title
from builder.lock.inputs import cells_by_id
from builder.lock.state import BASES, load_package_lock, load_requirements_lock, orphans
from builder.model import Cell, PackageLock, RequirementsLock
from builder.provenance import Provenance, provenance
from builder.textfiles import write_text
from builder.upstream import load_upstream

DOCKERFILE = "Dockerfile"
README = PurePosixPath("README.md")
COMPILER = {"home": HOME, "profile": PROFILE, "lines": PROFILE_TEXT.splitlines()}
DEVELOPMENT = "devel"  # the flavour that editors open
BEGIN, END = "<!-- images: written by `wheelyard render` -->", "<!-- images: end -->"
# What an image's folder may hold; anything else in a stale folder is not ours to delete.
GENERATED = (DOCKERFILE, "requirements.lock")


@dataclass(frozen=True, slots=True)
class Drift:
    """One path below images/ that is not what would be rendered."""

    path: PurePosixPath  # relative to the project
    kind: Literal["missing", "differs", "stale"]


def render_all(project: Path, cells: Sequence[Cell]) -> dict[PurePosixPath, str]:
    """Return every rendered file: path relative to the project -> text.

    Raises LockError when a lock is missing, edited or stale.
    """
    environment = make_environment(project / "templates")
    return {
        **_dockerfiles(project, cells, environment),
        **_devcontainers(cells, environment),
        **_readme(project, cells, environment),
    }


def _devcontainers(cells: Sequence[Cell], environment: Environment) -> dict[PurePosixPath, str]:
    """One configuration a framework, for its newest devel image.

    VS Code looks below .devcontainer/ only, so each is written twice.
    """
    template = environment.get_template("devcontainer.json.j2")
    newest = {c.framework: c for c in sorted(cells, key=_age) if c.flavour.name == DEVELOPMENT}
    return {
        PurePosixPath(root, framework, "devcontainer.json"): template.render(
            cell=cell, title=title(cell), venv=VENV
        )
        for framework, cell in newest.items()
        for root in ("devcontainer", ".devcontainer")
    }


def _readme(
    project: Path, cells: Sequence[Cell], environment: Environment
) -> dict[PurePosixPath, str]:
    """The README with the table of images between its two markers, where it has them."""
    readme = project / README
    text = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        return {}
    table = environment.get_template("images.md.j2").render(rows=_rows(project, cells))
    return {README: f"{before}{BEGIN}\n{table}{END}{after}"}


def _rows(project: Path, cells: Sequence[Cell]) -> list[tuple[Cell, Provenance, list[str]]]:
    """Each image that extends none, where its CUDA comes from, and the flavours on top of it."""
    upstream, index = load_upstream(), cells_by_id(cells)
    return [
        (
            cell,
            provenance(cell, upstream, load_requirements_lock(project, cell, index).wheels),
            [other.flavour.name for other in cells if other.parent == cell.id],
        )
        for cell in sorted(cells, key=_age)
        if cell.parent is None
    ]


def _age(cell: Cell) -> tuple[str, list[Version], str]:
    return cell.framework, [Version(pin.version) for pin in cell.frameworks], cell.tags[0]


def _dockerfiles(
    project: Path, cells: Sequence[Cell], environment: Environment
) -> dict[PurePosixPath, str]:
    index = cells_by_id(cells)
    return {
        cell.folder / DOCKERFILE: render_dockerfile(
            environment,
            cell,
            load_requirements_lock(project, cell, index),
            load_package_lock(project, cell, index),
        )
        for cell in cells
    }


def render_dockerfile(
    environment: Environment, cell: Cell, lock: RequirementsLock, packages: PackageLock
) -> str:
    """Return one Dockerfile: plain syntax that the classic builder, BuildKit and buildah read."""
    return environment.get_template("Dockerfile.j2").render(
        cell=cell,
        title=title(cell),
        base_image=base_image(cell),
        venv=VENV,
        config=image_config(cell, lock),
        compiler=COMPILER if has_compiler(lock.wheels) else None,
        package_count=len(packages.packages),
        wheel_count=len(lock.wheels),
        wheel_bytes=f"{sum(wheel.size for wheel in lock.wheels):,}",
    )


def make_environment(templates: Path) -> Environment:
    """Return the Jinja2 environment of all templates; an undefined name is an error."""
    environment = Environment(
        loader=FileSystemLoader(templates, encoding="utf-8"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  Dockerfiles, not HTML
    )
    environment.filters["quoted"] = quoted
    environment.filters["json_array"] = json_array
    return environment


def quoted(value: str) -> str:
    """Quote a Dockerfile value so that nothing in it is expanded."""
    if "'" not in value:
        return f"'{value}'"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return f'"{escaped}"'


def json_array(values: Iterable[str]) -> str:
    """Return the exec form of ENTRYPOINT and CMD."""
    return json.dumps(list(values))


def find_drift(
    project: Path, cells: Sequence[Cell], rendered: Mapping[PurePosixPath, str]
) -> tuple[Drift, ...]:
    """Compare images/ with what would be rendered; asks no version control."""
    return (
        *_differences(project, rendered),
        *(Drift(path, "stale") for path in stale(project, cells)),
    )


def write_rendered(
    project: Path, cells: Sequence[Cell], rendered: Mapping[PurePosixPath, str]
) -> tuple[Drift, ...]:
    """Bring images/ in line and return what was changed; stale files are removed."""
    changed = find_drift(project, cells, rendered)
    for drift in changed:
        if drift.kind == "stale":
            _remove(project / drift.path)
        else:
            write_text(project / drift.path, rendered[drift.path])
    return changed


def stale(project: Path, cells: Iterable[Cell]) -> Iterator[PurePosixPath]:
    """Find generated files that belong to no cell."""
    for path in orphans(project, cells):
        if path.parent == BASES:
            yield path
        else:
            yield from (path / name for name in GENERATED if (project / path / name).is_file())


def _differences(project: Path, rendered: Mapping[PurePosixPath, str]) -> Iterator[Drift]:
    for path, text in sorted(rendered.items()):
        if not (project / path).is_file():
            yield Drift(path, "missing")
        elif (project / path).read_bytes() != text.encode():
            yield Drift(path, "differs")


def _remove(path: Path) -> None:
    """Delete a generated file, and its folder when nothing else is left in it."""
    try:
        path.unlink()
        if not any(path.parent.iterdir()):
            path.parent.rmdir()
    except OSError as refused:
        raise StorageError(f"cannot remove {path}: {refused.strerror}") from refused
