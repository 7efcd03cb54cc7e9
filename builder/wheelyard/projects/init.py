"""Writes the table of a project that has none: chooses its image, and says why."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.specifiers import SpecifierSet

from wheelyard.architecture import DEFAULT
from wheelyard.errors import MachineError, ProjectError, UsageError
from wheelyard.planning.drivers import driver_floor
from wheelyard.planning.facts import CPU
from wheelyard.projects.find import has_matrix
from wheelyard.projects.ground import chosen_entry
from wheelyard.projects.lock import frameworks_of
from wheelyard.projects.look import FRAMEWORKS, Seen, look, table_lines
from wheelyard.projects.table import OWN, PYPROJECT, read_project
from wheelyard.servers.pick import Choice, Host, Selection, named, pick

if TYPE_CHECKING:
    from wheelyard.planning.catalogue import CatalogueEntry


@dataclass(frozen=True, slots=True)
class Draft:
    """A table that is not written yet."""

    path: Path
    text: str  # of the whole file
    table: str  # the table alone
    image: str
    reasons: tuple[str, ...]
    more: tuple[tuple[Path, str], ...] = ()  # other files to write


def draft(folder: Path, entries: Sequence[CatalogueEntry], host: Host, image: str | None) -> Draft:
    """Look at the folder and choose an image for it and for `host`; `image` is one that was named.

    Raises UsageError if there is a table already, SelectionError or MachineError if no image fits.
    """
    if has_matrix(folder):
        raise UsageError(f"{folder} has a matrix.yaml: it is a set of images, not a project")
    found = read_project(folder)
    if found is not None:
        raise UsageError(f"{found.source} has a table already; change it there")
    seen = look(folder)
    if image is None:
        choice = choose(seen, entries, host)
        tag, reasons = choice.entry.tags[0], (*seen.reasons, _reason(choice, host))
    else:
        tag = chosen_entry(image, entries, "the set").tags[0]
        reasons = tuple(seen.reasons)
    table = "".join(f"{line}\n" for line in table_lines(tag, seen))
    more: tuple[tuple[Path, str], ...] = ()
    if seen.new_file is not None:
        more = ((folder / seen.new_file[0], seen.new_file[1]),)
    path, text = _placed(folder, table)
    return Draft(path, text, table, tag, reasons, more)


def choose(seen: Seen, entries: Sequence[CatalogueEntry], host: Host) -> Choice:
    """Choose the newest image that has what the files ask for and runs on the host.

    The CUDA that they name is kept to if there is such an image: its version, or its major.
    """
    fitting = [entry for entry in entries if _fits(entry, seen, seen.python & seen.conda_python)]
    if not fitting and str(seen.conda_python):
        fitting = [entry for entry in entries if _fits(entry, seen, seen.python)]
        seen.reasons.append(
            f"environment.yml asks for Python {seen.conda_python}, with which there is no such "
            "image"
        )
    if not fitting:
        asked = ", ".join(f"{name}{spec}" for name, spec in seen.wanted.items())
        python = f" for Python {seen.python}" if str(seen.python) else ""
        other = [
            entry.tags[0]
            for entry in entries
            if _fits(entry, seen, SpecifierSet())
            and (entry.architecture, entry.flavour) == (DEFAULT.name, "runtime")
        ]
        near = f" ({other[-1]} has it with another Python)" if other else ""
        raise ProjectError(
            f"no image of the set has {asked or 'what is asked for'}{python}{near}; "
            "`wheelyard plan` lists them, and --image names one"
        )
    framework = "+".join(FRAMEWORKS[name] for name in FRAMEWORKS if name in seen.wanted) or None
    cudas = [] if seen.cuda is None else [seen.cuda, seen.cuda.partition(".")[0]]
    for cuda in (*cudas, None):
        try:
            return pick(fitting, host, Selection(framework=framework, cuda=cuda))
        except MachineError:
            if cuda is None:
                raise
    raise AssertionError("the last choice is made or refused")


def _reason(choice: Choice, host: Host) -> str:
    """Say why the image was chosen; without a driver here, say what its servers need."""
    if host.driver is not None or choice.entry.cuda == CPU:
        return choice.reason
    floor = driver_floor(choice.entry.cuda)
    return (
        f"{named(choice.entry)} is the newest that fits; where it runs, the NVIDIA driver must be "
        f"{floor.minimum} or newer"
    )


def _fits(entry: CatalogueEntry, seen: Seen, python: SpecifierSet) -> bool:
    versions = frameworks_of(entry)
    if not python.contains(f"{entry.python}.9"):
        return False
    return all(
        name in versions and spec.contains(versions[name], prereleases=True)
        for name, spec in seen.wanted.items()
    )


def _placed(folder: Path, table: str) -> tuple[Path, str]:
    """Return the file for the table, and its whole text; nothing else of it changes."""
    path = folder / PYPROJECT
    if not path.is_file():
        return folder / OWN, table
    before = path.read_bytes().decode("utf-8")
    end = "\r\n" if "\r\n" in before else "\n"
    joint = "" if not before or before.endswith(end) else end
    text = f"{before}{joint}{end}[tool.wheelyard]{end}{table.replace(chr(10), end)}"
    try:
        after, data = tomllib.loads(text), tomllib.loads(before)
        after["tool"].pop("wheelyard")
    except (tomllib.TOMLDecodeError, KeyError):  # such as tool = {...} on one line
        return folder / OWN, table
    data.setdefault("tool", {})
    return (path, text) if after == data else (folder / OWN, table)
