"""Adds up a matrix: bytes that images share, in a registry and in Docker's store. Pure.

A registry keeps a blob once, whatever image it is in. Docker's own store keeps a layer once per
chain: the layer and all below it. The lower bound is the minimum for any order of layers: every
wheel once for each Python that it is installed for, every base once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from wheelyard.contract.recipe import BytecodeLayer
from wheelyard.images.assemble.assembly import PlannedLayer
from wheelyard.images.assemble.planned import planned_layers
from wheelyard.lock.stages import Stage
from wheelyard.model import LockedWheel

# If a layer was never made, its bytecode is estimated: about half of a pure wheel, a few
# megabytes of a big binary one.
_BYTECODE_SHARE, _BYTECODE_MOST = 0.5, 12_000_000
_TOP = 125_000  # bytes: selfcheck and the cell
_CONTRACT = 1_000  # bytes: user, group and environment on a registry's image

Known = Callable[[str], int | None]  # a layer's key -> its size, where it was made


@dataclass(frozen=True, slots=True)
class Part:
    """One layer of an image, and its content."""

    key: str
    size: int  # bytes, compressed
    sources: tuple[tuple[str, int], ...]  # what cannot be split further, and its bytes


@dataclass(frozen=True, slots=True)
class Sharing:
    """Bytes of a set of images, compressed."""

    images: int
    total: int  # each image on its own
    unique: int  # in a registry with all images
    docker: int  # in Docker's store with all images
    bound: int  # the minimum for any order of layers
    known: int  # of `unique`: layers whose size was seen, not estimated


def image_parts(stages: Sequence[Stage], known: Known) -> tuple[Part, ...]:
    """Return an image's layers, lowest first, with their real sizes if `known` has them."""
    parts = [_part(layer, stages, known) for layer in planned_layers(stages)]
    return (*parts, Part(f"top {stages[-1].cell.id}", _TOP, ((stages[-1].cell.id, _TOP),)))


def _part(planned: PlannedLayer, stages: Sequence[Stage], known: Known) -> Part:
    key, source = planned.key, planned.source
    if isinstance(source, int):
        guesses = [(key, _packages(stages, source))]
    elif isinstance(source, BytecodeLayer):
        guesses = [(f"bytecode {source.python} {w.sha256}", _bytecode(w)) for w in source.wheels]
    else:
        guesses = [(f"{source.python} {wheel.sha256}", wheel.size) for wheel in source.wheels]
    guessed = sum(size for _, size in guesses)
    size = known(key) or guessed
    return Part(key, size, tuple((name, size * guess // guessed) for name, guess in guesses))


def _packages(stages: Sequence[Stage], index: int) -> int:
    """Return the size of a stage's Debian packages; a registry's image brings them itself."""
    if stages[0].cell.base.image is not None:
        return _CONTRACT
    below = {deb.sha256 for deb in stages[index - 1].packages.packages} if index else set()
    packages = stages[index].packages.packages
    return max(1, sum(deb.size for deb in packages if deb.sha256 not in below))


def _bytecode(wheel: LockedWheel) -> int:
    return max(1, min(round(wheel.size * _BYTECODE_SHARE), _BYTECODE_MOST))


def measure(images: Iterable[Sequence[Part]], known: Known) -> Sharing:
    """Add up what a set of images costs."""
    images = list(images)
    blobs = {part.key: part.size for parts in images for part in parts}
    chains = {chain: size for parts in images for chain, size in _chains(parts)}
    sources: dict[str, int] = {}
    for parts in images:
        for name, size in (source for part in parts for source in part.sources):
            sources[name] = min(size, sources.get(name, size))
    return Sharing(
        images=len(images),
        total=sum(part.size for parts in images for part in parts),
        unique=sum(blobs.values()),
        docker=sum(chains.values()),
        bound=sum(sources.values()),
        known=sum(size for key, size in blobs.items() if known(key)),
    )


def to_pull(wanted: Sequence[Part], there: Sequence[Part]) -> tuple[int, int]:
    """Return the bytes to pull for one image next to another: by blobs, and for Docker."""
    blobs = {part.key for part in there}
    chains = {chain for chain, _ in _chains(there)}
    return (
        sum(part.size for part in wanted if part.key not in blobs),
        sum(size for chain, size in _chains(wanted) if chain not in chains),
    )


def _chains(parts: Sequence[Part]) -> Iterator[tuple[int, int]]:
    """Yield each layer's size under a key for it and all layers below it."""
    chain = 0
    for part in parts:
        chain = hash((chain, part.key))
        yield chain, part.size
