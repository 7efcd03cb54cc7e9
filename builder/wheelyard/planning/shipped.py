"""What upstream ships for a matrix: facts about its frameworks, reasons against combinations."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from packaging.version import Version

from wheelyard.frameworks.known import plugin_for
from wheelyard.model import FrameworkPin
from wheelyard.planning.facts import (
    CPU,
    Release,
    Upstream,
    fits_cuda,
    fits_cudnn,
    known_as,
    lowest,
    misfit,
    newest_for,
)
from wheelyard.planning.matrix_model import IndexBuild, Matrix, Policy
from wheelyard.versions import is_exact, leads, order, short

Nearest = Callable[[str, Mapping[str, Release], str, str | None], str]  # `instead`
TOOLKIT = "cuda-toolkit"  # a distribution without files: it requires a toolkit's parts
_NUMBERED = re.compile(r"nvidia-(cuda-(crt|cupti|nvcc|nvrtc|runtime)|nvjitlink|nvtx|nvvm)(-|$)")
_LIKE_CUDA = re.compile(r"nvidia-(cuda-|nvjitlink|nvtx|cublas)")  # with CUDA's version numbers


def pins(matrix: Matrix, framework: str) -> tuple[FrameworkPin, ...]:
    """Split a framework axis value; KeyError if a name is not defined."""
    return tuple(
        FrameworkPin(name, version, matrix.frameworks[name].distribution)
        for name, version in _named_versions(framework)
    )


@lru_cache(maxsize=4096)
def _named_versions(framework: str) -> tuple[tuple[str, str], ...]:
    parts = (part.partition(" ") for part in framework.split(" + "))
    return tuple((name, version) for name, _, version in parts)


def releases(
    matrix: Matrix, upstream: Upstream, framework: str, cuda: str
) -> dict[FrameworkPin, Release] | str:
    """Return the facts of each framework of an axis value, or why there are none.

    If the default index has no build for `cuda` and the matrix names an index that has one, the
    facts are that build's, and the pin carries its local version.
    """
    shipped: dict[FrameworkPin, Release] = {}
    for pin in pins(matrix, framework):
        try:
            pin = _with_plugin(pin, cuda)
        except ValueError as problem:
            return f"{matrix.frameworks[pin.name].title} {pin.version}: {problem}"
        known = upstream.get(pin.build or pin.name, {})
        release = known.get(pin.version)
        build = matrix.frameworks[pin.name].indexes.get(cuda)
        if build and not (release and fits_cuda(release, cuda)):
            pin = replace(pin, local=build.local)
            release = known.get(f"{pin.version}+{build.local}")
            if release is None:
                return _unread(matrix.frameworks[pin.name].title, pin, build)
        if release is None:
            return unknown_release(matrix.frameworks[pin.name].title, pin.version, known)
        shipped[pin] = release
    return shipped


def _with_plugin(pin: FrameworkPin, cuda: str) -> FrameworkPin:
    """Return the pin with the extra that installs its plugin for a CUDA version, if it has any."""
    found = plugin_for(pin.name, cuda)
    if found is None:
        return pin
    extra, build = found
    return replace(pin, distribution=f"{pin.distribution}[{extra}]", build=build)


def index_of(matrix: Matrix, shipped: Mapping[FrameworkPin, Release], cuda: str) -> str | None:
    """Return the name of the index that a cell takes builds from; None for the default one."""
    named = {matrix.frameworks[pin.name].indexes[cuda].index for pin in shipped if pin.local}
    return min(named, default=None)


def _unread(title: str, pin: FrameworkPin, build: IndexBuild) -> str:
    return (
        f"there are no upstream facts about {title} {pin.version}+{build.local} on the index "
        f"{build.index}; give its URL (--indexes {build.index}=URL) to `wheelyard upstream refresh`"
    )


def unknown_release(title: str, version: str, known: Mapping[str, Release]) -> str:
    """Say that the facts hold no such release, and which similar ones they hold."""
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
    matrix: Matrix,
    upstream: Upstream,
    framework: str,
    cuda: str,
    cudnn: str | None,
    python: str,
    policy: Policy,
    nearest: Nearest = instead,
) -> str | None:
    """Say why upstream does not ship a combination, and the newest that fits; None if it does."""
    shipped = releases(matrix, upstream, framework, cuda)
    if isinstance(shipped, str):
        return shipped
    for pin, release in shipped.items():
        title = matrix.frameworks[pin.name].title
        reason = misfit(title, release, cuda, cudnn, python)
        if reason and fits_cuda(release, cuda):
            return reason
        if reason:
            known = upstream[pin.build or pin.name]
            return f"{reason}, {nearest(title, known, cuda, python)}"
    return _off_build(matrix, shipped, cuda, cudnn) if policy == "match-build" else None


def has_build(matrix: Matrix, upstream: Upstream, framework: str, cuda: str) -> bool:
    """Tell whether each framework of an axis value has a build for a CUDA version."""
    shipped = releases(matrix, upstream, framework, cuda)
    return not isinstance(shipped, str) and all(fits_cuda(r, cuda) for r in shipped.values())


def _off_build(
    matrix: Matrix, shipped: Mapping[FrameworkPin, Release], cuda: str, cudnn: str | None
) -> str | None:
    """Say why a version that every range allows differs from the one of the build."""
    facts = list(shipped.values())
    pin, first = next(iter(shipped.items()))
    title = f"{matrix.frameworks[pin.name].title} {pin.version}"
    if not _pinned([r.cuda_requirement for r in facts]) and short(first.cuda) != cuda:
        stated = first.cuda_requirement[1]
        return (
            f"{title} is built for CUDA {short(first.cuda)} and allows {stated}; policy "
            f"match-build takes the build's, an include with upstream-latest another"
        )
    if cudnn is None or _pinned([r.cudnn_requirement for r in facts]):
        return None
    built = short(max((r.cudnn for r in facts), key=order)) if first.cuda != CPU else cudnn
    if short(cudnn) != built:
        return (
            f"{title} asks for cuDNN {first.cudnn_requirement[1]}; policy match-build takes "
            f"{built}, an include with upstream-latest another"
        )
    return None


def _pinned(wanted: Sequence[tuple[str, str]]) -> set[str]:
    """Return the distributions of which some framework requires one exact version."""
    return {name for name, spec in wanted if name and is_exact(spec)}


def usual_policy(matrix: Matrix, framework: str) -> Policy:
    """Return the policy of an axis value: that of its frameworks, else the matrix's."""
    own = (matrix.frameworks[name].policy for name, _ in _named_versions(framework))
    return next((policy for policy in own if policy is not None), matrix.policy)


def floating(
    shipped: Mapping[FrameworkPin, Release], cuda: str, cudnn: str, policy: Policy
) -> Iterator[str]:
    """Yield bounds for each version that upstream leaves open and the cell does not.

    match-build: every range of an NVIDIA distribution starts at the build's own version, so its
    lower end is pinned; if another framework decides the CUDA, distributions with CUDA's numbering
    follow that. upstream-latest: CUDA and cuDNN are held to the cell's, the rest floats.
    follow-cuda: the toolkit of the cell decides, by NVIDIA's own list of its parts (`cuda-toolkit`)
    and, for parts that this leaves open at the top, by their number.
    """
    facts = list(shipped.values())
    if policy == "upstream-latest":
        yield from _held(facts, cuda, cudnn)
        return
    if policy == "follow-cuda":
        yield from _following(facts, cuda, cudnn)
        return
    ranges: dict[str, set[str]] = {}
    exact = {name for r in facts for name, spec in r.requires.items() if is_exact(spec)}
    for release in facts:
        for name, spec in release.requires.items():
            if name.startswith("nvidia-") and name not in exact and spec:
                start = lowest(spec)
                if _LIKE_CUDA.match(name) and leads(short(release.cuda), start):
                    start = start if leads(cuda, start) else f"{cuda}.*"
                ranges.setdefault(name, set()).add(start)
    yield from (f"{name}=={max(starts, key=_start)}" for name, starts in sorted(ranges.items()))


def _start(version: str) -> Version:
    return order(version.removesuffix(".*"))


def _held(facts: Sequence[Release], cuda: str, cudnn: str) -> Iterator[str]:
    for asked, wanted, fits in (
        (cuda, [r.cuda_requirement for r in facts], [fits_cuda(r, cuda) for r in facts]),
        (cudnn, [r.cudnn_requirement for r in facts], [fits_cudnn(r, cudnn) for r in facts]),
    ):
        pinned = {
            name for (name, spec), fit in zip(wanted, fits, strict=True) if is_exact(spec) and fit
        }
        for name in sorted({name for name, _ in wanted if name} - pinned):
            yield f"{name}=={asked}.*"


def _following(facts: Sequence[Release], cuda: str, cudnn: str) -> Iterator[str]:
    exact = {name for r in facts for name, spec in r.requires.items() if is_exact(spec)}
    asked = {name for release in facts for name in release.requires} | {TOOLKIT}
    for name in sorted(asked - exact):
        if name == TOOLKIT or _NUMBERED.match(name):
            yield f"{name}=={cuda}.*"
    for name in sorted({r.cudnn_requirement[0] for r in facts if r.cuda != CPU} - exact):
        yield f"{name}=={cudnn}.*"


def override(shipped: Mapping[FrameworkPin, Release], cudnn: str) -> str | None:
    """Return the pin that replaces upstream's cuDNN; None if upstream's fits."""
    others = [release for release in shipped.values() if not fits_cudnn(release, cudnn)]
    return f"{others[0].cudnn_requirement[0]}=={cudnn}.*" if others else None
