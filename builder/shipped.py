"""What upstream ships of what a matrix names: facts of its frameworks, and reasons against."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache

from builder.matrix_model import Matrix
from builder.model import FrameworkPin
from builder.upstream import Release, Upstream, known_as, misfit, newest_for
from builder.versions import is_exact, order, overlaps, short


def pins(matrix: Matrix, framework: str) -> tuple[FrameworkPin, ...]:
    """Split a framework axis value; KeyError when a name is not defined."""
    return tuple(
        FrameworkPin(name, version, matrix.frameworks[name].distribution)
        for name, version in _named_versions(framework)
    )


@lru_cache(maxsize=4096)
def _named_versions(framework: str) -> tuple[tuple[str, str], ...]:
    parts = (part.partition(" ") for part in framework.split(" + "))
    return tuple((name, version) for name, _, version in parts)


def releases(
    matrix: Matrix, upstream: Upstream, framework: str
) -> dict[FrameworkPin, Release] | str:
    """Return the facts of each framework of an axis value, or why there are none."""
    found: dict[FrameworkPin, Release] = {}
    for pin in pins(matrix, framework):
        known = upstream.get(pin.name, {})
        if pin.version not in known:
            return unknown_release(matrix.frameworks[pin.name].title, pin.version, known)
        found[pin] = known[pin.version]
    return found


def unknown_release(title: str, version: str, known: Mapping[str, Release]) -> str:
    """Say that the facts hold no such release, and which ones they hold nearby."""
    near = known_as(known, short(version)) or known_as(known, short(version, 1))
    near = near or sorted(known, key=order)[-1:]
    nearby = f" (known: {', '.join(near[-6:])})" if near else ""
    return f"there are no upstream facts about {title} {version}{nearby}"


def instead(title: str, known: Mapping[str, Release], cuda: str, python: str | None) -> str:
    """Name the newest release for a CUDA version, on this Python if there is one."""
    newest = newest_for(known, cuda, python) or newest_for(known, cuda, None)
    return f"for CUDA {cuda} " + (
        f"the newest is {title} {newest}" if newest else f"there is no {title}"
    )


def why_not(
    matrix: Matrix, upstream: Upstream, framework: str, cuda: str, cudnn: str | None, python: str
) -> str | None:
    """Say why upstream does not ship a combination, and the newest that fits; None if it does."""
    found = releases(matrix, upstream, framework)
    if isinstance(found, str):
        return found
    for pin, release in found.items():
        title = matrix.frameworks[pin.name].title
        reason = misfit(title, release, cuda, cudnn, python)
        if reason and overlaps(cuda, release.cuda_requirement[1]):
            return reason
        if reason:
            return f"{reason}, {instead(title, upstream[pin.name], cuda, python)}"
    return None


def floating(
    matrix: Matrix, upstream: Upstream, framework: str, cuda: str, cudnn: str
) -> Iterator[str]:
    """Yield a bound for CUDA and for cuDNN where no framework pins what the cell asks for."""
    found = releases(matrix, upstream, framework)
    facts = [] if isinstance(found, str) else list(found.values())
    for asked, wanted in (
        (cuda, [release.cuda_requirement for release in facts]),
        (cudnn, [release.cudnn_requirement for release in facts]),
    ):
        pinned = {name for name, spec in wanted if is_exact(spec) and overlaps(asked, spec)}
        for name in sorted({name for name, _ in wanted if name} - pinned):
            yield f"{name}=={asked}.*"
