"""The Debian side of `lock`: from a base's package names to exact .deb files."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from wheelyard.errors import BaseImageError, LockError
from wheelyard.lock.apt import Apt, PackageUri, print_uris, show
from wheelyard.model import LockedDeb, PackageLock
from wheelyard.system.subprocesses import Result, failure, run
from wheelyard.system.tools import require_tool
from wheelyard.system.urls import plain, redact

if TYPE_CHECKING:
    from wheelyard.console.progress import Reporter
    from wheelyard.settings import Settings

DEBIAN = "debian"
SECURITY = "debian-security"
# What `mmdebstrap --variant=apt` installs before any package that is asked for; and a package that
# says "/usr is merged already", without which apt takes `usrmerge` and with it all of Perl.
VARIANT = ("?essential", "apt", "usr-is-merged")

_DEB_LINE = re.compile(
    r"^deb (?:\[[^\]]*\] )?(?P<uri>\S+) (?P<suite>\S+) (?P<components>\S.*)$", re.MULTILINE
)
# A hook that shows what mmdebstrap wrote and then stops it, before it uses the network.
_SHOW_SOURCES = """--setup-hook=cat "$1"/etc/apt/sources.list >&2; exit 7"""


@dataclass(frozen=True, slots=True)
class Source:
    """One line of a sources.list."""

    archive: str  # "debian" or "debian-security", as in LockedDeb.archive
    uri: str  # without a trailing slash
    suite: str
    components: tuple[str, ...]


def debian_sources(suite: str, settings: Settings, reporter: Reporter) -> tuple[Source, ...]:
    """Return the archives of a Debian suite: mmdebstrap's own, or the mirrors in `settings`.

    A `debian_mirror` whose URL ends in `/debian` also serves security updates from
    `/debian-security` beside it, as public mirrors do, unless `debian_security_mirror` says
    otherwise. Raises BaseImageError when mmdebstrap does not tell.
    """
    return with_mirrors(own_sources(suite, reporter), settings)


def own_sources(suite: str, reporter: Reporter) -> tuple[Source, ...]:
    """Return the archives of a suite as the distribution names them, whatever mirrors are set."""
    found = parse_sources(_ask_mmdebstrap(suite, reporter).stderr)
    if not found:
        raise BaseImageError(
            f"mmdebstrap knows no archive for the suite {suite!r}; check the suite in matrix.yaml"
        )
    return found


def parse_sources(text: str) -> tuple[Source, ...]:
    """Read the `deb` lines of a sources.list, wherever they stand in `text`."""
    return tuple(
        Source(
            archive=SECURITY if match["suite"].endswith("-security") else DEBIAN,
            uri=match["uri"].rstrip("/"),
            suite=match["suite"],
            components=tuple(match["components"].split()),
        )
        for match in _DEB_LINE.finditer(text)
    )


def with_mirrors(sources: Sequence[Source], settings: Settings) -> tuple[Source, ...]:
    """Replace the archives' URIs by those of the mirrors that are set."""
    mirrors = {DEBIAN: settings.debian_mirror, SECURITY: _security_mirror(settings)}
    return tuple(
        replace(source, uri=(mirrors[source.archive] or source.uri).rstrip("/"))
        for source in sources
    )


def deb_url(deb: LockedDeb, sources: Sequence[Source]) -> str:
    """Return where a locked package can be fetched from."""
    uri = next((source.uri for source in sources if source.archive == deb.archive), None)
    if uri is None:
        raise BaseImageError(f"{deb.path}: no source for the archive {deb.archive!r}")
    return f"{uri}/{quote(deb.path)}"


def resolve_packages(
    apt: Apt,
    sources: Sequence[Source],
    packages: Sequence[str],
    *,
    parent: Mapping[str, str],
    preferred: Mapping[str, str],
    reporter: Reporter,
) -> tuple[LockedDeb, ...]:
    """Return every .deb of a base: mmdebstrap's `apt` variant and `packages`, sorted by name.

    `parent` and `preferred` map names to versions: the parent's versions must stay, the preferred
    ones (of an older lock) stay where the archive still has them and they fit together.
    Raises LockError when there is no such set.
    """
    targets = (*VARIANT, *sorted(packages))
    try:
        uris = print_uris(apt, targets, {**preferred, **parent})
    except LockError:
        if not preferred:
            raise
        reporter.warn("the locked Debian versions no longer fit together; taking current ones")
        uris = print_uris(apt, targets, parent)
    debs = _locked(uris, show(apt, uris), sources)
    _check_parent(debs, parent)
    return debs


def pins(lock: PackageLock | None) -> dict[str, str]:
    """Return name -> version of a lock's packages; nothing for no lock."""
    return {} if lock is None else {deb.name: deb.version for deb in lock.packages}


def _ask_mmdebstrap(suite: str, reporter: Reporter) -> Result:
    tool = require_tool("mmdebstrap", reporter)
    with tempfile.TemporaryDirectory(prefix="wheelyard-sources-") as folder:
        target = str(Path(folder, "none.tar"))
        argv = (tool, "--variant=extract", _SHOW_SOURCES, suite, target)
        result = run(argv, error=None)
    if not parse_sources(result.stderr):
        advice = (
            "mmdebstrap needs root, or user namespaces for an ordinary user"
            " (packages uidmap and a line in /etc/subuid), or fakechroot"
        )
        raise BaseImageError(failure(result, f"asking mmdebstrap about {suite}", advice))
    return result


def _security_mirror(settings: Settings) -> str | None:
    if settings.debian_security_mirror or not settings.debian_mirror:
        return settings.debian_security_mirror
    mirror = settings.debian_mirror.rstrip("/")
    return f"{mirror}-security" if mirror.endswith("/debian") else None


def _locked(
    uris: Sequence[PackageUri], records: Sequence[Mapping[str, str]], sources: Sequence[Source]
) -> tuple[LockedDeb, ...]:
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
        raise LockError(f"the archive gives no SHA256 for {path}; use another mirror")
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
    raise LockError(f"apt chose {redact(uri)}, which is in none of the sources it was given")


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
