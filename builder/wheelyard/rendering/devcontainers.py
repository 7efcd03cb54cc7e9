"""The dev container configurations of this repository, and of users' projects. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from packaging.version import Version

from wheelyard.contract.editor import (
    DEVELOPMENT,
    EXTENSIONS,
    PORTS,
    SETTINGS,
    ports_attributes,
)
from wheelyard.contract.imageconfig import title
from wheelyard.contract.paths import USER
from wheelyard.contract.runtimes import SHARED_MEMORY
from wheelyard.errors import SelectionError
from wheelyard.model import Cell
from wheelyard.oci.documents import is_reference
from wheelyard.planning.facts import CPU
from wheelyard.planning.tags import repository
from wheelyard.rendering.bakefile import native_target

if TYPE_CHECKING:
    from jinja2 import Environment

_SOURCE, SEEN = "devcontainer", ".devcontainer"  # ours; and where editors look
FILE = "devcontainer.json"
_COMBINED = "combined"  # several frameworks in one image, and what an editor opens by default
GPU = "-gpu"
_TEMPLATE, _TEMPLATE_USES = PurePosixPath(_SOURCE, "template"), "pytorch"
_MARK = "// Written by `wheelyard render`"
# `up` starts again what a failed start left, whatever was changed in the meantime.
LEFT_OVER = [
    "docker", "ps", "--all", "--filter", "status=created",
    "--filter", "label=devcontainer.local_folder=${localWorkspaceFolder}",
    "--format", "container {{.ID}} is left over from a start that failed, and would be started "
    "again: if that fails too, remove it: docker rm -v {{.ID}}",
]  # fmt: skip
_CLONE = "make it in a clone of Wheelyard"
_FOLDER = re.compile(r"(/[A-Za-z0-9._-]+){1,20}")
_TITLE = re.compile(r"[A-Za-z0-9 .,+()_-]{1,300}")
_WITH_GPU = {True: "GPU required", False: "GPU if there is one"}


Command = str | list[str]  # a shell's line, or a program's words


@dataclass(frozen=True, slots=True)
class Variant:
    """One configuration of this repository."""

    name: str  # "pytorch", "pytorch-gpu"
    cell: Cell
    requires_gpu: bool


@dataclass(frozen=True, slots=True)
class Devcontainer:
    """What distinguishes one devcontainer.json from another."""

    title: str
    image: str
    initialize: Mapping[str, Command]  # run outside before the container is made, by name
    requires_gpu: bool
    folder: str | None = None  # where the project is mounted; None: where the editor does


def variants(cells: Sequence[Cell]) -> tuple[Variant, ...]:
    """Return two variants of each framework's default devel image: with and without GPU.

    The second one has the suffix `-gpu` and does not start without a GPU; an image without CUDA has
    only the first. Of the combinations, the matrix's first one has them.
    """
    combined = next((cell.framework for cell in cells if len(cell.frameworks) > 1), None)
    development = [
        cell for cell in cells if cell.flavour.name == DEVELOPMENT
        if len(cell.frameworks) == 1 or cell.framework == combined
    ]  # fmt: skip
    newest = {_name(cell): cell for cell in sorted(development, key=_precedence)}
    return tuple(
        Variant(name + suffix, cell, bool(suffix))
        for name, cell in sorted(newest.items())
        for suffix in (("",) if cell.cuda == CPU else ("", GPU))
    )


def find_variant(cells: Sequence[Cell], name: str) -> Variant:
    """Return the configuration of that name; SelectionError lists the existing names."""
    known = {variant.name: variant for variant in variants(cells)}
    if name not in known:
        raise SelectionError(f"there is no dev container {name!r}; there are {', '.join(known)}")
    return known[name]


def _name(cell: Cell) -> str:
    return _COMBINED if len(cell.frameworks) > 1 else cell.framework


def _precedence(cell: Cell) -> tuple[bool, list[Version], str]:
    owner = f"{repository(cell.frameworks)}:{DEVELOPMENT}" in cell.tags
    return owner, [Version(pin.version) for pin in cell.frameworks], cell.tags[0]


def named(cell_title: str, *, requires_gpu: bool) -> str:
    """Return the name that an editor lists."""
    return f"{cell_title} ({_WITH_GPU[requires_gpu]})"


def _initialize(variant: Variant, *, published: bool) -> dict[str, Command]:
    """Return the command that makes a missing image, or checks the GPU before every start.

    It is the same line for a POSIX shell and for Windows' cmd. Where nothing but Docker is there,
    `make` fails, and BuildKit makes the image, its base included. Both make the one for the
    processor of the machine.
    """
    make = f"make devcontainer NAME={variant.name}"
    if variant.requires_gpu:  # which also says what a failed start left
        return {"image": make}
    if published:
        return {"left over": LEFT_OVER}
    look = f"docker image inspect --format found {shlex.quote(variant.cell.tags[0])}"
    bake = f"docker buildx bake --load {native_target(variant.cell)}"
    return {"image": f"{look} || {make} || {bake}", "left over": LEFT_OVER}


def clone_advice(cell_id: str) -> str:
    """Return how an image of the set is made."""
    return f"{_CLONE}: make build MATRIX={cell_id}"


def _prepare_advice(name: str) -> str:
    """Return how the image of one of our configurations is made for the engine's processor."""
    return f"{_CLONE}: make devcontainer NAME={name}"


def initialize_elsewhere(image: str, advice: str) -> dict[str, Command]:
    """Return the command for a project that cannot make the image: it says what to do."""
    line = (
        f"docker image inspect {shlex.quote(image)} >/dev/null 2>&1 || "
        f"{{ echo {shlex.quote(f'{image} is not in the Docker Engine; {advice}')} >&2; exit 1; }}"
    )
    return {"image": line, "left over": LEFT_OVER}


def render_devcontainer(environment: Environment, config: Devcontainer, *, written: bool) -> str:
    """Return a devcontainer.json; `written` by `render`, so that nobody edits it.

    Raises SelectionError for an image whose name or title is more than a name: dev container
    programs expand `${localEnv:NAME}`.
    """
    is_folder = config.folder is None or _FOLDER.fullmatch(config.folder)
    if not is_reference(config.image) or not _TITLE.fullmatch(config.title) or not is_folder:
        said = f"{config.image!a} ({config.title!a}, {config.folder!a})"
        raise SelectionError(
            f"{said} is not an image's name, title and folder, so it is not written"
        )
    return environment.get_template(f"{FILE}.j2").render(
        config=config,
        written=written,
        shared_memory=SHARED_MEMORY,
        user=USER,
        ports=list(PORTS),
        ports_attributes=ports_attributes(),
        extensions=list(EXTENSIONS),
        settings=SETTINGS,
    )


def render_devcontainers(
    cells: Sequence[Cell], environment: Environment, published: Mapping[str, str]
) -> dict[PurePosixPath, str]:
    """Return every configuration, and copies where editors look; the default one twice.

    Programs, and editors that clone into a volume, find only `.devcontainer/devcontainer.json` by
    themselves. `published`: full tag -> reference.
    """
    files: dict[PurePosixPath, str] = {}
    for variant in variants(cells):
        tag = variant.cell.tags[0]
        config = Devcontainer(
            named(title(variant.cell), requires_gpu=variant.requires_gpu),
            published.get(tag, tag),
            _initialize(variant, published=tag in published),
            variant.requires_gpu,
        )
        text = render_devcontainer(environment, config, written=True)
        files |= {PurePosixPath(root, variant.name, FILE): text for root in (_SOURCE, SEEN)}
        if variant.name == _COMBINED:
            files[PurePosixPath(SEEN, FILE)] = text
        if variant.name == _TEMPLATE_USES:
            files[_TEMPLATE / SEEN / FILE] = _for_the_template(variant, environment, published)
    return files


def _for_the_template(
    variant: Variant, environment: Environment, published: Mapping[str, str]
) -> str:
    """Return the only file of the project template that depends on the matrix."""
    tag = variant.cell.tags[0]
    before: dict[str, Command] = (
        {"left over": LEFT_OVER}
        if tag in published
        else initialize_elsewhere(tag, _prepare_advice(variant.name))
    )
    name = named(title(variant.cell), requires_gpu=False)
    config = Devcontainer(name, published.get(tag, tag), before, requires_gpu=False)
    return render_devcontainer(environment, config, written=False)


def stale_devcontainers(
    project: Path, rendered: Sequence[PurePosixPath]
) -> Iterator[PurePosixPath]:
    """Return rendered configurations that no longer belong to anything."""
    found = [*project.glob(f"{_SOURCE}/*/{FILE}"), *project.glob(f"{SEEN}/**/{FILE}")]
    for path in sorted(found):
        relative = PurePosixPath(path.relative_to(project).as_posix())
        if relative not in rendered and path.read_text(encoding="utf-8").startswith(_MARK):
            yield relative
