"""Refreshes the upstream facts: which releases an index has, and what each one's wheel states.

A release is not read again if its wheel's hash is the one that the facts came from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement
from packaging.version import Version

from wheelyard.architecture import ARCHITECTURES, DEFAULT, Architecture
from wheelyard.errors import FetchError
from wheelyard.frameworks.record import BuildFacts, Read
from wheelyard.lock.upstream.listing import IndexFile, WheelName, wheel_name
from wheelyard.lock.upstream.simpleindex import CONNECTIONS
from wheelyard.lock.upstream.wheelfacts import read_wheel
from wheelyard.planning.facts import Release, Upstream, make_release, release_facts
from wheelyard.system.threads import each
from wheelyard.versions import order

if TYPE_CHECKING:
    import httpx

_PREFERRED = "3.11"  # wheels of one release differ by Python in markers at most


@dataclass(frozen=True, slots=True)
class FrameworkListing:
    """One framework on one index: what is looked for, and what the index lists."""

    framework: str  # "pytorch"; "jax-cuda12" for the plugin of a framework that has them
    distribution: str  # "torch", "tensorflow[and-cuda]", "jax-cuda12-plugin[with-cuda]"
    since: str  # "2.1": the oldest release worth knowing
    local: str | None  # "cu118": only builds of this local version; None: only those without
    files: tuple[IndexFile, ...]
    built: Callable[[Read], BuildFacts]  # reads what a wheel of it was built for


@dataclass(frozen=True, slots=True)
class OfferedRelease:
    """One release on an index: the wheel to read, and the Pythons that have one."""

    version: str
    file: IndexFile
    pythons: tuple[str, ...]
    yanked: str | None


@dataclass(frozen=True, slots=True)
class Change:
    """One release whose facts have changed."""

    framework: str
    version: str
    kind: str  # "new", "changed", "yanked", "gone"
    detail: str


def offered_releases(
    listing: FrameworkListing, architecture: Architecture = DEFAULT
) -> dict[str, OfferedRelease]:
    """Return version -> what the index offers on Linux, final releases only.

    Of several builds of one version, the one with the highest build tag counts, as for installers.
    A release counts as yanked if nothing else of it is left.
    """
    builds: dict[str, list[tuple[WheelName, IndexFile]]] = {}
    for file in listing.files:
        name = wheel_name(file.filename)
        if name and _wanted(listing, name, architecture):
            builds.setdefault(str(name.version), []).append((name, file))
    return {
        version: _offered_release(version, builds[version]) for version in sorted(builds, key=order)
    }


def _wanted(listing: FrameworkListing, name: WheelName, architecture: Architecture) -> bool:
    version, linux = name.version, rf"(many)?linux.*_{architecture.machine}"
    return (
        any(re.fullmatch(linux, platform) for platform in name.platforms)
        and not version.is_prerelease
        and version.local == listing.local
        and Version(version.public) >= order(listing.since)
        and any(_pythons(name))
    )


def _offered_release(version: str, wheels: list[tuple[WheelName, IndexFile]]) -> OfferedRelease:
    standing = [item for item in wheels if item[1].yanked is None]
    reason = None if standing else wheels[0][1].yanked
    chosen = sorted(standing or wheels, key=lambda item: item[0].build)
    by_python = {python: file for name, file in chosen for python in _pythons(name)}
    pythons = tuple(sorted(by_python, key=order))
    return OfferedRelease(
        version, by_python.get(_PREFERRED, by_python[pythons[-1]]), pythons, reason
    )


def _pythons(name: WheelName) -> Iterator[str]:
    """Yield "3.11" for cp311; free-threaded builds have another ABI and are excluded."""
    for python in sorted(name.pythons):
        if match := re.fullmatch(r"cp(\d)(\d+)", python):
            yield f"{match[1]}.{match[2]}"


def read_releases(
    listing: FrameworkListing,
    known: Mapping[str, Release],
    client: httpx.Client,
    on_bytes: Callable[[int], None],
    *,
    reread: bool,
) -> dict[str, Release]:
    """Return the facts of every release on an index; FetchError lists each file that failed.

    They hold those of its wheels for other architectures, if it has some.
    """
    wanted = [
        (architecture, offer)
        for architecture in ARCHITECTURES.values()
        for offer in offered_releases(listing, architecture).values()
        if offer.yanked is None
    ]
    requirement = Requirement(listing.distribution)
    failures: list[str] = []

    def one(asked: tuple[Architecture, OfferedRelease]) -> Release | None:
        architecture, offer = asked
        before = known.get(offer.version)
        if before and architecture != DEFAULT:
            before = before.builds.get(architecture.name)
        if before and not reread and before.sha256 == offer.file.sha256 is not None:
            return _with_pythons(before, offer)
        try:
            return _read(offer, requirement, listing.built, client, on_bytes, architecture)
        except FetchError as problem:
            failures.append(str(problem))
            return None

    read = [release for release in each(one, wanted, CONNECTIONS, "facts") if release]
    if failures:
        listed = "".join(f"\n  {failure}" for failure in sorted(failures))
        raise FetchError(
            f"the facts of {len(failures)} wheel(s) of {listing.framework} cannot be read:{listed}"
        )
    return {
        release.version: replace(release, builds=_builds(release.version, read))
        for release in read
        if release.machine == DEFAULT.name
    }


def _builds(version: str, read: Iterable[Release]) -> dict[str, Release]:
    """Return a release's builds for other architectures."""
    return {r.machine: r for r in read if r.version == version and r.machine != DEFAULT.name}


def _read(
    offer: OfferedRelease,
    wanted: Requirement,
    built: Callable[[Read], BuildFacts],
    client: httpx.Client,
    on_bytes: Callable[[int], None],
    architecture: Architecture,
) -> Release | None:
    facts = read_wheel(offer.file, wanted, built, client, on_bytes, architecture)
    if facts is None:
        return None
    try:
        return make_release(
            offer.version, offer.file.filename, facts.built.cuda, offer.pythons, facts.requires,
            sha256=offer.file.sha256, built_cudnn=facts.built.cudnn,
            architectures=facts.built.architectures, machine=architecture.name,
        )  # fmt: skip
    except ValueError as problem:
        raise FetchError(f"{offer.file.filename}: {problem}") from problem


def _with_pythons(release: Release, offer: OfferedRelease) -> Release:
    """Update the Pythons of an unchanged wheel: wheels for others may have come or gone."""
    return make_release(
        release.version, release.wheel, release.cuda, offer.pythons, release.requires,
        sha256=release.sha256, built_cudnn=release.built_cudnn,
        architectures=release.architectures, machine=release.machine,
    )  # fmt: skip


def merge(upstream: Upstream, listing: FrameworkListing, read: Mapping[str, Release]) -> Upstream:
    """Return the facts with those of one index merged in; yanked or missing releases stay.

    An image that is locked to such a release can still be explained and built, and `upstream check`
    reports it.
    """
    kept = upstream.get(listing.framework, {})
    return {**upstream, listing.framework: {**kept, **read}}


def changes(
    before: Upstream, after: Upstream, listings: Iterable[FrameworkListing]
) -> list[Change]:
    """List what a refresh changed: release by release, fact by fact."""
    listed: list[Change] = []
    for listing in listings:
        name, offered = listing.framework, offered_releases(listing)
        old = before.get(name, {})
        for version in sorted(after.get(name, {}), key=order):
            if Version(version).local != listing.local or order(version) < order(listing.since):
                continue
            new = after[name][version]
            if version not in offered:
                listed.append(
                    Change(name, version, "gone", "the index no longer has a wheel of it")
                )
            elif (reason := offered[version].yanked) is not None:
                listed.append(Change(name, version, "yanked", reason or "no reason given"))
            elif version not in old:
                listed.append(Change(name, version, "new", summary(new)))
            elif old[version] != new:
                listed.append(Change(name, version, "changed", _difference(old[version], new)))
    return listed


def summary(release: Release) -> str:
    """Summarize a release's facts in a line."""
    return (
        f"CUDA {release.cuda}, cuDNN {release.cudnn}, NCCL {release.nccl or '-'}, "
        f"Python {release.pythons[0]} to {release.pythons[-1]}"
    )


def _difference(old: Release, new: Release) -> str:
    one, other = release_facts(old), release_facts(new)
    differing = [key for key in {**one, **other} if one.get(key) != other.get(key)]
    return "; ".join(
        f"{key}: {_shown(one.get(key))} -> {_shown(other.get(key))}" for key in differing
    )


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "-"
    if isinstance(value, dict):
        return f"{len(value)} requirements" if "wheel" not in value else str(value["wheel"])
    return "-" if value is None else str(value)
