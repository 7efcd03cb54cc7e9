"""The archives of a suite's Debian packages, as in a sources.list, and their mirrors."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from urllib.parse import quote

from wheelyard.console.tasks import Reporter
from wheelyard.errors import BaseImageError
from wheelyard.model import LockedDeb
from wheelyard.settings import Settings
from wheelyard.system.subprocesses import failure, run
from wheelyard.system.tools import require_tool

DEBIAN = "debian"
SECURITY = "debian-security"

_DEB_LINE = re.compile(
    r"^deb (?:\[[^\]]*\] )?(?P<uri>\S+) (?P<suite>\S+) (?P<components>\S.*)$", re.MULTILINE
)
# A hook that prints what mmdebstrap wrote and then stops it, before it uses the network.
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
    `/debian-security` beside it, as public mirrors do, unless `debian_security_mirror` is set.
    Raises BaseImageError if mmdebstrap does not tell.
    """
    return with_mirrors(own_sources(suite, reporter), settings)


def own_sources(suite: str, reporter: Reporter) -> tuple[Source, ...]:
    """Return the archives of a suite by their official URLs, whatever mirrors are set."""
    return _ask_mmdebstrap(require_tool("mmdebstrap", reporter), suite)


def parse_sources(text: str) -> tuple[Source, ...]:
    """Read the `deb` lines of a sources.list, wherever they are in `text`."""
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
    """Replace the archives' URIs by those of the configured mirrors."""
    mirrors = {DEBIAN: settings.debian_mirror, SECURITY: _security_mirror(settings)}
    return tuple(
        replace(source, uri=(mirrors[source.archive] or source.uri).rstrip("/"))
        for source in sources
    )


def deb_url(deb: LockedDeb, sources: Sequence[Source]) -> str:
    """Return the URL of a locked package."""
    uri = next((source.uri for source in sources if source.archive == deb.archive), None)
    if uri is None:
        raise BaseImageError(f"{deb.path}: no source for the archive {deb.archive!r}")
    return f"{uri}/{quote(deb.path)}"


@cache
def _ask_mmdebstrap(tool: str, suite: str) -> tuple[Source, ...]:
    """Start mmdebstrap to see its sources.list: it takes a second, so once per suite only."""
    with tempfile.TemporaryDirectory(prefix="wheelyard-sources-") as folder:
        target = str(Path(folder, "none.tar"))
        argv = (tool, "--variant=extract", _SHOW_SOURCES, suite, target)
        result = run(argv, error=None)
    if sources := parse_sources(result.stderr):
        return sources
    advice = (
        "mmdebstrap needs root, or user namespaces for an ordinary user"
        " (packages uidmap and a line in /etc/subuid), or fakechroot; or the suite in "
        "matrix.yaml does not exist"
    )
    raise BaseImageError(failure(result, f"asking mmdebstrap about {suite}", advice))


def _security_mirror(settings: Settings) -> str | None:
    if settings.debian_security_mirror or not settings.debian_mirror:
        return settings.debian_security_mirror
    mirror = settings.debian_mirror.rstrip("/")
    return f"{mirror}-security" if mirror.endswith("/debian") else None
