"""Choose images of a plan: ids, tags, globs, axis words, `all`; commas join them.

    pytorch-2.3.1-cuda12.1-cudnn8.9-py3.11-runtime    an id, a full tag or an alias
    pytorch-2.3*-devel                                a glob on ids
    cuda12.1-cudnn8.9   pytorch-2.3   2.3.1-devel     axis words; every one must hold
    all

A word is a name (framework, flavour, base, architecture), a version of a framework, or cuda, cudnn,
py with a version. Versions match by leading components: cuda12 is every CUDA 12, 2.3 is not 2.30. A
version behind a framework's name is that framework's, which matters for combined images. An image
whose cuDNN was put in the place of upstream's is chosen by words only where they name that cuDNN in
full, or nothing of what images hold (`runtime`).
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Collection, Iterable, Iterator
from fnmatch import fnmatchcase

from wheelyard.errors import SelectionError
from wheelyard.model import Cell, Plan
from wheelyard.versions import in_order, leads

_GLOB = re.compile(r"[*?\[]")
_VERSION = re.compile(r"\d")
_ALIKE = 0.6  # of 1: as difflib's own cutoff


def select(plan: Plan, selector: str) -> tuple[Cell, ...]:
    """Return the chosen cells in plan order, each once.

    Raises SelectionError for a part that is empty or matches nothing; it names near matches.
    """
    chosen = {cell.id for part in selector.split(",") for cell in _part(plan, part.strip())}
    return tuple(cell for cell in plan.cells if cell.id in chosen)


def words(selector: str, frameworks: Collection[str]) -> list[str]:
    """Split axis words; a version stays with the framework's name before it."""
    joined: list[str] = []
    for word in selector.split("-"):
        if word[:1].isdigit() and joined and joined[-1] in frameworks:
            joined[-1] += f"-{word}"
        else:
            joined.append(word)
    return joined


def continuations(plan: Plan, start: str) -> list[str]:
    """Return the selectors that begin with `start`; ids and tags only once a letter is there."""
    before, comma, part = start.rpartition(",")
    known = {word for cell in plan.cells for word in _words_of(cell)}
    if part:
        known |= {name for cell in plan.cells for name in (cell.id, *cell.tags)}
    else:
        known = {word for word in known if not word[0].isdigit()}
    return sorted(f"{before}{comma}{name}" for name in {"all", *known} if name.startswith(part))


def _part(plan: Plan, part: str) -> list[Cell]:
    if not part:
        raise SelectionError(
            "the selector has an empty part; write ids or axis words separated by commas, or `all`"
        )
    if part == "all":
        return list(plan.cells)
    named = [cell for cell in plan.cells if part == cell.id or part in cell.tags]
    cells = named or _globbed(plan, part) or _described(plan, part)
    if not cells:
        raise SelectionError(_nothing(plan, part))
    return cells


def _globbed(plan: Plan, part: str) -> list[Cell]:
    if not _GLOB.search(part):
        return []
    return [cell for cell in plan.cells if fnmatchcase(cell.id, part)]


def _described(plan: Plan, part: str) -> list[Cell]:
    wanted = words(part, plan.frameworks)
    return [
        cell for cell in plan.cells if _all_hold(wanted, _words_of(cell)) and _meant(cell, wanted)
    ]


def _meant(cell: Cell, wanted: list[str]) -> bool:
    """Match an image with an overridden cuDNN only if the words name that cuDNN, or no contents."""
    apart = (cell.flavour.name, f"py{cell.python}", cell.architecture)
    contents = _vocabulary("-".join(word for word in cell.id.split("-") if word not in apart))
    about = any(leads(word, known) for word in wanted for known in contents)
    return not cell.overrides or f"cudnn{cell.cudnn}" in wanted or not about


def is_described(identifier: str, text: str, frameworks: Collection[str]) -> bool:
    """Tell whether axis words hold for an image, of which no more than its id is known."""
    return _all_hold(words(text, frameworks), _vocabulary(identifier))


def _vocabulary(identifier: str, *more: str) -> set[str]:
    """Return every word that applies to an image: `pytorch-2.3.1` is also pytorch and 2.3.1."""
    single = identifier.split("-")
    pairs = itertools.pairwise(single)  # in an id only a framework precedes a bare version
    return {*single, *more, *(f"{name}-{word}" for name, word in pairs if word[:1].isdigit())}


def _words_of(cell: Cell) -> set[str]:
    """Return every word that applies to a cell, those that its id leaves out included."""
    return _vocabulary(cell.id, cell.base.name, cell.architecture)


def _all_hold(wanted: Iterable[str], vocabulary: Iterable[str]) -> bool:
    return all(any(leads(word, known) for known in vocabulary) for word in wanted)


def excluded_because(plan: Plan, part: str) -> list[str]:
    """Return the reasons of the excluded combinations that these words match, each once."""
    wanted = words(part, plan.frameworks)
    near = (e for e in plan.excluded if all(word in e.id for word in wanted))  # few of thousands
    reasons = (e.reason for e in near if _all_hold(wanted, _vocabulary(e.id)))
    return list(dict.fromkeys(reasons))


def _nothing(plan: Plan, part: str) -> str:
    """Say why a part matches nothing: excluded, unknown words, or no image with all of them."""
    for exclusion in plan.excluded:
        if part == exclusion.id:
            return f"{part} is not an image: {exclusion.reason}"
    return "\n  ".join((f"{part!r} selects no image", *_hints(plan, part)))


def _hints(plan: Plan, part: str) -> Iterator[str]:
    ids = [cell.id for cell in plan.cells]
    vocabulary = {word for cell in plan.cells for word in _words_of(cell)}
    wanted = words(part, plan.frameworks)
    lost = [word for word in wanted if not any(leads(word, known) for known in vocabulary)]
    names = [word for word in vocabulary if not _VERSION.search(word)]
    meant = {
        word: [] if _VERSION.search(word) else difflib.get_close_matches(word.lower(), names, 1)
        for word in lost
    }
    if lost and all(meant.values()) and not _GLOB.search(part):
        corrected = "-".join(meant[word][0] if word in meant else word for word in wanted)
        yield f"did you mean {corrected}?"
        return
    if near := nearest(part, ids, 3):
        yield f"nearest ids: {', '.join(near)}"
    if lost and not _GLOB.search(part):
        yield f"unknown: {', '.join(word or 'an empty word' for word in lost)}"
        kinds = {_VERSION.split(word)[0] for word in lost}
        alike = [word for word in vocabulary if _VERSION.split(word)[0] in kinds]
        yield f"words that exist: {', '.join(in_order(alike) or _of_each_kind(vocabulary))}"
    yield from (f"excluded: {reason}" for reason in excluded_because(plan, part)[:3])
    yield "`wheelyard plan` lists all images, `wheelyard plan --explain ID` says why one is missing"


def nearest(text: str, names: Iterable[str], count: int) -> list[str]:
    """Return the names whose beginning is most like `text`; none if none is much like it."""
    likeness = {
        name: difflib.SequenceMatcher(None, text, name[: len(text) + 1]).ratio() for name in names
    }
    ranked = sorted(likeness, key=lambda name: -likeness[name])
    return [name for name in ranked if likeness[name] > _ALIKE][:count]


def _of_each_kind(vocabulary: Iterable[str]) -> list[str]:
    """Return all names, and of each kind of version the newest."""
    single = in_order(word for word in vocabulary if "-" not in word)
    newest = {_VERSION.split(word)[0]: word for word in single if _VERSION.search(word)}
    return [*(word for word in single if not _VERSION.search(word)), *newest.values()]
