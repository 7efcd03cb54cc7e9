"""The settings of a run as secrets of a BuildKit build: mounted for a RUN step, in no layer."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from wheelyard.context import Context
from wheelyard.dockerfiles.route import proxies_of
from wheelyard.fetching.trust import trust_file
from wheelyard.lock.resolve import index_urls
from wheelyard.lock.sources import debian_sources
from wheelyard.model import Cell

_SETTINGS, _CA = "wheelyard-settings", "wheelyard-ca"
_CA_PLACE = "/run/wheelyard/ca.pem"  # where Dockerfiles mount it


def write_secrets(cell: Cell, context: Context, folder: Path) -> dict[str, Path]:
    """Write a cell's secrets into `folder`, for this user only; return id -> file."""
    ca = trust_file(context.settings, folder)
    sources = _sources(cell, context)
    values = secret_settings(cell, context, os.environ, sources, has_ca=ca is not None)
    script = folder / f"{cell.id}.sh"
    script.touch(mode=0o600)
    script.write_text(render_script(values))
    return {_SETTINGS: script} | ({} if ca is None else {_CA: ca})


def secret_settings(
    cell: Cell, context: Context, environ: Mapping[str, str], sources: str, *, has_ca: bool
) -> dict[str, str]:
    """Return the variables that RUN steps read, for settings that are set."""
    index, more = context.settings.index_url, index_urls(cell, context.settings)
    values = {"SOURCES": sources, "PIP_INDEX_URL": index or "", "UV_DEFAULT_INDEX": index or ""}
    if more:
        # Files are identified by their hash, so it does not matter which index lists them.
        values |= {"UV_INDEX": " ".join(more), "UV_INDEX_STRATEGY": "unsafe-best-match"}
    if has_ca:
        values |= {"SSL_CERT_FILE": _CA_PLACE, "PIP_CERT": _CA_PLACE}
    proxies = proxies_of(environ)
    values |= proxies | {name.lower(): value for name, value in proxies.items()}
    return {name: value for name, value in values.items() if value}


def render_script(values: Mapping[str, str]) -> str:
    """Render a shell script that exports `values`."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items())


def _sources(cell: Cell, context: Context) -> str:
    settings = context.settings
    if settings.debian_mirror is None and settings.debian_security_mirror is None:
        return ""  # the image's own
    lines = debian_sources(cell.base.suite, settings, context.reporter)
    return "\n".join(f"deb {x.uri} {x.suite} {' '.join(x.components)}" for x in lines)
