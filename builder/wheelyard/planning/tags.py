"""Ids, tags and aliases: how an image is called, and which image owns a short name.

Id    pytorch-2.3.1-cuda12.1-cudnn8.9-py3.11[-BASE]-FLAVOUR[-ARCHITECTURE]
Tag   pytorch:2.3.1-cuda12.1-cudnn8.9-py3.11[-FLAVOUR][-BASE][-ARCHITECTURE]

A combined image has the id pytorch-2.9.1-tensorflow-2.20.0-... and the tag
pytorch-tensorflow:2.9.1-2.20.0-..., because a tag may not hold a plus sign. The base is named
only where it is not the default base of its Python, the flavour in tags only where it is not the
first one of the matrix, the architecture only where it is not amd64. A registry has an image of
another architecture under its amd64 sibling's tags as well, in one index.

Aliases shorten the tag: VERSION is the full version or its first two components.

    VERSION-cuda12.1[-FLAVOUR]    VERSION[-FLAVOUR]    latest, or FLAVOUR alone

Of all images of an architecture that an alias could mean, one owns it: the newest framework, then
the newest CUDA, cuDNN and Python, then the default base. Pre-releases own none, nor does an image
whose cuDNN was swapped for another than upstream's or that follows another policy than the matrix:
they are for those who ask for them by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from packaging.version import Version

from wheelyard.architecture import DEFAULT
from wheelyard.model import Cell, FrameworkPin
from wheelyard.planning.facts import CPU, NONE
from wheelyard.versions import order, short


def id_contents(pins: Sequence[FrameworkPin], cuda: str, cudnn: str, python: str) -> str:
    """Join the first part of an id; base, flavour and architecture follow where they are named."""
    names = (f"{pin.name}-{pin.version}" for pin in pins)
    words = (*names, _cuda_word(cuda), _cudnn_word(cudnn), f"py{python}")
    return "-".join(word for word in words if word)


def named(architecture: str) -> str:
    """Return an architecture as in ids and tags; empty for the default."""
    return "" if architecture == DEFAULT.name else architecture


def axes(cell: Cell) -> dict[str, str]:
    """Return what distinguishes a cell from its siblings, axis by axis, in the order of its id."""
    return {
        "framework": cell.framework,
        "framework_version": cell.framework_version,
        "cuda": cell.cuda,
        "cudnn": cell.cudnn,
        "python": cell.python,
        "flavour": cell.flavour.name,
        "base": cell.base.name,
        **({"architecture": cell.architecture} if named(cell.architecture) else {}),
    }


def _cuda_word(cuda: str) -> str:
    """Return a CUDA version as in ids and tags; a build without CUDA is `cpu`."""
    return CPU if cuda == CPU else f"cuda{cuda}"


def _cudnn_word(cudnn: str) -> str:
    """Return a cuDNN version as in ids and tags; empty for none."""
    return "" if cudnn == NONE else f"cudnn{cudnn}"


def full_tag(
    pins: Sequence[FrameworkPin],
    cuda: str,
    cudnn: str,
    python: str,
    base: str,
    flavour: str,
    architecture: str = "",
) -> str:
    """Join the full tag; what follows the Python is empty if it is the default."""
    contents = (*(pin.version for pin in pins), _cuda_word(cuda), _cudnn_word(cudnn))
    words = (*contents, f"py{python}", flavour, base, architecture)
    return f"{repository(pins)}:{'-'.join(word for word in words if word)}"


def repository(pins: Sequence[FrameworkPin]) -> str:
    """Return the image name before the colon."""
    return "-".join(pin.name for pin in pins)


def assign_aliases(
    cells: Iterable[Cell], default_flavour: str, taken: Iterable[str]
) -> dict[str, tuple[str, ...]]:
    """Return id -> the aliases that the image owns, longest first; never one in `taken`."""
    full = set(taken)
    owners: dict[str, str] = {}
    claims: dict[str, list[str]] = {}
    for cell in sorted(cells, key=_precedence):  # the last to claim a name is the newest
        claims[cell.id] = [alias for alias in _claims(cell, default_flavour) if alias not in full]
        owners.update(dict.fromkeys(claims[cell.id], cell.id))
    return {
        image: tuple(alias for alias in wanted if owners[alias] == image)
        for image, wanted in claims.items()
    }


def _precedence(
    cell: Cell,
) -> tuple[tuple[Version, ...], Version, Version, Version, bool]:
    newest = tuple(order(pin.version) for pin in cell.frameworks)
    cuda, cudnn = ("0" if v in (CPU, NONE) else v for v in (cell.cuda, cell.cudnn))
    return newest, order(cuda), order(cudnn), order(cell.python), cell.default_base


def _claims(cell: Cell, default_flavour: str) -> Iterator[str]:
    """Yield the aliases that a cell would carry, longest first; none for a pre-release."""
    if any(order(pin.version).is_prerelease for pin in cell.frameworks):
        return
    image = repository(cell.frameworks)
    flavour = "" if cell.flavour.name == default_flavour else cell.flavour.name
    machine = named(cell.architecture)
    suffix = "".join(f"-{word}" for word in (flavour, machine) if word)
    full = "-".join(pin.version for pin in cell.frameworks)
    brief = "-".join(short(pin.version) for pin in cell.frameworks)
    for version in dict.fromkeys((full, brief)):
        yield f"{image}:{version}-{_cuda_word(cell.cuda)}{suffix}"
    for version in dict.fromkeys((full, brief)):
        yield f"{image}:{version}{suffix}"
    yield f"{image}:{suffix[1:] or 'latest'}"
