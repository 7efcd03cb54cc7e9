"""The Python distributions of an image, and whether their requirements are met (`pip check`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from email.parser import HeaderParser
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from wheelyard.architecture import ARCHITECTURES, DEFAULT
from wheelyard.contract.constraints import environment
from wheelyard.errors import InspectError, unreadable
from wheelyard.images.inspect.licences import Licence, wheel_licence

if TYPE_CHECKING:
    from wheelyard.images.inspect.tree import Tree


@dataclass(frozen=True, slots=True)
class Distribution:
    """Name, version, requirements and licence from a METADATA file."""

    name: str
    version: str
    requires: tuple[str, ...]
    licence: Licence


def installed(tree: Tree, site: str) -> list[Distribution]:
    """Return every distribution in `site`, from its METADATA."""
    names = []
    for entry in tree:
        folder, _, name = entry.path.rpartition("/")
        parent = folder.rpartition("/")[0]
        if name == "METADATA" and folder.endswith(".dist-info") and parent == site:
            names.append(_parse(tree.text(entry.path), entry.path))
    return sorted(names, key=lambda d: d.name.lower())


def dependency_problems(
    tree: Tree, site: str, python: str, architecture: str = DEFAULT.name
) -> list[str]:
    """List what `pip check` would: requirements that are missing or of another version."""
    distributions = installed(tree, site)
    markers = environment(python, ARCHITECTURES[architecture].machine)
    versions: dict[str, str] = {canonicalize_name(d.name): d.version for d in distributions}
    problems = []
    for distribution in distributions:
        for text in distribution.requires:
            problem = _problem(text, versions, markers)
            if problem:
                problems.append(f"{distribution.name} {distribution.version} {problem}")
    return problems


def overridden(
    tree: Tree,
    site: str,
    python: str,
    overrides: Sequence[str],
    architecture: str = DEFAULT.name,
) -> list[str]:
    """Select the problems that the cell's own overrides of upstream's pins cause."""
    pins = {canonicalize_name(pin.name): pin.specifier for pin in map(Requirement, overrides)}
    excused = []
    for distribution in installed(tree, site):
        name = canonicalize_name(distribution.name)
        if name in pins and pins[name].contains(distribution.version, prereleases=True):
            excused.append(f", but {name} {distribution.version} is installed")
    return [
        problem
        for problem in dependency_problems(tree, site, python, architecture)
        if problem.endswith(tuple(excused)) and excused
    ]


def _parse(metadata: str, path: str) -> Distribution:
    with unreadable(lambda why: InspectError(f"/{path} of the image is damaged ({why})")):
        message = HeaderParser().parsestr(metadata)
        name, version = message["Name"], message["Version"]
        requires = tuple(map(str, message.get_all("Requires-Dist") or ()))
        stated = (message[field] for field in ("License-Expression", "License"))
        expression, text = (None if one is None else str(one) for one in stated)
        licence = wheel_licence(expression, map(str, message.get_all("Classifier") or ()), text)
    if not name or not version:
        raise InspectError(f"/{path} of the image does not name a distribution and a version")
    return Distribution(str(name), str(version), requires, licence)


def _problem(text: str, versions: dict[str, str], markers: dict[str, str]) -> str | None:
    try:
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate(dict(markers)):
            return None
        version = versions.get(canonicalize_name(requirement.name))
        fits = version and requirement.specifier.contains(version, prereleases=True)
    except ValueError:  # of packaging's: a requirement, a marker or a version
        return f"has an invalid requirement: {text}"
    if version is None:
        return f"requires {requirement.name}, which is not installed"
    if not fits:
        return f"requires {text}, but {requirement.name} {version} is installed"
    return None
