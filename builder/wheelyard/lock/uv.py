"""Runs `uv pip compile` without any of this machine's own configuration."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from uv import find_uv_bin

from wheelyard.errors import FetchError, LockError, StorageError, ToolMissingError, WheelyardError
from wheelyard.fetching.trust import CA_ADVICE, trust_file
from wheelyard.lock.pylock import parse_pylock, preferences_pylock
from wheelyard.system.storage import REMEDY
from wheelyard.system.subprocesses import Result, failure, run

if TYPE_CHECKING:
    from packaging.pylock import Package

    from wheelyard.settings import Settings

_INDEX_ADVICE = "check the network, or set an index: --index-url URL or WHEELYARD_INDEX_URL=URL"
_MATRIX_ADVICE = "correct its requirements or constraints in matrix.yaml"
_OUTPUT = "pylock.toml"
_CONFIG = "uv.toml"
_PROJECT = "pyproject.toml"  # requirements with an index of their own
# Dropped, because they steer which files uv sees: other indexes, local wheels, constraints.
_STEERING = ("UV_", "PIP_")
# A broken connection is not a matter of trust, although rustls mentions TLS.
_TLS = re.compile(r"certificate|UnknownIssuer|\btls\b(?! close_notify)|handshake", re.IGNORECASE)
_INDEX_LINE = re.compile(r"^--index-url (\S+)$", re.MULTILINE)
_MISPLACED = re.compile(r"\(os error (17|20|21)\)")  # EEXIST, ENOTDIR, EISDIR
_UNWRITABLE = re.compile(r"\(os error (2|13|28|30)\)")  # ENOENT (/proc), EACCES, ENOSPC, EROFS
_LOGIN = re.compile(r"authentication credentials \(40[13]|\b401 Unauthorized|\b403 Forbidden")
LOGIN_ADVICE = (
    "log in to that index: in ~/.netrc, by variables in its address (https://${USER}:${TOKEN}@...)"
    ", or by uv's own, UV_INDEX_<NAME>_USERNAME and UV_INDEX_<NAME>_PASSWORD"
)
_TIMEOUT = re.compile(r"timed? ?out|timeout", re.IGNORECASE)
_NETWORK = re.compile(
    r"failed to fetch|error sending request|dns error|connection|"
    r"HTTP status|could not connect|request failed",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class ResolutionRequest:
    """One resolution: all inputs of `uv pip compile`."""

    requirements: tuple[str, ...]
    python: str
    platform: str | None  # uv's name; None: list the wheels of every platform
    constraints: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    preferences: tuple[tuple[str, str], ...] = ()  # name, version: taken where still possible
    dependencies: bool = True
    prerelease: str = "explicit"  # uv's word for when pre-releases are taken
    indexes: tuple[str, ...] = ()  # URLs; a project that one of them has is taken only from it
    explicit: tuple[tuple[str, str], ...] = ()  # name, the one URL that it is taken from
    sources: bool = False  # source distributions count: only without dependencies, so none is built


def compile_requirements(
    request: ResolutionRequest,
    subject: str,
    settings: Settings,
    advice: str = _MATRIX_ADVICE,
    *,
    direct: bool = False,
) -> tuple[Package, ...]:
    """Resolve with uv and return the distributions with the index's wheels.

    With a platform, each distribution has one wheel, the best fit; `direct` accepts requirements
    that name a wheel's address. Raises LockError if there is no solution, which ends with `advice`,
    and FetchError if the index cannot be reached; `subject` names the resolution in the message.
    """
    return parse_pylock(_compiled(request, subject, settings, advice), direct=direct)


def newest_versions(
    names: Iterable[str],
    request: ResolutionRequest,
    subject: str,
    settings: Settings,
    *,
    sources: bool,
) -> dict[str, str]:
    """Return the newest version of each name that the request's constraints allow.

    Dependencies do not matter. With `sources`, source distributions count; none is built.
    """
    asked = replace(
        request,
        requirements=(*(x for x in request.requirements if x.startswith("--")), *names),
        preferences=(),
        dependencies=False,
        sources=sources,
    )
    found = tomllib.loads(_compiled(asked, subject, settings, _MATRIX_ADVICE))
    packages = found.get("packages", ())
    return {one["name"]: one["version"] for one in packages if "version" in one}


def _compiled(request: ResolutionRequest, subject: str, settings: Settings, advice: str) -> str:
    """Return uv's pylock.toml."""
    with tempfile.TemporaryDirectory(prefix="wheelyard-uv-") as name:
        folder = Path(name)
        _write_inputs(request, folder)
        argv = compile_argv(_uv(), request, settings.cache_dir / "uv")
        env = uv_environment(os.environ, trust_file(settings, folder), settings.timeout)
        env |= index_environment(settings.index_url, request.indexes)
        result = run(argv, error=None, env=env, cwd=folder)
        if result.returncode != 0:
            raise uv_error(result, subject, advice)
        return (folder / _OUTPUT).read_text(encoding="utf-8")


def default_index(settings: Settings) -> str:
    """Return the index in use: the setting, or uv's own default."""
    if settings.index_url is not None:
        return settings.index_url
    with tempfile.TemporaryDirectory(prefix="wheelyard-uv-") as name:
        folder = Path(name)
        _lines(folder / "requirements.in", ())
        argv = (
            *(_uv(), "--no-config", "--cache-dir", str(settings.cache_dir / "uv")),
            *("pip", "compile", "requirements.in", "--emit-index-url", "--no-header", "--quiet"),
        )
        env = uv_environment(os.environ, None, settings.timeout)
        result = run(argv, error=None, env=env, cwd=folder)
    match = _INDEX_LINE.search(result.stdout)
    if match is None:
        what = "asking uv for its index"
        raise _cache_error(result, what) or FetchError(failure(result, what, _INDEX_ADVICE))
    return match[1]


def compile_argv(uv: str, request: ResolutionRequest, cache: Path) -> tuple[str, ...]:
    """Build the command; its files are in the folder that it runs in."""
    target = (
        ("--universal",) if request.platform is None else ("--python-platform", request.platform)
    )
    return (
        *(uv, *(("--config-file", _CONFIG) if request.sources else ("--no-config",))),
        *("--cache-dir", str(cache), "--color", "never", "--no-progress"),
        *("pip", "compile", "requirements.in", *((_PROJECT,) if request.explicit else ())),
        *("--constraints", "constraints.txt"),
        *("--overrides", "overrides.txt", "--python", sys.executable),
        *("--python-version", request.python, *target),
        *(() if request.sources else ("--only-binary", ":all:", "--generate-hashes")),
        # Otherwise a project without wheels would resolve to a years-old pre-release.
        *("--prerelease", request.prerelease),
        *("--format", "pylock.toml", "--output-file", _OUTPUT, "--quiet"),
        *(() if request.dependencies else ("--no-deps",)),
    )


def uv_environment(
    environ: Mapping[str, str], trust: Path | None, timeout: float
) -> dict[str, str]:
    """Return uv's environment: proxies and trust, but no index, wheel or constraint."""
    kept = {key: value for key, value in environ.items() if not key.startswith(_STEERING)}
    kept["UV_HTTP_TIMEOUT"] = str(max(1, round(timeout)))
    if trust is not None:
        kept["SSL_CERT_FILE"] = str(trust)
    return kept


def index_environment(index_url: str | None, indexes: tuple[str, ...]) -> dict[str, str]:
    """Return uv's indexes as variables: command lines are public, and URLs may hold logins."""
    named = {} if index_url is None else {"UV_DEFAULT_INDEX": index_url}
    return {**named, **({"UV_INDEX": " ".join(indexes)} if indexes else {})}


def uv_error(result: Result, subject: str, advice: str = _MATRIX_ADVICE) -> WheelyardError:
    """Describe a failure by kind, from uv's message, and say what the user can do."""
    what = f"resolving {subject}"
    if _TLS.search(result.stderr):
        return FetchError(failure(result, what, CA_ADVICE))
    if _TIMEOUT.search(result.stderr):
        patience = f"{_INDEX_ADVICE}; a slow index may need a longer --timeout"
        return FetchError(failure(result, what, patience))
    if _LOGIN.search(result.stderr):
        return FetchError(failure(result, what, LOGIN_ADVICE))
    if "No solution found" not in result.stderr and _NETWORK.search(result.stderr):
        return FetchError(failure(result, what, _INDEX_ADVICE))
    return _cache_error(result, what) or LockError(failure(result, what, advice))


def _cache_error(result: Result, what: str) -> StorageError | None:
    """Describe a cache that uv cannot use."""
    cache = next((after for x, after in pairwise(result.argv) if x == "--cache-dir"), None)
    if not cache or cache not in result.stderr:
        return None
    if _MISPLACED.search(result.stderr):
        cure = f"remove its cache, which uv fills again: rm -r {shlex.quote(cache)}"
        return StorageError(failure(result, what, cure))
    if _UNWRITABLE.search(result.stderr):
        return StorageError(failure(result, what, REMEDY))
    return None


def _write_inputs(request: ResolutionRequest, folder: Path) -> None:
    alone = {canonicalize_name(name) for name, _ in request.explicit}
    explicit = [line for line in request.requirements if _name_of(line) in alone]
    _lines(folder / "requirements.in", (x for x in request.requirements if x not in explicit))
    if request.explicit:
        _lines(folder / _PROJECT, _explicit(request.explicit, explicit, request.python))
    _lines(folder / "constraints.txt", request.constraints)
    _lines(folder / "overrides.txt", request.overrides)
    if request.sources:  # uv need not build what it knows
        names = (line for line in request.requirements if not line.startswith("--"))
        known = (f'[[dependency-metadata]]\nname = "{x}"\nrequires-dist = []' for x in names)
        _lines(folder / _CONFIG, known)
    if request.preferences:
        text = preferences_pylock(request.preferences)
        (folder / _OUTPUT).write_text(text, encoding="utf-8")


def _name_of(line: str) -> str | None:
    """Return the name that a requirement without an address has; None for options."""
    try:
        found = Requirement(line)
    except InvalidRequirement:
        return None
    return None if found.url is not None else canonicalize_name(found.name)


def _explicit(
    indexes: Iterable[tuple[str, str]], requirements: list[str], python: str
) -> Iterator[str]:
    """Yield the lines of a project whose requirements are each taken from one index alone."""
    yield f'[project]\nname = "wheelyard-request"\nversion = "0"\nrequires-python = ">={python}"'
    yield f"dependencies = {json.dumps(requirements)}"
    for at, (name, url) in enumerate(indexes):
        index = f'name = "explicit-{at}"\nurl = {json.dumps(url)}\nexplicit = true'
        yield f"[[tool.uv.index]]\n{index}\n[tool.uv.sources.{json.dumps(name)}]"
        yield f'index = "explicit-{at}"'


def _lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _uv() -> str:
    try:
        return find_uv_bin()
    except FileNotFoundError as missing:
        raise ToolMissingError("uv is not installed beside wheelyard: pip install uv") from missing
