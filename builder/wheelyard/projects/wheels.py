"""Wheels of what has none: built once of its source, confined, and kept in the project's folder.

A source decides what its build does, so none of it runs outside a confinement without network: in
unpacked layers of the base, or in a container. There it sees its own files and the wheels of its
build requirements. What has nothing to compile is built in the base's lowest layer alone, all else
in the devel image of the same tag. A build that fails is tried again only in what has what its log
misses: to unpack the devel image takes minutes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from wheelyard.contract.paths import UID, VENV
from wheelyard.errors import LockError, ProjectError, WheelError
from wheelyard.fetching.fetch import fetch_all
from wheelyard.fetching.wanted import Download, cached, place
from wheelyard.layers.errors import LayersError
from wheelyard.layers.install import Environment, plan_install
from wheelyard.layers.wheel import Wheel
from wheelyard.lock.pylock import first_wheel, wheel_url
from wheelyard.lock.uv import ResolutionRequest, compile_requirements
from wheelyard.projects import build_worker
from wheelyard.projects.chamber import chamber, enter, private_folder
from wheelyard.projects.model import BUILT, BaseImage
from wheelyard.projects.sources import Fetched, fetch_direct, fetch_named, source_key
from wheelyard.projects.table import PYPROJECT, Project, read_toml
from wheelyard.system.storage import file_digest, link_or_copy
from wheelyard.system.textfiles import write_text

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.projects.places import Places
    from wheelyard.settings import Settings

FORMAT = 1  # part of a built wheel's key: raise it when the way of building changes
_INSIDE = "build"  # the folder, at the root of the confinement
_ENVIRONMENT = f"{_INSIDE}/env"  # of the build requirements
_SITE = f"{_INSIDE}/site"  # of what every Python of a build does first
_CUSTOMIZE = """\
import site, sys

ends = ("site-packages", "dist-packages")
at = next((at for at, path in enumerate(sys.path) if path.endswith(ends)), len(sys.path))
sys.path.insert(at, {folder!r})  # after the standard library, before what the image has
site.addsitedir({folder!r})  # setuptools' .pth file replaces distutils
"""
_OURS = ("out", "home", "scratch")  # folders that a build writes to, beside its source
_LEGACY = "setuptools.build_meta:__legacy__"
_WHEEL_MAX = 8 << 30  # bytes of a built wheel
_ANSWER_MAX = 1 << 16  # bytes of what a backend requires
_TAIL = 20  # lines of a build's log that are shown
_EPOCH = "315532800"  # 1980, the earliest time that a zip file can hold
_COMPILED = {
    ".asm", ".c", ".cc", ".cpp", ".cu", ".cxx", ".f", ".f77", ".f90", ".f95", ".go", ".i", ".m",
    ".mm", ".pxd", ".pyx", ".rs", ".s", ".swift",
}  # fmt: skip
_FRAMEWORK = re.compile(rb"\b(torch|tensorflow|CUDA_HOME|nvcc)\b")
# What the log of a failed build says of what it misses.
_NO_NVCC = re.compile(
    r"\bnvcc\b|\bCUDA_(HOME|PATH)\b|CUDAToolkit|CUDA_TOOLKIT_ROOT_DIR", re.IGNORECASE
)
_NO_FRAMEWORK = re.compile(
    r"\b(torch|tensorflow|jax|triton)\b|\b(cu\w*|nccl|nv\w*)\.h\b|-l(cu|nv|nccl)\w+"
)
_NO_MODULE = re.compile(r"No module named '([\w.]+)'")
_NO_COMPILER = re.compile(
    r"\b(gcc|g\+\+|clang|cmake|ninja|gfortran|cargo|rustc|swig|pkg-config|pkgconfig)\b|[Cc]ompiler|"
    r"'(cc|c\+\+|ld|make|git)'|\bnot found\b|No such file or directory: '[\w+.-]+'|\.h\b|"
    r"is not a pure wheel"
)
_READ_MAX = 1 << 20  # bytes of setup.py
_COMPILERS = {"CMakeLists.txt", "Cargo.toml", "configure.ac", "meson.build"}

Run = Callable[[list[str], Mapping[str, str]], tuple[int, str] | None]  # None: not possible


class Needs(IntEnum):
    """What a build needs, and has in the rooms of that rank."""

    PYTHON = 0  # the base's lowest layer
    COMPILER = 1  # the devel image's Debian packages
    ALL = 2  # CUDA and the base's distributions: the devel image


_CALLED = {Needs.COMPILER: "a compiler or another program", Needs.ALL: "CUDA or the framework"}


class _FailedBuildError(LockError):
    """Raised for a build that ended with an error."""

    def __init__(self, message: str, log: str) -> None:
        super().__init__(message)
        self.log = log


@dataclass(frozen=True, slots=True)
class Origin:
    """What a wheel was built of."""

    source: str  # the requirement, or the archive's name
    revision: str  # "sha256:..." of an archive, "git:..." of a commit, "tree:..." of a folder


@dataclass
class WheelBuilder:
    """Builds the wheels of one project's lock."""

    project: Project
    base: BaseImage
    places: Places
    context: Context
    origins: dict[str, Origin] = field(default_factory=dict)  # by the wheel's SHA-256
    notes: list[str] = field(default_factory=list)

    def named(self, pin: str, settings: Settings) -> Path:
        """Build the source distribution of "name" or "name==version"; return the wheel kept.

        Raises LockError if that is not possible, FetchError if it cannot be fetched.
        """
        with private_folder(self.context) as folder:
            source = fetch_named(pin, folder, settings, self.context)
            return self._kept(source, source.said, settings, Requirement(pin).name)

    def direct(self, place: str, origin: str, name: str | None, settings: Settings) -> Path:
        """Build what a requirement names, such as a repository's commit; return the wheel kept."""
        with private_folder(self.context) as folder:
            source = fetch_direct(place, self.project, folder, settings, self.context)
            return self._kept(source, origin, settings, name)

    def _kept(self, source: Fetched, origin: str, settings: Settings, name: str | None) -> Path:
        """Put the wheel of a source into the project's folder, from the cache or built."""
        key = source_key(
            source, str(FORMAT), self.base.python, self.base.machine, *self.base.constraints
        )
        record = settings.cache_dir / "built" / f"{key}.json"
        files = settings.cache_dir / "files"
        if (wheel := _known(record, files)) is None:
            wheel = self._built(source, settings, files)
            record.parent.mkdir(parents=True, exist_ok=True)
            facts = {"filename": wheel.name, "sha256": wheel.parent.name}
            write_text(record, json.dumps(facts))
        found = parse_wheel_filename(wheel.name)[0]
        if name is not None and found != canonicalize_name(name):
            raise LockError(f"{source.said} is {found}, not {name}: correct the requirement")
        target = self.project.folder / BUILT / wheel.name
        target.parent.mkdir(exist_ok=True)
        target.unlink(missing_ok=True)
        shutil.copyfile(wheel, target)
        self.origins[wheel.parent.name] = Origin(origin, source.identity)
        self.notes.append(
            f"{BUILT}/{wheel.name} was built of {origin}; keep it with the project (in git, or "
            "on an index of your own): a build elsewhere may give other bytes"
            if not source.identity.startswith("tree:")
            else f"{BUILT}/{wheel.name} was built of {source.said}/; keep it with the project, and "
            "lock again when that folder has changed"
        )
        return target

    def _built(self, source: Fetched, settings: Settings, files: Path) -> Path:
        """Build the wheel where that is possible; return its place in the cache."""
        self.context.reporter.info(f"building a wheel of {source.said}, confined")
        failure, needs = "", Needs.PYTHON
        with self.context.reporter.task(f"build {source.said}", None, "items") as task:
            for rank, room in self._rooms(source.folder):
                if rank < needs:
                    continue
                with room as opened:
                    if opened is None:
                        continue
                    task.at(opened.said)
                    try:
                        if made := _Build(opened, source, self, settings).run():
                            return _stored(made, files)
                        continue
                    except _FailedBuildError as error:
                        failure, more = str(error), self._misses(error.log, rank)
                    except (LockError, WheelError) as error:
                        failure, more = str(error), None
                if more is None:
                    advice = self._without_nvcc(failure)
                    raise LockError(f"{source.said}: no wheel can be built:\n{failure}{advice}")
                needs = more
                self.context.reporter.info(
                    f"{source.said} needs {_CALLED[needs]}, by its log: it is built again where "
                    "there is that"
                )
        if failure:
            failure = f"no wheel can be built:\n{failure}\nIt needs {_CALLED[needs]}: "
            raise LockError(f"{source.said}: {failure}{self.places.advice()}")
        raise LockError(f"{source.said} is not a wheel; {self.places.advice()}")

    def _misses(self, log: str, rank: Needs) -> Needs | None:
        """Return what a failed build lacked by its log; None if it had all there is."""
        there = {wheel.name for wheel in self.base.wheels}
        needs = missing_from(log, there, has_nvcc=self._has_nvcc())
        return needs if needs is not None and needs > rank else None

    def _has_nvcc(self) -> bool:
        """Tell whether the devel image has a CUDA compiler: NVIDIA's wheels of CUDA 13 do."""
        return any(wheel.name == "nvidia-cuda-runtime" for wheel in self.base.wheels)

    def _without_nvcc(self, log: str) -> str:
        if not _NO_NVCC.search(log) or self._has_nvcc():
            return ""
        return (
            f"\n{self.base.devel} has no nvcc, as every image below CUDA 13: build the wheel where "
            'there is one, and name its folder in the table: find-links = ["wheels"]'
        )

    def _rooms(self, source: Path) -> Iterator[tuple[Needs, AbstractContextManager[_Room | None]]]:
        """Yield where it may be built, the cheapest first; nowhere on another processor."""
        if not self.places.runs_here():
            return
        if not _compiles(source):
            said = "in the base's lowest layer"
            yield Needs.PYTHON, self._chamber(self.places.lowest, said, pure=True)
        yield Needs.ALL, self._container()
        if not _needs_framework(source):
            said = "in the Debian layers of the devel image"
            yield Needs.COMPILER, self._chamber(self.places.compilers, said)
        said = "in the layers of the devel image"
        yield Needs.ALL, self._chamber(self.places.devel, said, whole=True)

    @contextmanager
    def _chamber(
        self,
        find: Callable[[], Sequence[Path]],
        said: str,
        *,
        whole: bool = False,
        pure: bool = False,
    ) -> Iterator[_Room | None]:
        if not (blobs := find()):
            yield None
            return
        with chamber(blobs, self.context) as root:
            ids = (UID, UID) if os.geteuid() == 0 else (os.getuid(), os.getgid())
            found = [root / path for path in _pythons(self.base.python, whole)]
            python = next((x for x in found if x.exists() or x.is_symlink()), None)
            if python is None:
                yield None
                return
            (root / _INSIDE).mkdir()
            env = self.places.environment() if whole else {}

            def run(argv: list[str], more: Mapping[str, str]) -> tuple[int, str] | None:
                result = enter(root, argv, {**env, **more}, ids)
                return None if result is None else (result.returncode, result.tail)

            path = f"/{python.relative_to(root)}"
            yield _Room(said, root / _INSIDE, path, ids, run, whole, pure)

    @contextmanager
    def _container(self) -> Iterator[_Room | None]:
        if not self.places.has_container():
            yield None
            return
        with private_folder(self.context) as folder:
            ids = (UID, UID) if os.geteuid() == 0 else (os.getuid(), os.getgid())
            run = partial(self.places.contained, folder, f"/{_INSIDE}", ids)
            said = "in a container of the devel image"
            yield _Room(said, folder, f"/{VENV}/bin/python", ids, run, whole=True)


@dataclass(frozen=True, slots=True)
class _Room:
    """A confinement that is open."""

    said: str
    folder: Path  # /build inside
    python: str
    ids: tuple[int, int]
    run: Run
    whole: bool  # the devel image: with CUDA, and with the base's distributions
    pure: bool = False  # nothing can be compiled there


class _Build:
    """One source in one room."""

    def __init__(
        self, room: _Room, source: Fetched, builder: WheelBuilder, settings: Settings
    ) -> None:
        self._room, self._source, self._settings = room, source, settings
        self._base, self._context = builder.base, builder.context
        self._there = {wheel.name: wheel.version for wheel in self._base.wheels}
        self._environment = Environment(_ENVIRONMENT, self._base.python, {})

    def run(self) -> Path | None:
        """Return the wheel, in the room; None where nothing can be confined, or a pure one fails.

        Raises LockError with the end of the log.
        """
        folder = self._room.folder
        shutil.copytree(self._source.folder, folder / "source", symlinks=True)
        shutil.copyfile(build_worker.__file__, folder / "worker.py")
        for name in (*_OURS, "site"):
            (folder / name).mkdir()
        customize = _CUSTOMIZE.format(folder=f"/{self._environment.site_packages}")
        (folder / "site/sitecustomize.py").write_text(customize, encoding="utf-8")
        requires, backend, path = _build_system(self._source)
        self._install(requires)
        job = {"source": f"/{_INSIDE}/source", "out": f"/{_INSIDE}/out", "path": path}
        for task in ("requires", "wheel"):
            _hand_over(folder, self._room.ids)
            text = json.dumps({**job, "task": task, "backend": backend})
            argv = [self._room.python, f"/{_INSIDE}/worker.py", text]
            done = self._room.run(argv, self._variables())
            if done is None:
                return None
            if done[0] != 0:
                log = "\n".join(f"  {line}" for line in done[1].splitlines()[-_TAIL:])
                said = f"its build failed {self._room.said} (exit code {done[0]}):\n{log}"
                raise _FailedBuildError(said, done[1])
            if task == "requires":
                self._install(_answer(folder))
        wheel = _taken(folder)
        if self._room.pure and not wheel.name.endswith("-none-any.whl"):
            said = f"{wheel.name} is not a pure wheel, and nothing was compiled"
            raise _FailedBuildError(said, said)
        return wheel

    def _variables(self) -> dict[str, str]:
        own = f"/{_ENVIRONMENT}"
        return {
            "PATH": f"{own}/bin:/{VENV}/bin:/usr/local/cuda/bin:/usr/local/bin:/usr/bin:/bin",
            "PYTHONPATH": f"/{_SITE}",
            "HOME": f"/{_INSIDE}/home",
            "TMPDIR": f"/{_INSIDE}/scratch",
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "PYTHONHASHSEED": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
            "SOURCE_DATE_EPOCH": _EPOCH,
            "MAX_JOBS": str(self._settings.workers),
        }

    def _install(self, requires: list[str]) -> None:
        """Unpack the wheels of build requirements, except for what the room has."""
        wanted = [line for line in requires if not self._has(line)]
        if not wanted:
            return
        request = ResolutionRequest(
            requirements=tuple(wanted),
            python=self._base.python,
            platform=self._base.platform,
            preferences=tuple(self._there.items()),
        )
        what = f"the build requirements of {self._source.said}"
        packages = compile_requirements(request, what, self._settings, "bring its wheel")
        if self._room.whole:
            packages = tuple(
                package for package in packages
                if self._there.get(package.name) != str(package.version)
            )  # fmt: skip
        downloads = []
        for package in packages:
            wheel = first_wheel(package)
            url = wheel_url(wheel)
            downloads.append(Download(url, wheel.filename, wheel.hashes["sha256"], wheel.size))
        cache = self._settings.cache_dir / "files"
        files = fetch_all(downloads, cache, self._settings, self._context.reporter)
        for package, item in zip(packages, downloads, strict=True):
            self._unpack(files[item.sha256], package.name, str(package.version))
        program = self._room.folder / "env/bin/python"
        program.parent.mkdir(parents=True, exist_ok=True)
        program.unlink(missing_ok=True)
        program.symlink_to(self._room.python)

    def _has(self, line: str) -> bool:
        """Tell whether the devel image satisfies a build requirement itself."""
        try:
            wanted = Requirement(line)
        except InvalidRequirement as error:
            raise LockError(f"its build requirement {line!r} cannot be read: {error}") from error
        if wanted.url is not None:
            raise LockError(f"its build requirement {line!r} names an address")
        version = self._there.get(canonicalize_name(wanted.name))
        is_there = version is not None and wanted.specifier.contains(version, prereleases=True)
        return self._room.whole and is_there

    def _unpack(self, file: Path, name: str, version: str) -> None:
        try:
            with Wheel(file) as wheel:
                for target in plan_install(wheel, name, version, self._environment):
                    path = self._room.folder / target.path.removeprefix(f"{_INSIDE}/")
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with path.open("wb") as output:
                        if target.member is None:
                            output.write(target.content)
                        else:
                            for _, data in wheel.stream(target.member):
                                output.write(data)
                    path.chmod(0o755 if target.executable else 0o644)
        except LayersError as error:
            raise WheelError(str(error)) from error


def _pythons(python: str, whole: bool) -> tuple[str, ...]:
    own = (f"{VENV}/bin/python",) if whole else ()
    return (*own, f"usr/bin/python{python}", f"usr/local/bin/python{python}")


def _compiles(folder: Path) -> bool:
    """Tell whether a source has files to compile."""
    return any(
        Path(name).suffix.lower() in _COMPILED or name in _COMPILERS
        for _, _, names in os.walk(folder)
        for name in names
    )


def _needs_framework(folder: Path) -> bool:
    """Tell whether a source seems to compile for CUDA, or against the framework."""
    if any(folder.rglob("*.cu")):
        return True
    for name in ("setup.py", PYPROJECT):
        with suppress(OSError), (folder / name).open("rb") as file:
            if _FRAMEWORK.search(file.read(_READ_MAX)):
                return True
    return False


def missing_from(log: str, there: Collection[str], *, has_nvcc: bool) -> Needs | None:
    """Return what a failed build lacked by its log; None if it says nothing of the kind.

    `there` are the base's distributions. The devel images of CUDA 12 have no nvcc.
    """
    modules = {canonicalize_name(name.partition(".")[0]) for name in _NO_MODULE.findall(log)}
    if _NO_FRAMEWORK.search(log) or modules & {*there} or (has_nvcc and _NO_NVCC.search(log)):
        return Needs.ALL
    if _NO_NVCC.search(log) or not _NO_COMPILER.search(log):
        return None
    return Needs.COMPILER


def _build_system(source: Fetched) -> tuple[list[str], str, list[str]]:
    """Return build requirements, backend, and where in the source it is (PEP 517, 518)."""
    file = source.folder / PYPROJECT
    try:
        table = read_toml(file).get("build-system") if file.is_file() else None
    except ProjectError as error:
        raise LockError(f"{source.said}: {error}") from error
    if not isinstance(table, dict):
        if not (source.folder / "setup.py").is_file() and not file.is_file():
            raise LockError(f"{source.said} has neither {PYPROJECT} nor setup.py")
        return ["setuptools"], _LEGACY, []
    requires, path = table.get("requires", []), table.get("backend-path", [])
    backend = table.get("build-backend", _LEGACY)
    lists_hold = all(isinstance(x, list) and all(isinstance(y, str) for y in x)
                     for x in (requires, path))  # fmt: skip
    if not lists_hold or not isinstance(backend, str):
        raise LockError(f"{source.said}: [build-system] in its {PYPROJECT} is malformed")
    return requires, backend, path


def _hand_over(folder: Path, ids: tuple[int, int]) -> None:
    """Give the build what it may change: its source and folders; not the worker, nor wheels."""
    if os.geteuid() != 0:
        return
    folder.chmod(0o755)
    for name in ("source", *_OURS):
        os.lchown(folder / name, *ids)
        for place_, folders, names in os.walk(folder / name):
            for one in (*folders, *names):
                os.lchown(Path(place_, one), *ids)


def _opened(folder: Path) -> int:
    """Open the build's output folder, which it may have replaced by a link."""
    return os.open(folder / "out", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _content(folder: int, name: str) -> Any:
    """Open a plain file of the output folder."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    opened = os.open(name, flags, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise OSError(f"{name!r} is not a plain file")
    return os.fdopen(opened, "rb")


def _answer(folder: Path) -> list[str]:
    """Read what a backend requires further."""
    try:
        out = _opened(folder)
        try:
            with _content(out, "requires.json") as file:
                found = json.loads(file.read(_ANSWER_MAX))
        finally:
            os.close(out)
    except (OSError, ValueError, RecursionError) as error:
        raise LockError(f"its build requirements cannot be read: {error}") from error
    if not isinstance(found, list) or not all(isinstance(line, str) for line in found):
        raise LockError("its build requirements are not a list of texts")
    return found


def _taken(folder: Path) -> Path:
    """Copy the one wheel out of the build's reach, and check that it is one."""
    target = folder / "taken"
    target.mkdir(mode=0o700)
    try:
        out = _opened(folder)
        try:
            names = [name for name in os.listdir(out) if name.endswith(".whl")]  # noqa: PTH208
            if len(names) != 1:
                raise LockError(f"its build wrote {len(names)} wheels")
            name, version, _, _ = parse_wheel_filename(names[0])
            with _content(out, names[0]) as file, (target / names[0]).open("wb") as output:
                if os.fstat(file.fileno()).st_size > _WHEEL_MAX:
                    raise LockError(f"its wheel has more than {_WHEEL_MAX >> 30} GiB")
                shutil.copyfileobj(file, output, 1 << 20)
        finally:
            os.close(out)
    except (OSError, InvalidWheelFilename) as error:
        raise LockError(f"its build's output cannot be read: {error}") from error
    wheel = target / names[0]
    try:
        with Wheel(wheel) as opened:
            plan_install(opened, name, str(version), Environment(VENV, "3", {}))
    except LayersError as error:
        raise LockError(f"its build wrote a wheel that is not valid: {error}") from error
    return wheel


def _stored(wheel: Path, files: Path) -> Path:
    """Put a wheel among the fetched files, under its hash."""
    sha256 = file_digest(wheel).removeprefix("sha256:")
    target = place(files, sha256, wheel.name)
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        wheel.chmod(0o444)
        partial_name = target.with_name(f"{target.name}.{os.getpid()}")
        link_or_copy(wheel, partial_name)
        partial_name.replace(target)
    return target


def _known(record: Path, files: Path) -> Path | None:
    """Return the wheel that was built of the same source before."""
    try:
        facts = json.loads(record.read_text(encoding="utf-8"))
        return cached(files, str(facts["sha256"]), str(facts["filename"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
