"""matrix + upstream facts -> Plan: every image and every excluded combination. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from packaging.specifiers import SpecifierSet

from builder.combine import (
    Combination,
    Verdicts,
    ancestry,
    default_bases,
    identify,
    judge,
)
from builder.errors import MatrixError
from builder.matrix import read_matrix
from builder.matrix_model import Matrix
from builder.model import Base, Cell, Exclusion, Flavour, FrameworkPin, Plan
from builder.shipped import floating, pins
from builder.tags import assign_aliases, full_tag
from builder.upstream import Upstream, load_upstream
from builder.versions import order
from builder.yamlmap import Problem, YamlPath

MATRIX = "matrix.yaml"
# How reasons call an axis: a value excluded for its own sake comes before one excluded beside it.
_TITLES = {axis: axis for axis in Combination._fields} | {
    "cuda": "CUDA",
    "cudnn": "cuDNN",
    "python": "Python",
    "base": "holds Python",
}


def load_plan(project: Path) -> Plan:
    """Read the project's matrix and plan it; MatrixError lists every problem of both steps."""
    return load_inputs(project)[2]


def load_inputs(project: Path) -> tuple[Matrix, Upstream, Plan]:
    """Return what a plan is made from beside the plan, for those who explain it."""
    matrix, source, problems = read_matrix(project / MATRIX)
    upstream = load_upstream()
    if matrix is not None:
        plan, found = _expand(matrix, upstream)
        problems += found
        if not problems:
            return matrix, upstream, plan
    raise MatrixError(source.report(problems))


def make_plan(matrix: Matrix, upstream: Upstream) -> Plan:
    """Plan a matrix; MatrixError lists every cell, value and exclude that cannot stand."""
    plan, problems = _expand(matrix, upstream)
    if problems:
        raise MatrixError(matrix.source.report(problems))
    return plan


def _expand(matrix: Matrix, upstream: Upstream) -> tuple[Plan, list[Problem]]:
    verdicts = judge(matrix, upstream)
    cells = [_cell(matrix, upstream, item) for item in verdicts.images]
    plain = [
        cell for cell, item in zip(cells, verdicts.images, strict=True)
        if item not in verdicts.overrides
    ]  # fmt: skip
    excluded = (Exclusion(identify(matrix, item), why) for item, why in verdicts.excluded.items())
    plan = Plan(_with_aliases(cells, plain, next(iter(matrix.flavours))), tuple(excluded))
    problems = [
        *verdicts.problems,
        *_clashes(cells, verdicts.images.values()),
        *_orphans(cells, verdicts),
        *_unused(matrix, verdicts),
    ]
    return plan, problems


def _cell(matrix: Matrix, upstream: Upstream, item: Combination) -> Cell:
    frameworks = pins(matrix, item.framework)
    flavour = _flavour(matrix, item.flavour)
    base = matrix.bases[item.base]
    default = default_bases(matrix)[item.python] == item.base
    shown = "" if default else item.base
    suffix = "" if item.flavour == next(iter(matrix.flavours)) else item.flavour
    return Cell(
        id=identify(matrix, item),
        frameworks=frameworks,
        cuda=item.cuda,
        cudnn=item.cudnn,
        python=item.python,
        flavour=flavour,
        base=Base(item.base, base.suite, base.python),
        requirements=(*(f"{p.distribution}=={p.version}" for p in frameworks), *flavour.tools),
        constraints=tuple(
            sorted(
                {
                    *_bounds(matrix, item, frameworks),
                    *floating(matrix, upstream, item.framework, item.cuda, item.cudnn),
                }
            )
        ),
        parent=flavour.extends and identify(matrix, item._replace(flavour=flavour.extends)),
        tags=(full_tag(frameworks, item.cuda, item.cudnn, item.python, shown, suffix),),
        default_base=default,
    )


def _flavour(matrix: Matrix, name: str) -> Flavour:
    """Gather a flavour with all it extends."""
    entries = [matrix.flavours[ancestor] for ancestor in ancestry(matrix, name)]
    extends = entries[0].extends if entries[0].extends in matrix.flavours else None
    return Flavour(
        name,
        extends,
        tuple(sorted({package for entry in entries for package in entry.packages})),
        tuple(sorted({tool for entry in entries for tool in entry.tools})),
    )


def _bounds(matrix: Matrix, item: Combination, frameworks: Iterable[FrameworkPin]) -> Iterator[str]:
    """Yield the bounds that the matrix states for a cell's frameworks and CUDA."""
    for pin in frameworks:
        for bound in matrix.frameworks[pin.name].constraints:
            if bound.when is None or SpecifierSet(bound.when).contains(
                order(pin.version), prereleases=True
            ):
                yield bound.require
    if item.cuda in matrix.cuda:
        yield from (bound.require for bound in matrix.cuda[item.cuda].constraints)


def _with_aliases(
    cells: list[Cell], eligible: list[Cell], default_flavour: str
) -> tuple[Cell, ...]:
    owned = assign_aliases(eligible, default_flavour, (cell.tags[0] for cell in cells))
    return tuple(replace(cell, tags=(*cell.tags, *owned.get(cell.id, ()))) for cell in cells)


def _clashes(cells: Iterable[Cell], origins: Iterable[YamlPath]) -> Iterator[Problem]:
    """Find an id or a full tag that two images would share."""
    owners: dict[str, str] = {}
    for cell, origin in zip(cells, origins, strict=True):
        for name in (cell.id, cell.tags[0]):
            if name in owners:
                yield Problem(origin, f"{name} would name two images: {owners[name]}, {cell.id}")
            owners[name] = cell.id


def _orphans(cells: list[Cell], verdicts: Verdicts) -> Iterator[Problem]:
    """Find an image whose flavour extends one that the plan does not hold."""
    ids = {cell.id for cell in cells}
    for cell, origin in zip(cells, verdicts.images.values(), strict=True):
        if cell.parent is not None and cell.parent not in ids:
            message = f"{cell.id} extends {cell.parent}, which is not in the plan; add that one too"
            yield Problem(origin, message)


def _unused(matrix: Matrix, verdicts: Verdicts) -> Iterator[Problem]:
    """Find axis values that no image uses, with the reasons they were excluded for."""
    used = {*verdicts.images, *verdicts.unresolved}
    for number, axis in enumerate(Combination._fields):
        living = {combination[number] for combination in used}
        for at, value in enumerate(getattr(matrix.axes, axis)):
            if value in living:
                continue
            reasons = dict.fromkeys(
                why for item, why in verdicts.excluded.items() if item[number] == value
            )
            about = [why for why in reasons if _TITLES[axis] in why]
            if reasons:
                message = f"no image uses {value}: {_some(about or reasons)}"
                yield Problem(("axes", axis, at), message)


def _some(reasons: Iterable[str], limit: int = 4) -> str:
    """Join the first reasons; many combinations fail for the same few."""
    shown = list(reasons)
    more = f"; and {len(shown) - limit} more" if len(shown) > limit else ""
    return "; ".join(shown[:limit]) + more
