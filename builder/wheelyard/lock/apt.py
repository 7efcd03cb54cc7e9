"""Runs an isolated apt: no state, no sources and no configuration of this machine."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from wheelyard.architecture import DEFAULT
from wheelyard.errors import FetchError, LockError
from wheelyard.fetching.trust import CA_ADVICE, trust_file
from wheelyard.system.subprocesses import Result, failure, run
from wheelyard.system.tools import find_tool, require_tool

if TYPE_CHECKING:
    from wheelyard.console.tasks import Reporter
    from wheelyard.lock.sources import Source
    from wheelyard.settings import Settings

_MIRROR_ADVICE = (
    "check the network, or set a mirror: --debian-mirror URL or WHEELYARD_DEBIAN_MIRROR=URL"
)
_MATRIX_ADVICE = "correct the flavour's or the base's packages in matrix.yaml"
_URI = re.compile(r"^'(?P<uri>[^']+)' (?P<filename>\S+)", re.MULTILINE)
_NETWORK = re.compile(
    r"failed to fetch|could not (resolve|connect)|unable to connect|timed out", re.IGNORECASE
)
_DATE = re.compile(r"^Date: *(.+)$", re.MULTILINE)
_SETTING = re.compile(r'^(\S+) "(.*)";$', re.MULTILINE)
_TLS = re.compile(r"certificate|handshake", re.IGNORECASE)
_RETRIES = "3"  # after one, two and four seconds


@dataclass(frozen=True, slots=True)
class PackageUri:
    """One line of `apt-get --print-uris`."""

    uri: str
    name: str
    version: str
    architecture: str


@dataclass(frozen=True, slots=True)
class Apt:
    """An isolated apt whose package lists have been fetched."""

    folder: Path
    env: Mapping[str, str]
    lists: Path


@contextmanager
def isolated_apt(
    sources: Sequence[Source],
    settings: Settings,
    reporter: Reporter,
    lists: Path | None = None,
    architecture: str = DEFAULT.name,
) -> Iterator[Apt]:
    """Yield an apt that knows only `sources` and one architecture, while the context lasts.

    `lists` is a folder that keeps the package lists: the next apt there fetches only what changed.
    Only one apt at a time may use it. Runs as root and as any other user. Raises FetchError if an
    archive cannot be reached or its signature is not valid.
    """
    keyring = require_tool("debian-archive-keyring", reporter)
    require_tool("gpgv", reporter)
    for tool in ("apt-get", "apt-cache"):
        require_tool(tool, reporter)
    with tempfile.TemporaryDirectory(prefix="wheelyard-apt-") as name:
        folder = Path(name)
        lists = lists or folder / "state" / "lists"
        _write_tree(folder, lists, sources, keyring)
        trust = trust_file(settings, folder)
        config = _apt_config(folder, lists, trust, settings.timeout, architecture)
        (folder / "apt.conf").write_text(config, encoding="utf-8")
        env = {**os.environ, "APT_CONFIG": str(folder / "apt.conf"), "LC_ALL": "C"}
        apt = Apt(folder, env, lists)
        _run(apt, ("apt-get", "update"), "fetching the package lists")
        yield apt


def print_uris(
    apt: Apt, targets: Sequence[str], pins: Mapping[str, str], advice: str = _MATRIX_ADVICE
) -> tuple[PackageUri, ...]:
    """Resolve `targets` on an empty system; `pins` (name -> version) win if still available.

    Raises LockError, which ends with `advice`, if a package does not exist or the set cannot be
    installed together.
    """
    (apt.folder / "preferences").write_text(_preferences(pins), encoding="utf-8")
    argv = ("apt-get", "install", "--print-uris", "--yes", *targets)
    return parse_uris(_run(apt, argv, "resolving the Debian packages", advice).stdout)


def show(apt: Apt, packages: Iterable[PackageUri]) -> tuple[dict[str, str], ...]:
    """Return the records (control fields and Filename, Size, SHA256) of these packages."""
    names = [f"{package.name}={package.version}" for package in packages]
    return parse_records(_run(apt, ("apt-cache", "show", *names), "reading the packages").stdout)


def offered(apt: Apt, names: Iterable[str]) -> tuple[dict[str, str], ...]:
    """Return the records of all versions of these packages, newest first; skip unknown packages."""
    argv = ("apt-cache", "show", *names)
    result = run(argv, error=None, env=apt.env, cwd=apt.folder)
    if result.returncode and "No packages found" not in result.stderr:
        raise LockError(failure(result, "reading the package lists", _MIRROR_ADVICE))
    return parse_records(result.stdout)


def release_date(apt: Apt) -> datetime:
    """Return the newest date of the Release files that apt has verified.

    Raises FetchError if none states a date.
    """
    releases = [path for path in apt.lists.iterdir() if path.name.endswith("Release")]
    texts = (path.read_text(encoding="utf-8", errors="replace") for path in releases)
    dates = [match[1] for text in texts if (match := _DATE.search(text))]
    try:
        return max(parsedate_to_datetime(date).astimezone(UTC) for date in dates)
    except ValueError as problem:
        raise FetchError(
            f"the archive's Release files do not state a date ({problem}); {_MIRROR_ADVICE}"
        ) from problem


def machine_config() -> tuple[tuple[str, str], ...]:
    """Return this machine's apt configuration, key and value; empty if there is no apt."""
    if find_tool("apt-config") is None:
        return ()
    dump = run(("apt-config", "dump"), error=None).stdout
    return tuple((match[1], match[2]) for match in _SETTING.finditer(dump))


def _apt_config(
    folder: Path, lists: Path, trust: Path | None, timeout: float, architecture: str
) -> str:
    """Return an apt.conf with all folders but `lists` in `folder`, and no machine configuration."""
    options = {
        "Dir": f"{folder}/",
        "Dir::State": f"{folder}/state/",
        "Dir::State::lists": f"{lists}/",
        "Dir::State::status": f"{folder}/status",
        "Dir::Cache": f"{folder}/cache/",
        "Dir::Etc": f"{folder}/",
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::parts": "/dev/null",
        "Dir::Etc::sourcelist": f"{folder}/sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": f"{folder}/preferences",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::Etc::trusted": "/dev/null",
        "Dir::Etc::trustedparts": "/dev/null",
        "APT::Architecture": architecture,
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root",
        "APT::Update::Error-Mode": "any",
        "Acquire::Languages": "none",
        "Acquire::Retries": _RETRIES,
        "Acquire::http::Timeout": f"{max(1, round(timeout))}",
        "Acquire::https::Timeout": f"{max(1, round(timeout))}",
        **({} if trust is None else {"Acquire::https::CAInfo": str(trust)}),
    }
    lines = [f'{key} "{value}";' for key, value in options.items()]
    return "\n".join((*lines, f'APT::Architectures {{ "{architecture}"; }};')) + "\n"


def _preferences(pins: Mapping[str, str]) -> str:
    """Return an apt preferences file that prefers these versions, even older ones."""
    return "\n".join(
        f"Package: {name}\nPin: version {version}\nPin-Priority: 1001\n"
        for name, version in sorted(pins.items())
    )


def parse_uris(text: str) -> tuple[PackageUri, ...]:
    """Read `--print-uris`; its file names are `name_version_architecture.deb`, quoted."""
    packages = []
    for match in _URI.finditer(text):
        name, version, architecture = unquote(match["filename"]).removesuffix(".deb").split("_")
        packages.append(PackageUri(match["uri"], name, version, architecture))
    return tuple(packages)


def parse_records(text: str) -> tuple[dict[str, str], ...]:
    """Read deb822 paragraphs; continuation lines are skipped."""
    return tuple(
        dict(
            line.split(": ", 1)
            for line in paragraph.splitlines()
            if ": " in line and not line.startswith(" ")
        )
        for paragraph in text.split("\n\n")
        if paragraph.strip()
    )


def installed(status: str) -> dict[str, str]:
    """Return name -> version of what dpkg's status lists as installed."""
    return {
        record["Package"]: record.get("Version", "")
        for record in parse_records(status)
        if record.get("Status", "").endswith(" installed")
    }


def _write_tree(folder: Path, lists: Path, sources: Sequence[Source], keyring: str) -> None:
    for part in (lists / "partial", folder / "state", folder / "cache/archives/partial"):
        part.mkdir(parents=True, exist_ok=True)
    lines = [
        f"deb [signed-by={keyring}] {source.uri} {source.suite} {' '.join(source.components)}\n"
        for source in sources
    ]
    (folder / "sources.list").write_text("".join(lines), encoding="utf-8")
    (folder / "status").write_text("", encoding="utf-8")


def _run(apt: Apt, argv: tuple[str, ...], what: str, advice: str = _MATRIX_ADVICE) -> Result:
    result = run(argv, error=None, env=apt.env, cwd=apt.folder)
    if result.returncode == 0:
        return result
    if _TLS.search(result.stderr):
        raise FetchError(failure(result, what, CA_ADVICE))
    if _NETWORK.search(result.stderr) or "update" in argv:
        raise FetchError(failure(result, what, _MIRROR_ADVICE))
    raise LockError(failure(result, what, advice))
