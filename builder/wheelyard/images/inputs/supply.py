"""Supplies a base from the first source that has its packages, or its finished layer.

The cache, the mirror, the user's registry, a snapshot archive, in this order. Everything is checked
against the lock, a layer against images/layers.json, so the source need not be trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING

from wheelyard.errors import (
    BaseImageError,
    FetchError,
    StorageError,
    ToolMissingError,
    WheelyardError,
)
from wheelyard.fetching.fetch import fetch_all
from wheelyard.fetching.wanted import Download, NotFetched, checked
from wheelyard.images.assemble.assembly import CACHE
from wheelyard.images.assemble.base import source_date
from wheelyard.images.assemble.record import PATH
from wheelyard.lock.snapshots import snapshot_ids, snapshot_patterns, snapshot_urls
from wheelyard.lock.sources import deb_url, debian_sources, own_sources, with_mirrors
from wheelyard.oci.blobs import StoredLayer

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.images.assemble.assembly import Assembly, Files
    from wheelyard.model import LockedDeb, PackageLock

_MIRROR, _REGISTRY, _SNAPSHOT = "mirror", "registry", "snapshot"
_SUCCESSOR_ADVICE = (
    "take its successor with `wheelyard lock --bases-only` (--upgrade takes the newest of all), or "
    "set a source that still has it: --debian-mirror, --debian-security-mirror, --registry, "
    "--debian-snapshot"
)
_NAMED = 5  # dropped packages that a message lists


def supply(
    work: Assembly, lock: PackageLock, title: str, layer_key: str | None
) -> StoredLayer | Files:
    """Get every package of `lock`; or the layer of `layer_key`, if that suffices.

    Raises the error of the mirror, with the results of the other sources that were tried.
    """
    files = _cached(work, lock.packages)
    if len(files) == len({deb.sha256 for deb in lock.packages}):
        work.served(title, CACHE, f"{len(files)} packages are in the cache")
        return files
    try:
        files = _from_mirror(work, lock)
    except (FetchError, ToolMissingError, BaseImageError) as error:
        return _from_elsewhere(work, lock, title, layer_key, error)
    work.served(title, _MIRROR, f"{len(files)} packages, from the mirror")
    return files


def deb_downloads(debs: Sequence[LockedDeb], lock: PackageLock, context: Context) -> list[Download]:
    """Return downloads of locked packages: from archives or configured mirrors, then snapshots.

    For callers that cannot use a base's finished layer instead.
    """
    own = own_sources(lock.suite, context.reporter)
    sources = with_mirrors(own, context.settings)
    patterns, moments = snapshot_patterns(context.settings, own), snapshot_ids(lock, None)
    return [
        _download(deb, deb_url(deb, sources), *snapshot_urls(deb, patterns, moments))
        for deb in debs
    ]


def _from_mirror(work: Assembly, lock: PackageLock) -> Files:
    settings, reporter = work.context.settings, work.context.reporter
    with work.timed("fetch"):
        sources = debian_sources(lock.suite, settings, reporter)
        downloads = [_download(deb, deb_url(deb, sources)) for deb in lock.packages]
        return fetch_all(downloads, work.files, settings, reporter)


def _from_elsewhere(
    work: Assembly, lock: PackageLock, title: str, layer_key: str | None, failed: WheelyardError
) -> StoredLayer | Files:
    """Try the registry, then a snapshot archive for packages that the mirror says are gone."""
    gone = failed.gone if isinstance(failed, NotFetched) else frozenset()
    is_dropped = isinstance(failed, NotFetched) and failed.failed == gone
    if not is_dropped and (layer_key is None or work.context.settings.registry is None):
        raise failed
    tried = [f"mirror: {_dropped(lock, gone) if is_dropped else failed}"]
    sources: dict[str, Callable[[], StoredLayer | Files]] = {}
    if layer_key is not None:
        sources[_REGISTRY] = partial(_from_registry, work, layer_key)
    if is_dropped:
        sources[_SNAPSHOT] = partial(_from_snapshot, work, lock)
    for source, get in sources.items():
        try:
            given = get()
        except StorageError:
            raise  # this machine's disk: every other source would fail, too
        except WheelyardError as error:
            tried.append(f"{source}: {error}")
            continue
        if isinstance(given, StoredLayer):
            work.served(title, source, f"the layer, from the registry ({tried[0]})")
        else:
            work.served(title, source, f"{len(gone)} of {len(given)} packages, from a snapshot")
        return given
    kind = FetchError if isinstance(failed, FetchError) else type(failed)
    listed = "".join(f"\n  {line}" for line in tried)
    raise kind(f"{title}: no source has its packages:{listed}\n{_SUCCESSOR_ADVICE}")


def _from_registry(work: Assembly, key: str) -> StoredLayer:
    layer, address = work.record.get(key), work.context.settings.registry
    if address is None:
        raise FetchError("none is set (--registry, WHEELYARD_REGISTRY)")
    if layer is None:
        raise FetchError(f"not asked: {PATH} does not record this layer, or is not trusted")
    from wheelyard.images.inputs.remote import registry_layer  # imports the registry client

    return registry_layer(work, address, key, layer)


def _from_snapshot(work: Assembly, lock: PackageLock) -> Files:
    settings, reporter = work.context.settings, work.context.reporter
    patterns = snapshot_patterns(settings, own_sources(lock.suite, reporter))
    if not patterns:
        raise FetchError(
            "neither a setting nor apt's configuration names an archive (--debian-snapshot, "
            "WHEELYARD_DEBIAN_SNAPSHOT; apt knows Debian's own from version 3 on)"
        )
    there = _cached(work, lock.packages)
    moments = snapshot_ids(lock, source_date(list(there.values())) if there else None)
    downloads = []
    for deb in lock.packages:
        if deb.sha256 not in there:
            urls = snapshot_urls(deb, patterns, moments)
            if not urls:
                raise FetchError(f"none is known that has {deb.name} of {deb.archive}")
            downloads.append(_download(deb, *urls))
    with work.timed("fetch"):
        return {**there, **fetch_all(downloads, work.files, settings, reporter)}


def sources_list(suite: str, context: Context) -> str:
    """Return what apt in an image reads: never the user's mirrors."""
    return "".join(
        f"deb {source.uri} {source.suite} {' '.join(source.components)}\n"
        for source in own_sources(suite, context.reporter)
    )


def _cached(work: Assembly, debs: Sequence[LockedDeb]) -> Files:
    found = {
        deb.sha256: checked(work.files, deb.sha256, deb.path.rpartition("/")[2], deb.size)
        for deb in debs
    }
    return {sha256: path for sha256, path in found.items() if path is not None}


def _download(deb: LockedDeb, url: str, *fallbacks: str) -> Download:
    name = deb.path.rpartition("/")[2]
    return Download(url, name, deb.sha256, deb.size, _SUCCESSOR_ADVICE, fallbacks)


def _dropped(lock: PackageLock, gone: Collection[str]) -> str:
    names = [f"{deb.name} {deb.version}" for deb in lock.packages if deb.sha256 in gone]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    listed = ", ".join(names[:_NAMED])
    return f"has dropped {len(names)} of {len(lock.packages)} packages: {listed}{more}"
