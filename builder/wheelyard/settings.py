"""Settings of a run: option > environment > user config file > default.

No setting may influence an image, a lock or a rendered file; settings only say where this machine
gets its bytes from and where it keeps them.
"""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from wheelyard.errors import SettingsError, UsageError, did_you_mean
from wheelyard.oci.address import Address, parse_address
from wheelyard.system.packaged import PACKAGED, packaged_set
from wheelyard.system.urls import redact, url_problem

__all__ = ["Settings", "find_project", "load_settings", "redact"]

_CONFIG_VARIABLE = "WHEELYARD_CONFIG"
_DEFAULT_TIMEOUT = 60.0
NO_SNAPSHOT = "no"  # as in apt.conf: there is no snapshot archive


@dataclass(frozen=True, slots=True, repr=False)
class Settings:
    """Everything that a run takes from this machine; its repr shows no credentials."""

    project: Path  # the folder that holds matrix.yaml
    cache_dir: Path
    index_url: str | None  # None: uv's own default index
    debian_mirror: str | None  # None: the sources mmdebstrap itself would write
    debian_security_mirror: str | None
    ca_bundle: Path | None  # extra CAs (PEM), added to the system's trust
    workers: int  # threads and processes for CPU work
    timeout: float  # seconds without a byte
    indexes: tuple[tuple[str, str], ...] = ()  # name in the matrix -> URL
    registry: Address | None = None  # where images are published
    debian_snapshot: str | None = None  # "no", or a pattern; None: what apt's configuration says
    packaged: bool = False  # the images are those that wheelyard was installed with

    def __repr__(self) -> str:
        shown = ((field.name, getattr(self, field.name)) for field in fields(self))
        return f"Settings({', '.join(f'{name}={_shown(value)}' for name, value in shown)})"

    def require_own(self, what: str) -> None:
        """Raise UsageError if `what` would change the images that wheelyard was installed with."""
        if self.packaged:
            raise UsageError(
                f"{what} needs a project's own files, and the set of images that came with "
                "wheelyard is read-only; run it in a clone of the repository, or name a project "
                "of yours with --project FOLDER"
            )

    def require_registry(self, what: str) -> Address:
        """Return the registry; UsageError, which calls it `what`, if none is set."""
        if self.registry is None:
            raise UsageError(f"{what} is missing: --registry HOST/PREFIX")
        return self.registry

    def index(self, name: str) -> str:
        """Return the URL of the index that the matrix calls `name`; SettingsError if unset."""
        for known, url in self.indexes:
            if known == name:
                return url
        raise SettingsError(
            f"the matrix takes wheels from the index {name!r}, but no setting gives its URL; "
            f'set it: --indexes "{name}=URL", WHEELYARD_INDEXES, or {name} = "URL" under '
            "[indexes] in the config file"
        )


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return repr(tuple((name, redact(url)) for name, url in value))
    return repr(redact(value)) if isinstance(value, str) else repr(value)


@dataclass(frozen=True, slots=True)
class _Source:
    """The names of one setting, and how its text becomes a value.

    `parse` takes the text and the folder that relative paths start from, and raises ValueError.
    """

    field: str
    variable: str
    parse: Callable[[str, Path], object]

    @property
    def key(self) -> str:
        """The key in the config file; the option is the same after two dashes."""
        return self.field.replace("_", "-")


def _url(text: str, _folder: Path) -> str:
    if problem := url_problem(text):
        raise ValueError(problem)
    return text


def _snapshot(text: str, folder: Path) -> str:
    """Check a pattern as in apt.conf's Acquire::Snapshots::URI, or its word for "none"."""
    if text == NO_SNAPSHOT:
        return text
    if "@SNAPSHOTID@" not in text or ("@PATH@" not in text and "/debian/" not in text):
        raise ValueError(
            f"{redact(text)!r} is not a URL with @SNAPSHOTID@ in the place of the date and @PATH@ "
            f"in that of the archive's name (debian, debian-security), nor {NO_SNAPSHOT!r}"
        )
    return _url(text, folder)


def _workers(text: str, _folder: Path) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 1024:
        raise ValueError(f"{text!r} is not a whole number from 1 to 1024")
    return int(text)


def _timeout(text: str, _folder: Path) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ValueError(f"{text!r} is not a number of seconds above 0")
    return seconds


def _path(text: str, folder: Path) -> Path:
    return folder / expanded(text)


def expanded(path: str | Path) -> Path:
    """Resolve `~` and `~user` in `path`; raise ValueError if there is no such home."""
    if "\0" in str(path):
        raise ValueError(f"{str(path)!r} holds a NUL character")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ValueError(
            f"{str(path)!r}: its home folder is unknown; write the path in full"
        ) from None


def _cache_dir(text: str, folder: Path) -> Path:
    path = _path(text, folder)
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is not a folder")
    return path


def _ca_bundle(text: str, folder: Path) -> Path:
    import ssl  # here: few runs set a bundle, and every run pays for an import above

    path = _path(text, folder)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except ssl.SSLError as error:
        raise ValueError(f"{path} holds no certificate in PEM form") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    return path


def _indexes(text: str, folder: Path) -> tuple[tuple[str, str], ...]:
    """Parse NAME=URL pairs, separated by blanks."""
    urls: dict[str, str] = {}
    for word in text.split():
        name, _, url = word.partition("=")
        if not re.fullmatch(r"[a-z][a-z0-9-]*", name) or not url:
            raise ValueError(f"{redact(word)!r} is not NAME=URL, NAME as in matrix.yaml")
        if name in urls:
            raise ValueError(f"the index {name!r} is given twice")
        urls[name] = _url(url, folder)
    return tuple(urls.items())


_SOURCES = (
    _Source("index_url", "WHEELYARD_INDEX_URL", _url),
    _Source("indexes", "WHEELYARD_INDEXES", _indexes),
    _Source("debian_mirror", "WHEELYARD_DEBIAN_MIRROR", _url),
    _Source("debian_security_mirror", "WHEELYARD_DEBIAN_SECURITY_MIRROR", _url),
    _Source("debian_snapshot", "WHEELYARD_DEBIAN_SNAPSHOT", _snapshot),
    _Source("ca_bundle", "WHEELYARD_CA_BUNDLE", _ca_bundle),
    _Source("cache_dir", "WHEELYARD_CACHE", _cache_dir),
    _Source("workers", "WHEELYARD_WORKERS", _workers),
    _Source("timeout", "WHEELYARD_TIMEOUT", _timeout),
    _Source("registry", "WHEELYARD_REGISTRY", lambda text, _folder: parse_address(text)),
)


def load_settings(
    options: Mapping[str, object],
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    *,
    needs_project: bool = True,
) -> Settings:
    """Load the settings from `options` (field name -> text; None: not given) and the rest.

    An empty environment variable counts as unset. Raises SettingsError with every problem at once,
    and UsageError if no project folder is found: then the packaged set is used if there is one,
    and without `needs_project`, else, `cwd`.
    """
    environ = os.environ if environ is None else environ
    cwd = _current_folder() if cwd is None else cwd
    problems: list[str] = []
    config_path = _config_path(environ, cwd)
    config = _read_config(config_path, bool(environ.get(_CONFIG_VARIABLE)), problems)
    values: dict[str, Any] = {
        **{source.field: None for source in _SOURCES},
        "workers": os.cpu_count() or 1,
        "timeout": _DEFAULT_TIMEOUT,
        "indexes": (),
    }
    for source in _SOURCES:
        for label, text, folder in _given(source, options, environ, config, config_path, cwd):
            try:
                values[source.field] = source.parse(text, folder)
            except ValueError as error:
                problems.append(f"{label}: {error}")
            except OSError as error:
                problems.append(f"{label}: {error.strerror}")
            break
    if problems:
        listed = "".join(f"\n  {problem}" for problem in problems)
        raise SettingsError(f"{len(problems)} setting(s) cannot be used:{listed}")
    values["cache_dir"] = values["cache_dir"] or _default_cache()
    named = options.get("project")
    try:
        folder = find_project(cwd, None if named is None else str(named))
    except UsageError:
        ours = packaged_set()
        if named is not None or (needs_project and ours is None):
            raise
        folder = ours or cwd
        return Settings(folder, packaged=ours is not None, **values)
    return Settings(folder, packaged=folder == PACKAGED, **values)


def find_project(cwd: Path, option: str | None = None) -> Path:
    """Return the folder with matrix.yaml: the one in `option`, else `cwd` or one above it."""
    if option is not None:
        try:
            folder = (cwd / expanded(option)).resolve()
            is_project = (folder / "matrix.yaml").is_file()
        except (ValueError, OSError) as error:
            problem = error.strerror if isinstance(error, OSError) else error
            raise UsageError(f"--project {option}: {problem}") from error
        if not is_project:
            raise UsageError(f"--project {option}: {folder} has no matrix.yaml")
        return folder
    for folder in (cwd, *cwd.parents):
        if (folder / "matrix.yaml").is_file():
            return folder
    raise UsageError(
        f"no matrix.yaml in {cwd} or in a folder above it; "
        "change to the project's folder, or name it with --project FOLDER"
    )


def _current_folder() -> Path:
    try:
        return Path.cwd()
    except OSError as error:
        raise UsageError(
            f"the current folder cannot be used ({error.strerror}); change to one that exists"
        ) from error


def _default_cache() -> Path:
    """Return the user's cache folder, or one in the temporary folder for a user without a home."""
    import platformdirs

    try:
        return platformdirs.user_cache_path("wheelyard")
    except RuntimeError:
        return _homeless_cache()


def _homeless_cache() -> Path:
    """Make a cache whose name is guessable, so it must be this user's and closed to others."""
    import stat
    import tempfile

    advice = "name a folder with --cache-dir or WHEELYARD_CACHE, or set HOME"
    try:
        folder = Path(tempfile.gettempdir(), f"wheelyard-{os.geteuid()}")
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise SettingsError(
            f"this user has no home folder, and a cache cannot be made: {error}; {advice}"
        ) from error
    if status.st_uid != os.geteuid() or not stat.S_ISDIR(status.st_mode) or status.st_mode & 0o077:
        raise SettingsError(
            f"this user has no home folder, and {folder} is open to other users; {advice}"
        )
    return folder


def _given(
    source: _Source,
    options: Mapping[str, object],
    environ: Mapping[str, str],
    config: Mapping[str, str],
    config_path: Path,
    cwd: Path,
) -> Iterator[tuple[str, str, Path]]:
    """Yield where the setting is given, strongest first: label, text, folder for relative paths."""
    option = options.get(source.field)
    if option is not None:
        yield f"--{source.key}", str(option), cwd
    if environ.get(source.variable):
        yield source.variable, environ[source.variable], cwd
    if source.key in config:
        yield f"{source.key} in {config_path}", config[source.key], config_path.parent


def _config_path(environ: Mapping[str, str], cwd: Path) -> Path:
    import platformdirs

    named = environ.get(_CONFIG_VARIABLE)
    try:
        if named:
            return _path(named, cwd)
        return platformdirs.user_config_path("wheelyard") / "config.toml"
    except ValueError as error:
        raise SettingsError(f"{_CONFIG_VARIABLE}: {error}") from error
    except RuntimeError:  # a user without a home has no config file
        return Path(os.devnull)


def _read_config(path: Path, required: bool, problems: list[str]) -> dict[str, str]:
    """Read the config file's settings as text; add what is wrong with it to `problems`."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if required:
            problems.append(f"{_CONFIG_VARIABLE}: {path} does not exist")
        return {}
    except OSError as error:
        problems.append(f"{path} cannot be read: {error.strerror}")
        return {}
    except ValueError as error:  # TOML or UTF-8
        problems.append(f"{path} is not valid TOML: {error}")
        return {}
    texts: dict[str, str] = {}
    for key, value in table.items():
        if key == "indexes" and isinstance(value, dict):
            texts[key] = " ".join(f"{name}={url}" for name, url in value.items())
        elif problem := _entry_problem(key, value):
            problems.append(f"{path}: {problem}")
        else:
            texts[key] = str(value)
    return texts


def _entry_problem(key: str, value: object) -> str | None:
    known = [source.key for source in _SOURCES]
    if key not in known:
        hint = did_you_mean(key.replace("_", "-"), known, "known keys")
        return f"unknown key {key!r}; {hint}"
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return f"{key} must be a text or a number"
    return None
