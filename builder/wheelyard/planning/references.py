"""Checks of matrix.yaml against itself: names, duplicates, overlaps, `extends`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from wheelyard.architecture import ARCHITECTURES
from wheelyard.errors import did_you_mean
from wheelyard.frameworks.known import FRAMEWORKS
from wheelyard.planning.matrix_model import Matrix
from wheelyard.planning.yamlmap import Problem, YamlPath
from wheelyard.versions import leads

_RESERVED = {"all", "latest", *ARCHITECTURES}  # words that selectors and tags already use


def check_references(matrix: Matrix) -> list[Problem]:
    """Return every reference to an undefined name and every duplicate value."""
    return [
        *_axis_values(matrix),
        *_frameworks(matrix),
        *_names(matrix),
        *_includes(matrix),
        *_extends(matrix),
        *_added(matrix),
        *_words(matrix),
    ]


def _framework_names(text: str) -> list[str]:
    """Return the names in a framework axis value: "a 1.0 + b 2.0" has a and b."""
    return [part.split(" ")[0] for part in text.split(" + ")]


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Say that a name is not defined, and suggest a similar one."""
    return f"{what} {name!r} is not defined; {did_you_mean(name, known, 'defined')}"


def _axis_values(matrix: Matrix) -> Iterator[Problem]:
    """Find duplicate values on an axis, and values that contain another: both name one image."""
    for axis in type(matrix.axes).model_fields:
        values: tuple[str, ...] = getattr(matrix.axes, axis)
        for at, value in enumerate(values):
            for earlier in values[:at]:
                if value == earlier:
                    yield Problem(("axes", axis, at), f"{value!r} is given twice on this axis")
                elif axis == "cudnn" and (leads(value, earlier) or leads(earlier, value)):
                    message = f"{value} overlaps {earlier}: one release would match both"
                    yield Problem(("axes", axis, at), message)


def _frameworks(matrix: Matrix) -> Iterator[Problem]:
    for name in matrix.frameworks:
        if name not in FRAMEWORKS:
            yield Problem(
                ("frameworks", name),
                f"Wheelyard has no record of the framework {name!r}: it does not know where its "
                "wheels and images state version, CUDA and architectures; known are "
                f"{', '.join(FRAMEWORKS)}. Use one of these names, or add a record "
                "(CONTRIBUTING.md, Add a framework)",
            )
    values: list[tuple[YamlPath, str]] = [
        (("axes", "framework", at), text) for at, text in enumerate(matrix.axes.framework)
    ]
    values += [(("include", at, "framework"), e.framework) for at, e in enumerate(matrix.include)]
    for path, text in values:
        names = _framework_names(text)
        for name in names:
            if name not in matrix.frameworks:
                yield Problem(path, unknown("framework", name, matrix.frameworks))
        if len(set(names)) < len(names):
            yield Problem(path, f"{text!r} names a framework twice")


def _names(matrix: Matrix) -> Iterator[Problem]:
    for at, name in enumerate(matrix.axes.base):
        if name not in matrix.bases:
            yield Problem(("axes", "base", at), unknown("base", name, matrix.bases))
    for at, name in enumerate(matrix.axes.flavour):
        if name not in matrix.flavours:
            yield Problem(("axes", "flavour", at), unknown("flavour", name, matrix.flavours))


def _includes(matrix: Matrix) -> Iterator[Problem]:
    for at, entry in enumerate(matrix.include):
        base = matrix.bases.get(entry.base)
        if base is None:
            yield Problem(("include", at, "base"), unknown("base", entry.base, matrix.bases))
        elif base.python != entry.python:
            message = f"{entry.base} holds Python {base.python}, not {entry.python}"
            yield Problem(("include", at, "python"), message)
        for place, name in enumerate(entry.flavours):
            path: YamlPath = ("include", at, "flavours", place)
            if name not in matrix.flavours:
                yield Problem(path, unknown("flavour", name, matrix.flavours))
            if name in entry.flavours[:place]:
                yield Problem(path, f"{name!r} is given twice")
        for place, name in enumerate(entry.architectures):
            if name in entry.architectures[:place]:
                path = ("include", at, "architectures", place)
                yield Problem(path, f"{name!r} is given twice")


def _extends(matrix: Matrix) -> Iterator[Problem]:
    for name, entry in matrix.flavours.items():
        path: YamlPath = ("flavours", name, "extends")
        if entry.extends is not None and entry.extends not in matrix.flavours:
            yield Problem(path, unknown("flavour", entry.extends, matrix.flavours))
            continue
        chain = [name]
        while (above := matrix.flavours[chain[-1]].extends) in matrix.flavours:
            if above in chain:
                if above == name:
                    yield Problem(path, f"extends itself: {' -> '.join([*chain, name])}")
                break
            chain.append(str(above))


def _added(matrix: Matrix) -> Iterator[Problem]:
    """Find an undefined flavour that a framework or a CUDA version adds to."""
    for kind in ("frameworks", "cuda"):
        for key, entry in getattr(matrix, kind).items():
            for name in entry.tools:
                if name not in matrix.flavours:
                    problem = unknown("flavour", name, matrix.flavours)
                    yield Problem((kind, key, "tools", name), problem)
    for key, framework in matrix.frameworks.items():
        for at, bound in enumerate(framework.constraints):
            if bound.flavour is not None and bound.flavour not in matrix.flavours:
                path: YamlPath = ("frameworks", key, "constraints", at, "flavour")
                yield Problem(path, unknown("flavour", bound.flavour, matrix.flavours))


def _words(matrix: Matrix) -> Iterator[Problem]:
    """Find a name with two meanings: a selector or a tag could not tell them apart."""
    seen: dict[str, str] = {}
    for kind in ("frameworks", "bases", "flavours"):
        for name in getattr(matrix, kind):
            if name in _RESERVED:
                yield Problem(
                    (kind, name), f"{name!r} is a reserved word of selectors and tags; rename it"
                )
            if name in seen:
                yield Problem((kind, name), f"{name!r} is also one of {seen[name]}; rename one")
            seen[name] = kind
