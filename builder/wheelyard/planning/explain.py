"""Why an image is as it is, or why it does not exist: `wheelyard plan --explain ID`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from wheelyard.architecture import ARCHITECTURES, DEFAULT
from wheelyard.errors import SelectionError
from wheelyard.frameworks.known import facts_of
from wheelyard.model import Cell, Plan
from wheelyard.planning.drivers import runs_on, too_old
from wheelyard.planning.facts import (
    CPU,
    Release,
    Upstream,
    fits_cuda,
    for_architecture,
    known_as,
    misfit,
    release_of,
)
from wheelyard.planning.matrix_model import Matrix
from wheelyard.planning.selector import excluded_because, select, words
from wheelyard.planning.shipped import instead, unknown_release
from wheelyard.versions import order, short


def explain(
    matrix: Matrix, upstream: Upstream, plan: Plan, name: str, driver: str | None = None
) -> str:
    """Explain an image, an excluded combination, or any name in the grammar of ids.

    `driver` is the NVIDIA driver of a host that should run the image. Raises SelectionError if the
    name contains nothing that could be looked up.
    """
    cells = [cell for cell in plan.cells if name == cell.id or name in cell.tags]
    if cells:
        facts = for_architecture(upstream, cells[0].architecture)
        return "\n".join(_image(matrix, facts, plan, cells[0], driver))
    reasons = [exclusion.reason for exclusion in plan.excluded if exclusion.id == name]
    if reasons:
        return f"{name} is excluded: {reasons[0]}"
    return "\n".join(_stranger(matrix, upstream, plan, name, driver))


def _image(
    matrix: Matrix, upstream: Upstream, plan: Plan, cell: Cell, driver: str | None
) -> Iterator[str]:
    yield f"{cell.id} is in the plan"
    yield from _driver_lines(plan, cell.framework, cell.cuda, driver)
    yield f"  tags: {', '.join(cell.tags)}"
    yield f"  installs: {', '.join(cell.requirements)}"
    for pin in cell.frameworks:
        release = release_of(upstream, pin)
        yield f"  {matrix.frameworks[pin.name].title} {pin.version}, by {release.wheel}:"
        yield f"    built for CUDA {release.cuda}; cuDNN {release.cudnn}, NCCL {release.nccl}"
        yield f"    wheels for Python {', '.join(release.pythons)}"
        if release.architectures:
            yield f"    compiled for {', '.join(release.architectures)}"
    yield f"  policy {cell.policy}"
    for line in cell.overrides:
        yield f"  {line}: requested by an include, in place of {_replaced(upstream, cell)}"
    reasons = dict(cell.reasons)
    for bound in cell.constraints:
        yield f"  bound {bound}: {reasons.get(bound, _own_bound(upstream, cell, bound))}"
    if cell.parent:
        yield f"  extends {cell.parent}"


def _replaced(upstream: Upstream, cell: Cell) -> str:
    wanted = (release_of(upstream, pin).cudnn_requirement for pin in cell.frameworks)
    return "upstream's " + ", ".join(dict.fromkeys("".join(pair) for pair in wanted))


def _own_bound(upstream: Upstream, cell: Cell, bound: str) -> str:
    """Give the reason of a bound that the plan added itself."""
    name = bound.split("==")[0]
    stated = {release_of(upstream, pin).requires.get(name, "") for pin in cell.frameworks}
    return f"upstream leaves {' '.join(sorted(stated - {''})) or 'it open'}; policy {cell.policy}"


def _driver_lines(
    plan: Plan, framework: str, cuda: str | None, driver: str | None
) -> Iterator[str]:
    """Say that a host's driver is too old, and which images run on it instead."""
    if driver is None or cuda is None:
        return
    reason = too_old(cuda, driver)
    if reason is None:
        return
    yield f"  {reason}"
    fitting = [c for c in plan.cells if c.framework == framework and runs_on(c.cuda, driver)]
    newest = max(fitting, key=lambda c: [order(p.version) for p in c.frameworks], default=None)
    if newest:
        yield f"  for driver {driver} the newest of {framework} is {newest.tags[0]}"
    else:
        yield f"  no image of {framework} runs on driver {driver}"


@dataclass(frozen=True, slots=True)
class _Asked:
    """The parts of a name in the grammar of ids."""

    frameworks: tuple[tuple[str, str | None], ...]  # (name, version if given)
    cuda: str | None
    cudnn: str | None
    python: str | None
    architecture: str


def _parse(known: set[str], name: str) -> _Asked:
    versions: dict[str, str] = {}
    frameworks: list[tuple[str, str | None]] = []
    for word in words(name.replace(":", "-"), known):
        framework, _, version = word.partition("-")
        if framework in known:
            frameworks.append((framework, version or None))
        elif match := re.fullmatch(r"(cuda|cudnn|py)(\d[\d.]*)", word):
            versions[match[1]] = match[2]
        elif word == CPU:
            versions["cuda"] = CPU
        elif word in ARCHITECTURES:
            versions["architecture"] = word
    cuda, cudnn, python = (versions.get(axis) for axis in ("cuda", "cudnn", "py"))
    architecture = versions.get("architecture", DEFAULT.name)
    return _Asked(tuple(frameworks), cuda, cudnn, python, architecture)


def _stranger(
    matrix: Matrix, upstream: Upstream, plan: Plan, name: str, driver: str | None
) -> Iterator[str]:
    asked = _parse({*matrix.frameworks, *upstream}, name)
    if not asked.frameworks:
        select(plan, name)  # re-raise: its message already lists the near matches
        raise SelectionError(f"{name} names several images; `wheelyard plan {name}` lists them")
    yield f"{name} is not an id of the plan"
    upstream = for_architecture(upstream, asked.architecture)
    obstacles = [
        obstacle
        for framework, version in asked.frameworks
        for obstacle in _obstacles(matrix, upstream, framework, version, asked)
    ]
    yield from (f"  {obstacle}" for obstacle in obstacles)
    names = "+".join(framework for framework, _ in asked.frameworks)
    yield from _driver_lines(plan, names, asked.cuda, driver)
    if not obstacles:
        yield from _possible(plan, name)
        if asked.cuda is None and driver is not None:
            cudas = dict.fromkeys(cell.cuda for cell in select(plan, name))
            fitting = [cuda for cuda in cudas if runs_on(cuda, driver)]
            for cuda in fitting[:1] or list(cudas)[:1]:
                yield from _driver_lines(plan, names, cuda, driver)


def _obstacles(
    matrix: Matrix,
    upstream: Upstream,
    framework: str,
    version: str | None,
    asked: _Asked,
) -> Iterator[str]:
    """Yield the reasons why upstream does not support a framework in the given combination."""
    entry = matrix.frameworks.get(framework)
    title = entry.title if entry else framework
    try:
        known = upstream.get(facts_of(framework, asked.cuda), {})
    except ValueError as problem:
        yield f"{title}: {problem}"
        return
    candidates = known_as(known, version) if version else sorted(known, key=order)
    if not candidates:
        yield unknown_release(title, version or "", known)
        return
    reasons = [_why_not(title, known[candidate], asked) for candidate in candidates]
    if None in reasons:
        return
    yield str(reasons[-1])
    release = known[candidates[-1]]
    if asked.cuda and not fits_cuda(release, asked.cuda):
        yield instead(title, known, asked.cuda, asked.python)
    elif asked.python and asked.python not in release.pythons:
        yield _other_python(title, known, asked)


def _other_python(title: str, known: Mapping[str, Release], asked: _Asked) -> str:
    """Name the releases that have a wheel for a Python."""
    python = str(asked.python)
    having = sorted((v for v, release in known.items() if python in release.pythons), key=order)
    if not having:
        return f"no release of {title} has a wheel for Python {python}"
    return f"for Python {python} the oldest is {title} {having[0]}, the newest {having[-1]}"


def _why_not(title: str, release: Release, asked: _Asked) -> str | None:
    return misfit(
        title,
        release,
        asked.cuda or short(release.cuda),
        asked.cudnn,
        asked.python or release.pythons[-1],
    )


def _possible(plan: Plan, name: str) -> Iterator[str]:
    """Name alternatives to a combination that upstream would support."""
    try:
        cells = select(plan, name)
    except SelectionError:
        reasons = excluded_because(plan, name)
        yield from (f"  excluded: {reason}" for reason in reasons)
        if not reasons:
            yield "  upstream ships it, the matrix does not request it: extend `axes` or `include`"
    else:
        yield f"  as a selector it means: {', '.join(cell.id for cell in cells)}"
