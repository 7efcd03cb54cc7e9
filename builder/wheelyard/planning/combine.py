"""Judges every combination that the matrix asks for: an image, or excluded with its reason."""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, reduce
from operator import or_
from typing import NamedTuple

from wheelyard.planning.facts import Release, Upstream, for_architecture
from wheelyard.planning.matrix_model import Include, Matrix, Policy
from wheelyard.planning.shipped import (
    Nearest,
    has_build,
    instead,
    override,
    pins,
    releases,
    usual_policy,
    why_not,
)
from wheelyard.planning.tags import id_contents, named
from wheelyard.planning.yamlmap import Problem, YamlPath
from wheelyard.versions import leads, short


class Combination(NamedTuple):
    """One value of each axis."""

    framework: str  # as in the matrix: "pytorch 2.9.1 + tensorflow 2.20.0"
    cuda: str
    cudnn: str
    python: str
    base: str
    flavour: str
    architecture: str


@dataclass(slots=True)
class Verdicts:
    """The images in plan order, and what was noticed on the way."""

    images: dict[Combination, YamlPath] = field(default_factory=dict)  # -> where it comes from
    overrides: set[Combination] = field(default_factory=set)  # cuDNN swapped by an include
    policies: dict[Combination, Policy] = field(default_factory=dict)  # another than the matrix's
    unresolved: set[Combination] = field(default_factory=set)  # names that are not defined
    problems: list[Problem] = field(default_factory=list)


def judge(matrix: Matrix, upstream: Upstream) -> Verdicts:
    """Find the images among the combinations of the axes, and judge the includes."""
    verdicts = Verdicts()
    _axes(matrix, upstream, verdicts)
    for at, entry in enumerate(matrix.include):
        _include(matrix, upstream, verdicts, entry, at)
    return verdicts


def exclusions(
    matrix: Matrix, upstream: Upstream, images: Container[Combination]
) -> Iterator[tuple[Combination, str]]:
    """Yield the combinations of the axes that are not images, with the reason: mostly thousands."""
    for combination, reason in _combinations(matrix, upstream, _Excludes(matrix), excluded=True):
        if reason and combination not in images:
            yield combination, reason


def default_bases(matrix: Matrix) -> dict[str, str]:
    """Return Python version -> the base that ids and tags do not name: the first defined."""
    return {entry.python: name for name, entry in reversed(matrix.bases.items())}


def identify(matrix: Matrix, combination: Combination) -> str:
    """Return a combination's id."""
    (identity,) = identify_all(matrix, (combination,))
    return identity


def identify_all(matrix: Matrix, combinations: Iterable[Combination]) -> Iterator[str]:
    """Give each combination's id; a matrix may exclude tens of thousands of combinations."""
    defaults = default_bases(matrix)

    @cache
    def contents(framework: str, cuda: str, cudnn: str, python: str) -> str:
        return id_contents(pins(matrix, framework), cuda, cudnn, python)

    @cache
    def rest(*words: str) -> str:
        return "".join(f"-{word}" for word in words if word)

    for framework, cuda, cudnn, python, base, flavour, architecture in combinations:
        shown = "" if defaults.get(python) == base else base
        last = rest(shown, flavour, named(architecture))
        yield contents(framework, cuda, cudnn, python) + last


def _axes(matrix: Matrix, upstream: Upstream, verdicts: Verdicts) -> None:
    excludes = _Excludes(matrix)
    for combination, reason in _combinations(matrix, upstream, excludes, excluded=False):
        if reason:
            continue
        if combination.base not in matrix.bases or combination.flavour not in matrix.flavours:
            verdicts.unresolved.add(combination)
        else:
            verdicts.images[combination] = ("axes",)
    for at in excludes.unused():
        message = "matches no combination of the axes; correct it or remove it"
        verdicts.problems.append(Problem(("exclude", at), message))


def _combinations(
    matrix: Matrix, upstream: Upstream, excludes: _Excludes, *, excluded: bool
) -> Iterator[tuple[Combination, str | None]]:
    """Yield the combinations of the axes in order, with the reason against those not wanted.

    Without `excluded`, what upstream does not ship is passed over: nearly everything, so that a
    plan whose exclusions nobody asks for takes an eighth of the time.
    """
    axes, nearest = matrix.axes, _remembered_instead()
    flavours = sorted(axes.flavour, key=lambda name: len(ancestry(matrix, name)))
    facts = {name: for_architecture(upstream, name) for name in axes.architecture}
    known = defined_frameworks(matrix)
    for architecture, framework, cuda in itertools.product(axes.architecture, known, axes.cuda):
        shipped = facts[architecture]
        if not excluded and not has_build(matrix, shipped, framework, cuda):
            continue
        policy = usual_policy(matrix, framework)
        for cudnn, python in itertools.product(axes.cudnn, axes.python):
            unshipped = why_not(matrix, shipped, framework, cuda, cudnn, python, policy, nearest)
            if unshipped and not excluded:
                continue
            for base, flavour in itertools.product(axes.base, flavours):
                item = Combination(framework, cuda, cudnn, python, base, flavour, architecture)
                reason = excludes.reason(item) or unshipped or _wrong_python(matrix, item)
                yield item, reason


def _remembered_instead() -> Nearest:
    """Return `instead` with a memory, for facts that stay as they are: combinations repeat it."""
    said: dict[tuple[int, str, str | None], str] = {}

    def nearest(title: str, known: Mapping[str, Release], cuda: str, python: str | None) -> str:
        key = (id(known), cuda, python)
        if key not in said:
            said[key] = instead(title, known, cuda, python)
        return said[key]

    return nearest


def _include(
    matrix: Matrix, upstream: Upstream, verdicts: Verdicts, entry: Include, at: int
) -> None:
    """Judge one include: here a combination that upstream does not ship is an error."""
    if not _defined(matrix, entry.framework):
        return
    known = [name for name in entry.flavours if name in matrix.flavours]
    flavours = sorted(known, key=lambda name: len(ancestry(matrix, name)))
    for architecture in entry.architectures:
        facts = for_architecture(upstream, architecture)
        problem, swapped = _include_problem(matrix, facts, entry)
        if problem:
            verdicts.problems.append(Problem(("include", at), problem))
            return
        for flavour in flavours:
            combination = Combination(
                entry.framework, entry.cuda, entry.cudnn, entry.python, entry.base, flavour,
                architecture,
            )  # fmt: skip
            _include_cell(matrix, verdicts, entry, at, combination, swapped)


def _include_cell(
    matrix: Matrix, verdicts: Verdicts, entry: Include, at: int, cell: Combination, swapped: bool
) -> None:
    if entry.base not in matrix.bases:
        verdicts.unresolved.add(cell)
    elif cell in verdicts.images:
        message = f"{identify(matrix, cell)} is already in the plan; remove this entry"
        verdicts.problems.append(Problem(("include", at), message))
    else:
        verdicts.images[cell] = ("include", at)
        if swapped:
            verdicts.overrides.add(cell)
        if entry.policy:
            verdicts.policies[cell] = entry.policy


def _include_problem(matrix: Matrix, upstream: Upstream, entry: Include) -> tuple[str | None, bool]:
    """Return what is wrong with an include, and whether its cuDNN is an override.

    cuDNN keeps its ABI within a major version, so another minor or patch release may replace
    upstream's; another major may not.
    """
    policy = entry.policy or usual_policy(matrix, entry.framework)
    shipped = releases(matrix, upstream, entry.framework, entry.cuda)
    reason = why_not(matrix, upstream, entry.framework, entry.cuda, None, entry.python, policy)
    if reason or isinstance(shipped, str):
        return reason, False
    if override(shipped, entry.cudnn) is None:
        held = why_not(
            matrix, upstream, entry.framework, entry.cuda, entry.cudnn, entry.python, policy
        )
        return held, False
    for pin, release in shipped.items():
        if short(entry.cudnn, 1) != short(release.cudnn, 1):
            title = matrix.frameworks[pin.name].title
            wants = f"{title} {release.version} requires cuDNN {short(release.cudnn)}"
            return f"{wants}; cuDNN {entry.cudnn} is another major version", False
    return None, True


class _Excludes:
    """The matrix's excludes as bits: each value of an axis has those that it does not rule out."""

    def __init__(self, matrix: Matrix) -> None:
        self.entries = matrix.exclude
        values = {**dict(matrix.axes), "framework": defined_frameworks(matrix)}
        self._of = [
            {value: self._allowing(axis, value) for value in values[axis]}
            for axis in Combination._fields
        ]

    def _allowing(self, axis: str, value: str) -> int:
        bits = 0
        for at, entry in enumerate(self.entries):
            wanted: tuple[str, ...] | None = getattr(entry.when, axis)
            if wanted is None or any(_matches(axis, asked, value) for asked in wanted):
                bits |= 1 << at
        return bits

    def reason(self, combination: Combination) -> str | None:
        """Return the reason of the first exclude that matches."""
        bits = -1
        for value, allowed in zip(combination, self._of, strict=True):
            bits &= allowed[value]
        return self.entries[(bits & -bits).bit_length() - 1].reason if bits else None

    def unused(self) -> list[int]:
        """List the excludes that match no combination: on some axis none of its values."""
        bits = -1
        for allowed in self._of:
            bits &= reduce(or_, allowed.values(), 0)
        return [at for at in range(len(self.entries)) if not bits >> at & 1]


def _matches(axis: str, asked: str, value: str) -> bool:
    """Match versions by component; a framework by name, or name and leading components."""
    if axis != "framework":
        return leads(asked, value)
    parts = [value, *value.split(" + ")]
    return any(leads(asked, part) or part.startswith(f"{asked} ") for part in parts)


def _wrong_python(matrix: Matrix, combination: Combination) -> str | None:
    entry = matrix.bases.get(combination.base)
    if entry is None or entry.python == combination.python:
        return None
    return f"{combination.base} holds Python {entry.python}, not {combination.python}"


def defined_frameworks(matrix: Matrix) -> list[str]:
    """Return the values of the framework axis whose names are all defined."""
    return [value for value in matrix.axes.framework if _defined(matrix, value)]


def _defined(matrix: Matrix, framework: str) -> bool:
    return all(part.split(" ")[0] in matrix.frameworks for part in framework.split(" + "))


def ancestry(matrix: Matrix, flavour: str) -> tuple[str, ...]:
    """Return a flavour and all that it extends, nearest first; a cycle ends where it closes."""
    chain: list[str] = []
    name: str | None = flavour
    while name is not None and name in matrix.flavours and name not in chain:
        chain.append(name)
        name = matrix.flavours[name].extends
    return tuple(chain)
