"""matrix + upstream facts -> Plan: every image and every excluded combination. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from packaging.specifiers import SpecifierSet

from wheelyard.errors import MatrixError
from wheelyard.model import Base, Cell, Exclusion, Flavour, FrameworkPin, Plan
from wheelyard.planning.combine import (
    Combination,
    Verdicts,
    ancestry,
    default_bases,
    defined_frameworks,
    exclusions,
    identify,
    identify_all,
    judge,
)
from wheelyard.planning.facts import Upstream, facts_file, for_architecture, load_upstream
from wheelyard.planning.matrix import read_matrix
from wheelyard.planning.matrix_model import CudaEntry, Matrix
from wheelyard.planning.shipped import floating, index_of, override, pins, releases, usual_policy
from wheelyard.planning.tags import assign_aliases, full_tag, named
from wheelyard.planning.yamlmap import Problem, YamlPath
from wheelyard.versions import leads, order

MATRIX = "matrix.yaml"
# The axes' names in reasons: a value excluded by itself comes before one excluded in combination.
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
    """Return the inputs of a plan beside the plan itself, for code that explains it."""
    matrix, source, problems = read_matrix(project / MATRIX)
    upstream = load_upstream(facts_file(project))
    if matrix is None:
        raise MatrixError(source.report(problems))
    return matrix, upstream, make_plan(matrix, upstream, problems)


def make_plan(matrix: Matrix, upstream: Upstream, problems: Sequence[Problem] = ()) -> Plan:
    """Plan a matrix; MatrixError lists every invalid cell, value and exclude."""
    plan, faults = _expand(matrix, upstream)
    if problems or faults:
        raise MatrixError(matrix.source.report([*problems, *faults]))
    return plan


def _expand(matrix: Matrix, upstream: Upstream) -> tuple[Plan, list[Problem]]:
    verdicts = judge(matrix, upstream)
    cells = [_cell(matrix, upstream, item, verdicts) for item in verdicts.images]
    plain = [
        cell for cell, item in zip(cells, verdicts.images, strict=True)
        if item not in verdicts.overrides and item not in verdicts.policies
    ]  # fmt: skip
    tagged = _with_aliases(cells, plain, next(iter(matrix.flavours)))
    named_on_axes = (pins(matrix, value) for value in defined_frameworks(matrix))
    frameworks = (*named_on_axes, *(cell.frameworks for cell in cells))
    plan = Plan(
        _with_shared_tags(tagged),
        frozenset(pin.name for each in frameworks for pin in each),
        partial(_excluded, matrix, upstream, frozenset(verdicts.images)),
    )
    problems = [
        *verdicts.problems,
        *_clashes(cells, verdicts.images.values()),
        *_orphans(cells, verdicts),
        *_unused(matrix, upstream, verdicts),
    ]
    return plan, problems


def _excluded(
    matrix: Matrix, upstream: Upstream, images: frozenset[Combination]
) -> tuple[Exclusion, ...]:
    found = dict(exclusions(matrix, upstream, images))
    return tuple(map(Exclusion, identify_all(matrix, found), found.values()))


def _cell(matrix: Matrix, upstream: Upstream, item: Combination, verdicts: Verdicts) -> Cell:
    known = for_architecture(upstream, item.architecture)
    shipped = releases(matrix, known, item.framework, item.cuda)
    facts = {} if isinstance(shipped, str) else shipped
    frameworks = tuple(facts) or pins(matrix, item.framework)
    policy = verdicts.policies.get(item) or usual_policy(matrix, item.framework)
    swapped = override(facts, item.cudnn) if item in verdicts.overrides else None
    flavour = _flavour(matrix, item, frameworks)
    bounds = dict(_bounds(matrix, item, frameworks))
    base = matrix.bases[item.base]
    default = default_bases(matrix)[item.python] == item.base
    shown = "" if default else item.base
    suffix = "" if item.flavour == next(iter(matrix.flavours)) else item.flavour
    machine = named(item.architecture)
    return Cell(
        id=identify(matrix, item),
        frameworks=frameworks,
        cuda=item.cuda,
        cudnn=item.cudnn,
        python=item.python,
        flavour=flavour,
        base=Base(item.base, base.suite, base.python, base.image, item.architecture),
        requirements=(*map(_requirement, frameworks), *flavour.tools),
        constraints=tuple(sorted({*bounds, *floating(facts, item.cuda, item.cudnn, policy)})),
        reasons=tuple(sorted(bounds.items())),
        parent=flavour.extends and identify(matrix, item._replace(flavour=flavour.extends)),
        tags=(full_tag(frameworks, item.cuda, item.cudnn, item.python, shown, suffix, machine),),
        default_base=default,
        policy=policy,
        overrides=() if swapped is None else (swapped,),
        built_for=tuple(
            (pin.name, release.cuda)
            for pin, release in facts.items()
            if not leads(item.cuda, release.cuda)
        ),
        index=index_of(matrix, facts, item.cuda),
        about=tuple((k, v) for k, v in matrix.about.model_dump().items() if v is not None),
    )


def _requirement(pin: FrameworkPin) -> str:
    local = "" if pin.local is None else f"+{pin.local}"
    return f"{pin.distribution}=={pin.version}{local}"


def _flavour(matrix: Matrix, item: Combination, frameworks: Iterable[FrameworkPin]) -> Flavour:
    """Gather a flavour with all that it extends, and what base, CUDA and frameworks add."""
    names = ancestry(matrix, item.flavour)
    entries = [matrix.flavours[name] for name in names]
    extends = entries[0].extends if entries[0].extends in matrix.flavours else None
    packages = {*matrix.bases[item.base].packages}
    tools = {
        tool
        for name in names
        for entry in _cuda_entries(matrix, item.cuda)
        for tool in entry.tools.get(name, ())
    }
    for pin in frameworks:
        for name in names:
            tools.update(_framework_tools(matrix, pin, item.python, name))
    for entry in entries:
        packages.update(entry.packages)
        tools.update(entry.tools)
    root = None if extends is None else names[-1]
    return Flavour(item.flavour, extends, tuple(sorted(packages)), tuple(sorted(tools)), root)


def _framework_tools(matrix: Matrix, pin: FrameworkPin, python: str, flavour: str) -> Iterator[str]:
    """Yield the tools that a flavour adds for a framework's release and a Python."""
    for tool in matrix.frameworks[pin.name].tools.get(flavour, ()):
        if isinstance(tool, str):
            yield tool
        elif _is_for(tool.when, pin) and (tool.python is None or python in tool.python):
            yield tool.require


@cache  # hundreds of cells ask about a few dozen pairs
def _is_for(when: str | None, pin: FrameworkPin) -> bool:
    return when is None or SpecifierSet(when).contains(order(pin.version), prereleases=True)


def _cuda_entries(matrix: Matrix, cuda: str) -> Iterator[CudaEntry]:
    return (entry for asked, entry in matrix.cuda.items() if leads(asked, cuda))


def _bounds(
    matrix: Matrix, item: Combination, frameworks: Iterable[FrameworkPin]
) -> Iterator[tuple[str, str]]:
    """Yield the matrix's bounds for a cell's frameworks and CUDA, with their reasons."""
    flavours = (None, *ancestry(matrix, item.flavour))
    for pin in frameworks:
        for bound in matrix.frameworks[pin.name].constraints:
            if bound.flavour not in flavours or (bound.alone and " + " in item.framework):
                continue
            if bound.cuda is not None and not leads(bound.cuda, item.cuda):
                continue
            if _is_for(bound.when, pin):
                yield bound.require, bound.reason
    for entry in _cuda_entries(matrix, item.cuda):
        yield from ((bound.require, bound.reason) for bound in entry.constraints)


def _with_aliases(
    cells: list[Cell], eligible: list[Cell], default_flavour: str
) -> tuple[Cell, ...]:
    owned = assign_aliases(eligible, default_flavour, (cell.tags[0] for cell in cells))
    return tuple(replace(cell, tags=(*cell.tags, *owned.get(cell.id, ()))) for cell in cells)


def _with_shared_tags(cells: tuple[Cell, ...]) -> tuple[Cell, ...]:
    """Give images that differ in their architecture alone the tags of the default's."""
    tags = {cell.id: cell.tags for cell in cells}
    several = {cell.sibling for cell in cells if cell.sibling != cell.id and cell.sibling in tags}
    return tuple(
        replace(cell, shared_tags=tags[cell.sibling]) if cell.sibling in several else cell
        for cell in cells
    )


def _clashes(cells: Iterable[Cell], origins: Iterable[YamlPath]) -> Iterator[Problem]:
    """Find an id or a full tag that two images would share."""
    owners: dict[str, str] = {}
    for cell, origin in zip(cells, origins, strict=True):
        for name in (cell.id, cell.tags[0]):
            if name in owners:
                yield Problem(origin, f"{name} would name two images: {owners[name]}, {cell.id}")
            owners[name] = cell.id


def _orphans(cells: list[Cell], verdicts: Verdicts) -> Iterator[Problem]:
    """Find an image whose flavour extends one that is not in the plan."""
    ids = {cell.id for cell in cells}
    for cell, origin in zip(cells, verdicts.images.values(), strict=True):
        if cell.parent is not None and cell.parent not in ids:
            message = f"{cell.id} extends {cell.parent}, which is not in the plan; add that as well"
            yield Problem(origin, message)


def _unused(matrix: Matrix, upstream: Upstream, verdicts: Verdicts) -> Iterator[Problem]:
    """Find axis values that no image uses, with the reasons for their exclusion."""

    @cache
    def excluded() -> tuple[tuple[Combination, str], ...]:
        return tuple(exclusions(matrix, upstream, verdicts.images))

    used = {*verdicts.images, *verdicts.unresolved}
    for number, axis in enumerate(Combination._fields):
        living = {combination[number] for combination in used}
        for at, value in enumerate(getattr(matrix.axes, axis)):
            if value in living:
                continue
            reasons = dict.fromkeys(why for item, why in excluded() if item[number] == value)
            about = [why for why in reasons if _TITLES[axis] in why]
            if reasons:
                message = f"no image uses {value}: {_some(about or reasons)}"
                yield Problem(("axes", axis, at), message)


def _some(reasons: Iterable[str], limit: int = 4) -> str:
    """Join the first reasons; many combinations fail for the same few."""
    shown = list(reasons)
    more = f"; and {len(shown) - limit} more" if len(shown) > limit else ""
    return "; ".join(shown[:limit]) + more
