"""Collects what a project requires: pyproject.toml, requirements files in pip's format, uv.lock."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote, urlsplit
from urllib.request import url2pathname

from packaging.dependency_groups import resolve_dependency_groups
from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from wheelyard.architecture import DEFAULT
from wheelyard.contract.constraints import environment
from wheelyard.errors import ProjectError
from wheelyard.projects.table import PYPROJECT, Project, read_toml
from wheelyard.projects.workspaces import Workspace, find_workspace, project_table, uv_table
from wheelyard.system.urls import redact, url_problem

LOCAL = "project:"  # scheme of a wheel in the project, in `Wanted.requirements`
_LARGEST = 2 << 20  # bytes of a requirements file
_FILES = 64  # requirements files that include each other
_CUDA_INDEX = re.compile(r"https?://download(-r2)?\.pytorch\.org/|https?://pypi\.nvidia\.com")
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")  # what pip expands
_DIRECT = re.compile(
    r"(git|hg|svn|bzr)\+|[a-z]+://|\.{0,2}/|\.{1,2}$|\.{1,2}\[|file:|[\w.-]+/", re.IGNORECASE
)
# A wheel's path or address, its hash, extras, and a marker.
_WHEEL = re.compile(
    r"([^@;]+\.whl|https?://[^;\s]+?\.whl)(#[^\[\s]+)?(\[[^\]]+\])?\s*(?:;\s*(.+))?", re.IGNORECASE
)
_HASH = re.compile(r"\s--hash=sha256:([0-9a-f]{64})(?=\s|$)")
_ANY_HASH = re.compile(r"\s--hash[= ]\S+")
_SOURCE = re.compile(r"(git|hg|svn|bzr)\+|\.(tar\.\w+|tgz|zip)$|\.git(@|$)", re.IGNORECASE)
_OTHER_REPOSITORY = re.compile(r"(hg|svn|bzr)\+", re.IGNORECASE)
# Sources of which a wheel can be built.
_GIT = re.compile(r"git\+(https?|ssh|file)://[^\s]+")
_ARCHIVE = re.compile(r"\.(tar\.gz|tgz|zip)$", re.IGNORECASE)
_FREEZE = (
    "`pip freeze` writes such paths in conda's environments: name the version instead, such as "
    "numpy==1.26.4"
)
# Options of pip that change nothing here: wheels alone are taken, each pinned by its hash.
_NEEDLESS = (
    "--prefer-binary", "--require-hashes", "--trusted-host", "--use-feature", "--only-binary",
    "--no-binary", "--config-settings", "--global-option", "--no-build-isolation",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SourceRequirement:
    """A requirement that names a source: a repository, or an archive that is not a wheel."""

    # "git+https://...@v1", an address, or LOCAL and a path, which ends with / if it is a folder's;
    # `${NAME}` not expanded
    place: str
    where: str  # the line that requires it
    name: str | None = None  # None: only its wheel says
    extras: str = ""  # "[serve]"
    marker: str = ""  # " ; python_version < '3.12'"

    def __str__(self) -> str:
        """Return the requirement's text."""
        head = f"{self.name}{self.extras} @ " if self.name else ""
        return f"{head}{self.place}{self.marker}"


@dataclass
class Wanted:
    """What a project requires. Its texts hold no login and no path of this machine."""

    requirements: list[str] = field(default_factory=list)  # PEP 508; LOCAL for its own wheels
    sources: list[SourceRequirement] = field(default_factory=list)  # of which wheels must be built
    constraints: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    locked: list[Requirement] = field(default_factory=list)  # the pins of uv.lock
    indexes: list[str] = field(default_factory=list)  # before the default one; not expanded
    index: str | None = None  # in place of the default one; not expanded
    explicit: dict[str, str] = field(default_factory=dict)  # name -> the one index that it is from
    index_names: dict[str, str] = field(default_factory=dict)  # index -> how uv calls it
    find_links: list[str] = field(default_factory=list)  # folders of the project, or addresses
    hashes: dict[str, set[str]] = field(default_factory=dict)  # name -> SHA-256s that may be taken
    notes: list[str] = field(default_factory=list)  # what was left out, and why

    def facts(self) -> dict[str, Any]:
        """Return all that decides what is locked, for a digest."""
        return {
            "requirements": sorted(self.requirements),
            "constraints": sorted([*self.constraints, *map(str, self.locked)]),
            "overrides": sorted(self.overrides),
            "indexes": [redact(index or "") for index in (*self.indexes, self.index)],
            **(
                {"explicit": {x: redact(y) for x, y in self.explicit.items()}}
                if self.explicit
                else {}
            ),
            "find-links": self.find_links,
            "hashes": {name: sorted(found) for name, found in self.hashes.items()},
            **({"sources": sorted(map(str, self.sources))} if self.sources else {}),
        }


def collect(project: Project, python: str, machine: str = DEFAULT.machine) -> Wanted:
    """Return what the project requires; raise ProjectError for what cannot be taken.

    Python and machine are those of the base image: markers in uv.lock are judged for them.
    """
    wanted = Wanted(find_links=list(project.table.find_links))
    data = _pyproject(project)
    files = _RequirementsFiles(project, wanted)
    _from_pyproject(project, data, wanted, files)
    for name in project.table.requirements:
        files.read(project.folder / name, f"{project.source.name}: requirements")
    workspace = find_workspace(project.folder)
    _from_uv(project, data, wanted, workspace)
    _from_folders(project, wanted)
    lock = workspace.root / "uv.lock"
    if lock.is_file():
        wanted.locked += _uv_pins(lock, environment(python, machine))
    return wanted


def wheel_advice(what: str, devel: str = "IMAGE-devel") -> str:
    """Say how a wheel is brought for a distribution that has none."""
    return (
        "images are made of wheels alone, and this cannot be built here; build the wheel once, in "
        "the devel image of the same tag, and name its folder:\n"
        f"  wheelyard run {devel} pip wheel --no-deps --wheel-dir wheels {what}\n"
        '  find-links = ["wheels"]     in the table (or --find-links wheels in a requirements '
        "file)"
    )


def expanded(text: str) -> str:
    """Replace `${NAME}` by the environment's value, as pip does; ProjectError if it has none."""

    def value(found: re.Match[str]) -> str:
        if not os.environ.get(found[1]):
            raise ProjectError(
                f"{redact(text)} needs the environment variable {found[1]}, which is not set"
            )
        return os.environ[found[1]]

    return _VARIABLE.sub(value, text)


def _pyproject(project: Project) -> dict[str, Any]:
    path = project.folder / PYPROJECT
    return read_toml(path) if path.is_file() else {}


def _from_pyproject(
    project: Project, data: Mapping[str, Any], wanted: Wanted, files: _RequirementsFiles
) -> None:
    """Take [project].dependencies, the extras and the groups that the table names."""
    where = project.folder / PYPROJECT
    metadata, table = project.metadata, project.table
    if not metadata and _dig(data, "tool", "poetry"):
        wanted.notes.append(
            "[tool.poetry] is not read: move its dependencies to [project] (poetry 2), or "
            "`poetry export -o requirements.txt`"
        )
    if "dependencies" in _list(metadata.get("dynamic")):
        _dynamic(project, data, files, wanted)
    for line in _strings(metadata.get("dependencies", []), f"{where}: project.dependencies"):
        _add(line, f"{where}: project.dependencies", project.folder, wanted)
    extras = _named(metadata.get("optional-dependencies", {}), where, "optional-dependencies")
    own = canonicalize_name(str(metadata.get("name", "")))
    _extras(table.extras, extras, own, project, wanted)
    if table.groups:
        groups = _table(data.get("dependency-groups"))
        known = {str(canonicalize_name(str(name))): str(name) for name in groups}
        chosen = [known[_known(name, known, "dependency group", where)] for name in table.groups]
        try:
            lines = resolve_dependency_groups(groups, *chosen)
        except (ValueError, TypeError, LookupError, ExceptionGroup) as error:
            raise ProjectError(f"{where}: dependency-groups: {_said(error)}") from error
        for line in lines:
            _add(line, f"{where}: dependency-groups", project.folder, wanted)


def _extras(
    names: Iterable[str],
    extras: Mapping[str, Any],
    own: str,
    project: Project,
    wanted: Wanted,
) -> None:
    """Take the lines of extras, and of those of the project's own that they name."""
    where = f"{project.folder / PYPROJECT}: project.optional-dependencies"
    queue, done = list(names), set[str]()
    while queue:
        name = _known(queue.pop(0), extras, "extra", project.folder / PYPROJECT)
        if name in done:
            continue
        done.add(name)
        for line in _strings(extras[name], f"{where}.{name}"):
            found = _parsed(line, where)
            if own and canonicalize_name(found.name) == own:
                queue += sorted(found.extras)
            else:
                _add(line, where, project.folder, wanted)


def _dynamic(
    project: Project, data: Mapping[str, Any], files: _RequirementsFiles, wanted: Wanted
) -> None:
    """Take the requirements files from which setuptools reads the dependencies."""
    named = _dig(data, "tool", "setuptools", "dynamic", "dependencies", "file")
    listed = [named] if isinstance(named, str) else named
    if not isinstance(listed, list):
        wanted.notes.append(
            "[project] says that its dependencies are dynamic; only those of setuptools' `file` "
            "can be read: name a requirements file in the table"
        )
        return
    for name in _strings(listed, f"{project.folder / PYPROJECT}: tool.setuptools.dynamic"):
        files.read(project.folder / name, PYPROJECT)


def _from_uv(
    project: Project, data: Mapping[str, Any], wanted: Wanted, workspace: Workspace
) -> None:
    """Take [tool.uv]: sources, indexes, constraints and overrides; of the workspace's root, too."""
    where = f"{project.folder / PYPROJECT}: tool.uv"
    uv = _table(_dig(data, "tool", "uv"))
    for key, target in (
        ("constraint-dependencies", wanted.constraints),
        ("override-dependencies", wanted.overrides),
    ):
        target += _strings(workspace.uv.get(key, []), f"{workspace.root / PYPROJECT}: {key}")
    wanted.requirements = [
        line
        for line in wanted.requirements
        if not _moved(_parsed(line, where), project.folder, uv, workspace, wanted, project)
    ]
    sources = workspace.sources(uv)
    for index in map(_table, _list(uv.get("index")) or _list(workspace.uv.get("index"))):
        url, name = index.get("url"), index.get("name")
        if not isinstance(url, str):
            continue
        if isinstance(name, str):
            wanted.index_names[url] = name
        if index.get("explicit") is not True or index.get("default") is True:
            _index(url, wanted, default=index.get("default") is True)
        elif not _is_left_out(url, wanted):
            named = (x for x, source in sources.items() if _table(source).get("index") == name)
            wanted.explicit |= {canonicalize_name(x): url for x in named}


def _from_folders(project: Project, wanted: Wanted) -> None:
    """Take what source folders need of other folders: their wheels name it without its place."""
    done: set[Path] = set()
    for source in wanted.sources:  # which grows meanwhile
        folder = tree_of(source.place, project.folder)
        if folder is None or folder in done:
            continue
        done.add(folder)
        workspace, where = find_workspace(folder), f"{folder / PYPROJECT}: project"
        metadata, uv = project_table(folder), uv_table(folder)
        extras = _named(metadata.get("optional-dependencies", {}), Path(where), "optional")
        lines = _strings(metadata.get("dependencies", []), f"{where}.dependencies")
        for name in source.extras.strip("[]").split(","):
            lines = [*lines, *_strings(extras.get(canonicalize_name(name), []), where)]
        for line in lines:
            _moved(_parsed(line, where), folder, uv, workspace, wanted, project)


def _moved(
    found: Requirement,
    folder: Path,
    uv: Mapping[str, Any],
    workspace: Workspace,
    wanted: Wanted,
    project: Project,
) -> bool:
    """Take a requirement of a folder from where uv's sources say; False if they say nothing."""
    source = workspace.sources(uv).get(canonicalize_name(found.name))
    if source is None or found.url is not None:
        return False
    # Paths in the root's own table are relative to the root.
    is_own = any(canonicalize_name(str(x)) == canonicalize_name(found.name)
                 for x in _table(uv.get("sources")))  # fmt: skip
    at = folder if is_own else workspace.root
    where = f"{at / PYPROJECT}: tool.uv"
    extras, marker = _spelled(found)
    name, taken = canonicalize_name(found.name), False
    for one in source if isinstance(source, list) else [source]:
        address = _source(found.name, _table(one), where, at, workspace, project)
        if address is None:
            continue
        taken = True
        if built := _buildable(address, where, at, project.folder):
            new = SourceRequirement(built, where, name, extras, marker)
            if not any((x.place, x.extras) == (built, extras) for x in wanted.sources):
                wanted.sources.append(new)
        elif (line := f"{found.name}{extras} @ {address}{marker}") not in wanted.requirements:
            wanted.requirements.append(line)
    return taken


def _source(
    name: str,
    source: Mapping[str, Any],
    where: str,
    folder: Path,
    workspace: Workspace,
    project: Project,
) -> str | None:
    """Return the address of one of uv's sources; None if it is an index, or the project itself."""
    if "index" in source:
        return None
    if source.get("workspace") is True:
        return workspace.member(name, where).as_uri()
    if isinstance(source.get("git"), str):
        ref = next((source[key] for key in ("rev", "tag", "branch") if key in source), None)
        below = source.get("subdirectory")
        return (
            f"git+{source['git']}"
            + (f"@{ref}" if ref else "")
            + (f"#subdirectory={below}" if below else "")
        )
    place = source.get("url") or source.get("path")
    if isinstance(place, str) and _ARCHIVE.search(urlsplit(place).path):
        return place
    if isinstance(place, str) and place.lower().partition("#")[0].endswith(".whl"):
        return _address(place, where, folder, project.folder)
    if isinstance(place, str) and "://" not in place:
        return (folder / place).resolve().as_uri()
    raise ProjectError(
        f"{where}.sources: {name} is neither a wheel, nor something of which one can be built; "
        + wheel_advice(str(place or name))
    )


def _uv_pins(path: Path, target: dict[str, str]) -> Iterator[Requirement]:
    """Yield the versions that uv.lock has for this Python and platform."""
    found: dict[str, set[str]] = {}
    for name, version, package in uv_packages(path):
        markers = package.get("resolution-markers")
        if "registry" in _table(package.get("source")) and _holds(markers, target, path):
            found.setdefault(name, set()).add(version)
    for name, versions in sorted(found.items()):
        if len(versions) == 1:  # several: extras that exclude each other
            yield _parsed(f"{name}=={versions.pop()}", str(path))


def uv_packages(path: Path) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield name, version and the whole table of each package in uv.lock that has a version."""
    for package in map(_table, _list(read_toml(path).get("package"))):
        name, version = package.get("name"), package.get("version")
        if isinstance(name, str) and isinstance(version, str):
            try:
                yield canonicalize_name(name), str(Version(version)), package
            except InvalidVersion as error:
                raise ProjectError(f"{path}: {name}: {error}; write it again: uv lock") from error


def _holds(markers: object, target: dict[str, str], path: Path) -> bool:
    if not isinstance(markers, list) or not markers:
        return True
    try:
        return any(Marker(str(marker)).evaluate(target) for marker in markers)
    except ValueError as error:  # of markers that cannot be read or compared
        raise ProjectError(f"{path}: {error}; write it again: uv lock") from error


class _RequirementsFiles:
    """Reads requirements files and those that they include, each once."""

    def __init__(self, project: Project, wanted: Wanted) -> None:
        self._project = project
        self._wanted = wanted
        self._seen: set[tuple[Path, bool]] = set()

    def read(self, path: Path, named_by: str, *, constraints: bool = False) -> None:
        """Take a file's lines; those of a constraints file only bound versions."""
        if (path.resolve(), constraints) in self._seen:
            return
        self._seen.add((path.resolve(), constraints))
        if len(self._seen) > _FILES:
            raise ProjectError(f"{named_by}: more than {_FILES} requirements files")
        text = read_requirements(path, named_by)
        for number, line in logical_lines(text):
            where = f"{_shown(path, self._project.folder)}:{number}"
            if line.startswith("-"):
                self._option(line, where, path, constraints=constraints)
            elif constraints:
                self._wanted.constraints.append(str(_parsed(_ANY_HASH.sub("", line), where)))
            else:
                _add(line, where, path.parent, self._wanted, self._project.folder)

    def _option(self, line: str, where: str, path: Path, *, constraints: bool) -> None:
        name, value = _option(line)
        match name:
            case "-r" | "--requirement" | "-c" | "--constraint":
                if "://" in value:
                    raise ProjectError(f"{where}: {line}: copy that file into the project")
                bounds = constraints or name in ("-c", "--constraint")
                self.read(path.parent / value, where, constraints=bounds)
            case "-e" | "--editable":
                _add(_direct(value), where, path.parent, self._wanted, self._project.folder)
            case "-i" | "--index-url" | "--extra-index-url":
                _index(value, self._wanted, default=name != "--extra-index-url")
            case "-f" | "--find-links":
                self._wanted.find_links.append(
                    value if "://" in value else _relative(path.parent / value, self._project)
                )
            case "--no-index":
                self._wanted.notes.append(f"{where}: --no-index is not followed: the base needs it")
            case "--pre":
                self._wanted.notes.append(
                    f"{where}: --pre is not followed; name each pre-release, such as demo>=2.0rc1"
                )
            case _ if name not in _NEEDLESS:
                raise ProjectError(f"{where}: {name} is not an option of a requirements file")


def _add(line: str, where: str, folder: Path, wanted: Wanted, project: Path | None = None) -> None:
    """Take one requirement, in pip's format."""
    project = project or folder
    hashes = set(_HASH.findall(line))
    text = _ANY_HASH.sub("", line).partition(" --")[0].strip()
    if wheel := _WHEEL.fullmatch(text):
        address = _address(wheel[1] + (wheel[2] or ""), where, folder, project)
        text = f"{_wheel_name(address, where)}{wheel[3] or ''} @ {address}"
        text += f" ; {wheel[4]}" if wheel[4] else ""
    elif _DIRECT.match(text):
        place, _, marker = text.partition(" ;")
        place, name = _named_source(place.strip())
        place, extras = _without_extras(place)
        if _is_project(place, folder, project):
            wanted.notes.append(f"{where}: the project itself goes in with its code")
            return
        if source := _buildable(place, where, folder, project):
            marker = f" ; {marker.strip()}" if marker else ""
            wanted.sources.append(SourceRequirement(source, where, name, extras, marker))
            return
        raise ProjectError(f"{where}: {_not_a_wheel(place)}")
    else:
        found = _parsed(text, where)
        if found.url is not None:
            extras, marker = _spelled(found)
            if source := _buildable(found.url, where, folder, project):
                name = canonicalize_name(found.name)
                wanted.sources.append(SourceRequirement(source, where, name, extras, marker))
                if hashes:
                    wanted.hashes.setdefault(name, set()).update(hashes)
                return
            address = _address(found.url, where, folder, project, found.name)
            text = f"{found.name}{extras} @ {address}{marker}"
    wanted.requirements.append(text)
    if hashes:
        name = canonicalize_name(_parsed(text, where).name)
        wanted.hashes.setdefault(name, set()).update(hashes)


def _buildable(place: str, where: str, folder: Path, project: Path) -> str | None:
    """Return the address of a source of which a wheel can be built; None for anything else."""
    bare, _, fragment = place.partition("#")
    if not _GIT.fullmatch(bare):
        if re.match(r"(git|hg|svn|bzr)\+", bare) or bare.lower().endswith(".whl"):
            return None
        if not _ARCHIVE.search(urlsplit(bare).path):
            return _tree(bare, where, folder, project)
        if not bare.startswith(("http://", "https://")):
            path = _path(bare)
            if not (folder / path).is_file():
                raise ProjectError(f"{where}: {path} does not exist here")
            relative = PurePosixPath(os.path.relpath(folder / path, project)).as_posix()
            return f"{LOCAL}{quote(relative)}" + (f"#{fragment}" if fragment else "")
    user = urlsplit(bare).netloc.rpartition("@")[0]
    name, _, password = _VARIABLE.sub("", user).partition(":")
    if password or (name not in ("", "git") and "${" not in user):
        raise ProjectError(
            f"{where}: {redact(place)} holds a login, which would be in the lock; write ${{TOKEN}} "
            "in its place, or give it by ~/.netrc or git's credential helper"
        )
    return place


def tree_of(place: str, project: Path) -> Path | None:
    """Return the folder that a source is; None for a repository or an archive."""
    if not place.startswith(LOCAL) or not place.endswith("/"):
        return None
    return (project / unquote(place.removeprefix(LOCAL))).resolve()


def _tree(place: str, where: str, folder: Path, project: Path) -> str | None:
    """Return LOCAL and the path of a folder with a distribution; None for anything else."""
    if "://" in place and not place.startswith("file:"):
        return None
    path = _path(place)
    found = folder / path
    if found.is_file() or _OTHER_REPOSITORY.match(place):
        return None
    if not found.is_dir():
        hint = f"; {_FREEZE}" if path.is_absolute() else ""
        raise ProjectError(f"{where}: {path} does not exist here{hint}")
    if not any((found / name).is_file() for name in (PYPROJECT, "setup.py")):
        raise ProjectError(f"{where}: the folder {path} has neither {PYPROJECT} nor setup.py")
    relative = PurePosixPath(os.path.relpath(found.resolve(), project.resolve())).as_posix()
    return f"{LOCAL}{quote(relative)}/"


def _path(place: str) -> Path:
    """Return the path that a place on this machine names: a file URL, or the path itself."""
    return Path(url2pathname(urlsplit(place).path) if place.startswith("file:") else place)


def _spelled(found: Requirement) -> tuple[str, str]:
    """Return a requirement's extras and its marker as they are written: "[serve]", " ; ..."."""
    extras = f"[{','.join(sorted(found.extras))}]" if found.extras else ""
    return extras, f" ; {found.marker}" if found.marker else ""


def _direct(value: str) -> str:
    """Write the value of --editable so that it is seen to be a place: `-e lib` is a folder."""
    return value if _DIRECT.match(value) else f"./{value}"


def _without_extras(place: str) -> tuple[str, str]:
    """Split `./lib[serve]`."""
    found = re.fullmatch(r"([^#\[]+)(\[[\w\s,.-]+\])", place)
    return (found[1], found[2].replace(" ", "")) if found else (place, "")


def _named_source(place: str) -> tuple[str, str | None]:
    """Split the name off a source: pip writes it into the fragment, `#egg=demo`."""
    bare, _, fragment = place.partition("#")
    parts = [part.partition("=") for part in fragment.split("&") if part]
    name = next((value for key, _, value in parts if key == "egg"), None)
    kept = "&".join(f"{key}={value}" for key, _, value in parts if key != "egg")
    egg = re.fullmatch(r"[\w.-]+", name or "")
    return bare + (f"#{kept}" if kept else ""), canonicalize_name(egg[0]) if egg else None


def _is_project(place: str, folder: Path, project: Path) -> bool:
    """Tell whether a place is the project itself, whose code is a layer of its own."""
    path = place.removeprefix("file://").partition("#")[0]
    return not _SOURCE.search(place) and (folder / path).resolve() == project.resolve()


def _not_a_wheel(place: str, what: str | None = None) -> str:
    """Say how a wheel is brought in the place of something else."""
    shown = redact(place)
    if found := _OTHER_REPOSITORY.match(place):
        return (
            f"{shown} is a repository of {found[1].lower()}; of repositories, only those of git "
            f"can be built; {wheel_advice(what or shown)}"
        )
    return f"{shown} is not a wheel; {wheel_advice(what or shown)}"


def _address(place: str, where: str, folder: Path, project: Path, name: str | None = None) -> str:
    """Return where a wheel is: an http address, or LOCAL and its path in the project."""
    place = expanded(place) if place.startswith(("http", "file")) else place
    if not re.search(r"\.whl$", urlsplit(place).path, re.IGNORECASE) or _SOURCE.match(place):
        what = f"'{name} @ {redact(place)}'" if name else None
        raise ProjectError(f"{where}: {_not_a_wheel(place, what)}")
    if place.startswith(("http://", "https://")):
        if problem := url_problem(place):
            raise ProjectError(f"{where}: {problem}")
        if "@" in urlsplit(place).netloc or urlsplit(place).query:
            raise ProjectError(
                f"{where}: {redact(place)} holds a login, which would be in the lock; give it by "
                "~/.netrc, or take the wheel from an index"
            )
        return place
    path = _path(place)
    target = folder / path
    if not target.is_file():
        raise ProjectError(
            f"{where}: {path} does not exist here; {_FREEZE}, or copy the wheel into the project"
        )
    return LOCAL + quote(PurePosixPath(os.path.relpath(target, project)).as_posix())


def _wheel_name(address: str, where: str) -> str:
    filename = unquote(urlsplit(address.removeprefix(LOCAL)).path.rpartition("/")[2])
    try:
        return parse_wheel_filename(filename)[0]
    except InvalidWheelFilename as error:
        raise ProjectError(f"{where}: {error}") from error


def _relative(path: Path, project: Project) -> str:
    return PurePosixPath(os.path.relpath(path, project.folder)).as_posix()


def _index(url: str, wanted: Wanted, *, default: bool) -> None:
    """Take an index, except those with other builds of what the base has."""
    if _is_left_out(url, wanted):
        return
    if default:
        wanted.index = url
    elif url not in wanted.indexes:
        wanted.indexes.append(url)


def _is_left_out(url: str, wanted: Wanted) -> bool:
    if not _CUDA_INDEX.match(url):
        return False
    note = f"{redact(url)} is left out: the base image has its builds"
    if note not in wanted.notes:
        wanted.notes.append(note)
    return True


def _option(line: str) -> tuple[str, str]:
    """Split `--name=value`, `--name value`, `-rvalue`."""
    found = re.match(r"(--[a-z-]+|-[a-z])[=\s]*(.*)", line)
    if found is None:
        return line, ""
    return found[1], found[2].strip().strip("\"'")


def logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield number and text of each line, without comments, continued lines joined."""
    start, joined = 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        start = start if joined else number
        if line.endswith("\\") and not line.lstrip().startswith("#"):
            joined += f"{line[:-1].strip()} "
            continue
        line = re.sub(r"(^|\s)#.*$", "", joined + line).strip()
        joined = ""
        if line:
            yield start, line
    if joined.strip():
        yield start, joined.strip()


def read_requirements(path: Path, named_by: str) -> str:
    """Return the text of a requirements file; PowerShell writes UTF-16."""
    try:
        with path.open("rb") as stream:
            data = stream.read(_LARGEST + 1)
    except OSError as error:
        raise ProjectError(f"{named_by}: {path} cannot be read: {error.strerror}") from error
    if len(data) > _LARGEST:
        raise ProjectError(f"{path} is larger than {_LARGEST >> 20} MiB")
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ProjectError(f"{path} is not text in UTF-8: {error}") from error


def _parsed(text: str, where: str) -> Requirement:
    try:
        return Requirement(text)
    except InvalidRequirement as error:
        hint = ""
        if re.fullmatch(r"[\w.-]+\s*=\s*[^=\s]+(=\S+)?", text):
            name, version = (part.strip() for part in text.split("=")[:2])
            hint = f"; conda writes it so, pip needs {name}=={version}"
        reason = str(error).splitlines()[0]
        raise ProjectError(f"{where}: {redact(text)!r}: {reason}{hint}") from error


def _known(name: str, known: Iterable[str], what: str, where: Path) -> str:
    wanted, names = canonicalize_name(name), list(known)
    if wanted in names:
        return wanted
    close = difflib.get_close_matches(wanted, names, 1)
    hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(names) or 'none'}"
    raise ProjectError(f"{where} has no {what} {name!r}; {hint}")


def _named(value: object, where: Path, key: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ProjectError(f"{where}: project.{key} must be a table")
    return {canonicalize_name(str(name)): lines for name, lines in value.items()}


def _strings(value: object, where: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ProjectError(f"{where} must be a list of texts")
    return value


def _table(value: object) -> Mapping[str, Any]:
    """Return a table; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _dig(data: Mapping[str, Any], *keys: str) -> Any:
    """Return what is at `keys`; None if something of it is missing or not a table."""
    found: Any = data
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _said(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(map(_said, error.exceptions))
    return str(error.args[0]) if error.args else str(error)


def _shown(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
