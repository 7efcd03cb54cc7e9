"""The Debian side of `lock`: from a base's package names to exact .deb files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wheelyard.console.tasks import Reporter
from wheelyard.errors import LockError
from wheelyard.lock.apt import Apt, PackageUri, print_uris, show
from wheelyard.lock.sources import Source
from wheelyard.model import LockedDeb
from wheelyard.system.urls import plain, redact

# What `mmdebstrap --variant=apt` installs before any package that is asked for; and a package that
# says "/usr is merged already", without which apt takes `usrmerge` and with it all of Perl.
_VARIANT = ("?essential", "apt", "usr-is-merged")


def resolve_packages(
    apt: Apt,
    sources: Sequence[Source],
    packages: Sequence[str],
    *,
    parent: Mapping[str, str],
    preferred: Mapping[str, str],
    reporter: Reporter,
) -> tuple[LockedDeb, ...]:
    """Return every .deb of a base, by name: mmdebstrap's `apt` variant and `packages`.

    `parent` and `preferred` map names to versions: the parent's versions must stay; the preferred
    ones (of an older lock) stay if the archive still has them and they fit together. Raises
    LockError if there is no such set.
    """
    targets = (*_VARIANT, *sorted(packages))
    try:
        uris = print_uris(apt, targets, {**preferred, **parent})
    except LockError:
        if not preferred:
            raise
        reporter.warn("the locked Debian versions no longer fit together; taking current ones")
        uris = print_uris(apt, targets, parent)
    debs = locked_debs(uris, show(apt, uris), sources)
    _check_parent(debs, parent)
    return debs


def locked_debs(
    uris: Sequence[PackageUri], records: Sequence[Mapping[str, str]], sources: Sequence[Source]
) -> tuple[LockedDeb, ...]:
    """Pin what apt chose by the archive's hashes, sorted by name."""
    by_path = {record["Filename"]: record for record in records if "Filename" in record}
    by_file = {path.rpartition("/")[2]: record for path, record in by_path.items()}
    debs = []
    for package in uris:
        archive, path = _split(package.uri, sources)
        # The same file may lie in both archives; apt shows the record of either.
        record = by_path.get(path) or by_file.get(path.rpartition("/")[2], {})
        debs.append(_deb(package, record, archive, path))
    return tuple(sorted(debs, key=lambda deb: (deb.name, deb.architecture)))


def _deb(package: PackageUri, record: Mapping[str, str], archive: str, path: str) -> LockedDeb:
    if "SHA256" not in record or "Size" not in record:
        raise LockError(f"the archive does not state a SHA256 for {path}; use another mirror")
    return LockedDeb(
        name=package.name,
        version=package.version,
        architecture=package.architecture,
        sha256=record["SHA256"],
        size=int(record["Size"]),
        archive=archive,
        path=path,
    )


def _split(uri: str, sources: Sequence[Source]) -> tuple[str, str]:
    """Split a package's URI into archive and pool path."""
    chosen = plain(uri)
    for source in sources:
        root = f"{plain(source.uri)}/"
        if chosen.startswith(root):
            return source.archive, chosen.removeprefix(root)
    raise LockError(f"apt chose {redact(uri)}, which is not in any of its sources")


def _check_parent(debs: Sequence[LockedDeb], parent: Mapping[str, str]) -> None:
    versions = {deb.name: deb.version for deb in debs}
    lost = [
        f"{name} {version} (here {versions.get(name, 'absent')})"
        for name, version in sorted(parent.items())
        if versions.get(name) != version
    ]
    if lost:
        raise LockError(
            "the flavour cannot keep the packages of the flavour it extends: "
            f"{', '.join(lost)}; lock again with --upgrade, or correct its packages in matrix.yaml"
        )
