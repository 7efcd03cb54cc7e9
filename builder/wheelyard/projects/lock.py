"""Resolves a project's requirements on its base image, so that nothing is replaced needlessly."""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit, urlunsplit
from urllib.request import url2pathname

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, Specifier, SpecifierSet
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from wheelyard.architecture import ARCHITECTURES
from wheelyard.contract.constraints import environment
from wheelyard.errors import LockError
from wheelyard.frameworks.known import FRAMEWORKS
from wheelyard.lock.index import locate
from wheelyard.lock.pylock import first_wheel, wheel_url
from wheelyard.lock.resolve import wheel_size
from wheelyard.lock.uv import LOGIN_ADVICE, ResolutionRequest, compile_requirements, newest_versions
from wheelyard.model import LockedWheel
from wheelyard.projects.base import base_contents
from wheelyard.projects.model import BUILT, BaseImage, ProjectLock, ProjectWheel
from wheelyard.projects.newest import (
    Older,
    behind,
    is_far,
    is_stand_in,
    list_sdists,
    write_stand_ins,
)
from wheelyard.projects.prereleases import NoReleaseError, check_prereleases
from wheelyard.projects.requirements import (
    LOCAL,
    Wanted,
    collect,
    expanded,
    wheel_advice,
)
from wheelyard.projects.state import (
    explicit_indexes,
    has_changed,
    index_settings,
    inputs_of,
    is_locked_file,
    own_indexes,
)
from wheelyard.projects.table import Project
from wheelyard.system.urls import redact

if TYPE_CHECKING:
    from packaging.pylock import Package

    from wheelyard.planning.catalogue import CatalogueEntry
    from wheelyard.projects.wheels import WheelBuilder
    from wheelyard.settings import Settings

_BUILD = re.compile(r"cpu|cu\d+|rocm[\d.]+")  # local versions of PyTorch's own index
_SET = re.compile(r"(nvidia-.*|triton|cuda-.*)")  # goes with the framework
_ADVICE = "change the project's requirements, or the image that it is based on"
_REASON_MAX = 400  # characters
_NO_WHEEL = re.compile(r"Wheels are required for `([^`]+)`")
_OTHER_PYTHON = re.compile(r"no wheels? with a matching (Python|platform)|only has wheels with")


@dataclass(frozen=True, slots=True)
class Resolution:
    """A new lock, and what the user should know about it."""

    lock: ProjectLock
    notes: tuple[str, ...]
    older: tuple[Older, ...] = ()  # what the project gets in a version older than the newest


class _Late:
    """A builder that is made when the first wheel must be built."""

    def __init__(self, make: Callable[[], WheelBuilder | None]) -> None:
        self._make: Callable[[], WheelBuilder | None] | None = make
        self.made: WheelBuilder | None = None

    def get(self) -> WheelBuilder | None:
        """Return the builder; None where nothing can be built."""
        if self._make is not None:
            self.made, self._make = self._make(), None
        return self.made


def lock_project(
    project: Project,
    base: BaseImage,
    previous: ProjectLock | None,
    entries: Iterable[CatalogueEntry],
    settings: Settings,
    make_builder: Callable[[], WheelBuilder | None] = lambda: None,
) -> Resolution:
    """Resolve what the project requires on `base`; versions of `previous` are kept if possible.

    `entries` are the images of the set: where the project needs another framework, the message
    names one that has it. `make_builder` is called if something has no wheel; without a builder,
    the message says how to bring one. Raises ProjectError for requirements that cannot be read,
    LockError if there is no solution, FetchError if the index fails.
    """
    wanted = collect(project, base.python, base.machine)
    inputs = inputs_of(project, wanted, base_contents(base))
    entries = tuple(entries)
    settings = index_settings(wanted, settings)
    builder = _Late(make_builder)
    wanted = _with_sources(wanted, project, base, previous, settings, builder)
    fitted = _fit(wanted, base, entries)
    resolver = _Resolver(project, base, fitted, previous, entries, settings, builder)
    found, told = _solved(resolver, fitted, base, settings)
    notes = [*fitted.notes, *told]
    wheels = resolver.located(found)
    _check_hashes(wheels, fitted)
    shadowed = resolver.shadowed(found)
    notes += [
        f"{wheel.name} {wheel.version} of the base is replaced by {found[wheel.name].version}"
        for wheel in shadowed
    ]
    notes += builder.made.notes if builder.made is not None else []
    lock = ProjectLock(
        base=base.reference,
        base_digest=base.digest,
        contents=base_contents(base),
        inputs=inputs,
        wheels=wheels,
        shadowed=shadowed,
        python=base.python,
        machine=base.machine,
    )
    return Resolution(lock, tuple(notes), tuple(resolver.older))


def _solved(
    resolver: _Resolver, fitted: Wanted, base: BaseImage, settings: Settings
) -> tuple[dict[str, Package], list[str]]:
    """Resolve, and build what the newest versions need that have no wheel, or need such a one."""
    asked = [*map(Requirement, [*fitted.requirements, *fitted.constraints])]
    there = {(wheel.name, wheel.version) for wheel in base.wheels}
    while True:
        found, notes = resolver.resolve(fitted.requirements), list[str]()
        if resolver.shadowed(found):
            found, notes = resolver.with_dependents(found)
        new = {name: x for name, x in found.items() if (name, str(x.version)) not in there}
        try:
            told = check_prereleases(new, asked, base.devel, settings)
        except NoReleaseError as problem:
            if not resolver.insists(problem):
                raise
        else:
            if not resolver.improves(new):
                return found, [*notes, *told]


def _with_sources(
    wanted: Wanted,
    project: Project,
    base: BaseImage,
    previous: ProjectLock | None,
    settings: Settings,
    builder: _Late,
) -> Wanted:
    """Require the wheels of repositories and archives: those that are locked, or built now."""
    target, requirements = environment(base.python, base.machine), list(wanted.requirements)
    before = {item.source: item for item in (() if previous is None else previous.wheels)}
    for source in wanted.sources:
        if source.marker and not Marker(source.marker.lstrip(" ;")).evaluate(target):
            continue
        text = str(source)
        known = before.get(text)
        is_kept = known is not None and is_locked_file(project, known)
        if known is not None and is_kept and not has_changed(project, source, known):
            path = str(known.path)
        elif (able := builder.get()) is not None:
            made = able.direct(source.place, text, source.name, settings)
            path = f"{BUILT}/{made.name}"
        else:
            shown = redact(source.place.removeprefix(LOCAL))
            advice = wheel_advice(shlex.quote(redact(text.replace(LOCAL, "./"))), base.devel)
            raise LockError(f"{source.where}: {shown} is not a wheel; {advice}")
        name = parse_wheel_filename(path.rpartition("/")[2])[0]
        requirements.append(f"{name}{source.extras} @ {LOCAL}{quote(path)}{source.marker}")
    return replace(wanted, requirements=requirements)


def images_with(
    requirement: Requirement, base: BaseImage, entries: Iterable[CatalogueEntry]
) -> list[str]:
    """Return the tags of the set's images that have a framework as required, the newest first.

    Those of the base's machine, Python and flavour come first.
    """
    name = canonicalize_name(requirement.name)
    found = []
    for entry in entries:
        version = frameworks_of(entry).get(name)
        if version is None or entry.special or not requirement.specifier.contains(version, True):
            continue
        like = (
            ARCHITECTURES[entry.architecture].machine == base.machine, entry.python == base.python,
            f"-{entry.flavour}" in f"{base.reference}-runtime",
        )  # fmt: skip
        found.append(((like, "+" not in entry.framework, Version(version)), entry.tags[0]))
    return [tag for _, tag in sorted(found, reverse=True)]


def frameworks_of(entry: CatalogueEntry) -> dict[str, str]:
    """Return distribution -> version of an image's frameworks."""
    pairs = zip(entry.framework.split("+"), entry.framework_version.split("+"), strict=True)
    return {FRAMEWORKS[name].wheel if name in FRAMEWORKS else name: v for name, v in pairs}


def _fit(wanted: Wanted, base: BaseImage, entries: Sequence[CatalogueEntry]) -> Wanted:
    """Express the requirements in the base's terms; raise LockError if they contradict it."""
    own = bool(wanted.indexes or wanted.index or wanted.find_links)
    fitter = _Fitter(base, entries, own=own)
    requirements = [fitter.fit(line, "the project requires") for line in wanted.requirements]
    constraints = [fitter.fit(line, "a constraint says") for line in wanted.constraints]
    constraints += list(fitter.pins(wanted.locked))
    if fitter.problems:
        raise LockError(
            f"the project does not fit {base.reference}:"
            + "".join(f"\n  {problem}" for problem in dict.fromkeys(fitter.problems))
        )
    return replace(
        wanted,
        requirements=requirements,
        constraints=constraints,
        notes=[*wanted.notes, *dict.fromkeys(fitter.notes)],
    )


class _Fitter:
    """Compares requirements with what a base fixes."""

    def __init__(self, base: BaseImage, entries: Sequence[CatalogueEntry], *, own: bool) -> None:
        """Prepare; `own`: the project has sources of its own, which may have other builds."""
        self._own = own
        self.problems: list[str] = []
        self.notes: list[str] = []
        self._base = base
        self._entries = entries
        self._target = environment(base.python, base.machine)
        self._versions = {wheel.name: wheel.version for wheel in base.wheels}
        self._bounds: dict[str, Requirement] = {
            canonicalize_name(bound.name): bound for bound in map(Requirement, base.constraints)
        }

    def fit(self, line: str, said: str) -> str:
        """Return the line without a local version that the base's build answers."""
        try:
            wanted = Requirement(line)
        except InvalidRequirement as error:
            raise LockError(f"{line!r} is not a PEP 508 requirement") from error
        name = canonicalize_name(wanted.name)
        if wanted.url is not None or not self._holds(wanted):
            return line
        relaxed = SpecifierSet(",".join(self._relax(name, one) for one in wanted.specifier))
        if relaxed != wanted.specifier:
            there = self._versions.get(name)
            taken = f"{name}{relaxed} is taken" if there is None else f"the base has {name} {there}"
            self.notes.append(f"{line}: {taken}")
            wanted.specifier = relaxed
        if self._is_fixed(name) and not relaxed.contains(self._versions[name], prereleases=True):
            self._conflict(f"{said} {line}", wanted)
        return str(wanted)

    def pins(self, locked: Iterable[Requirement]) -> Iterator[str]:
        """Yield uv.lock's versions as constraints; those that the base fixes must agree."""
        for pin in locked:
            name = canonicalize_name(pin.name)
            (version,) = (one.version for one in pin.specifier)
            fixed = self._is_fixed(name)
            if fixed and Version(self._versions[name]).public == Version(version).public:
                continue
            if _SET.fullmatch(name):  # of another build of the framework, which is judged itself
                continue
            bound = self._bounds.get(name)
            if bound is not None and not bound.specifier.contains(version, prereleases=True):
                wanted = Requirement(f"{name}=={Version(version).public}")
                self._conflict(f"uv.lock has {name} {version}", wanted)
                continue
            yield self.fit(str(pin), "uv.lock says")

    def _conflict(self, said: str, wanted: Requirement) -> None:
        name = canonicalize_name(wanted.name)
        has = f"the image fixes {self._bounds[name]}"
        frameworks = {one for entry in self._entries for one in frameworks_of(entry)}
        if name not in frameworks:
            self.problems.append(f"{said}, but {has}")
            return
        found = images_with(wanted, self._base, self._entries)
        if found:
            hint = f"with image = {found[0]!r} in the table it fits".replace("'", '"')
        else:
            hint = f"no image of the set has {wanted}"
        self.problems.append(f"{said}, but {has}; {hint}")

    def _relax(self, name: str, one: Specifier) -> str:
        """Drop `+cu121` of a pin: the base's build, or the index's, is for the base's CUDA."""
        if one.operator not in ("==", "===") or "+" not in one.version:
            return str(one)
        public, _, local = one.version.partition("+")
        there = name in self._versions and Version(self._versions[name]).public == public
        build = _BUILD.fullmatch(local) and (self._is_fixed(name) or not self._own)
        return f"=={public}" if there or build else str(one)

    def _is_fixed(self, name: str) -> bool:
        bound = self._bounds.get(name)
        return bound is not None and any(one.operator == "==" for one in bound.specifier)

    def _holds(self, wanted: Requirement) -> bool:
        try:
            return wanted.marker is None or wanted.marker.evaluate(self._target)
        except ValueError as error:  # of values that cannot be compared
            raise LockError(f"{wanted}: its marker cannot be judged: {error}") from error


class _Resolver:
    """Asks uv, with the base's constraints, overrides and preferences."""

    def __init__(
        self,
        project: Project,
        base: BaseImage,
        wanted: Wanted,
        previous: ProjectLock | None,
        entries: Sequence[CatalogueEntry],
        settings: Settings,
        builder: _Late,
    ) -> None:
        self._builder = builder
        self._built: set[str] = set()  # what was built by name
        # Releases that uv would not take: it would take a pre-release, or one of years ago.
        self._insisted: list[str] = []
        self._judged: set[str] = set()  # names of which a newer version was tried
        # name -> why something for a newer version was not built, and that version
        self._why: dict[str, tuple[str, str]] = {}
        self.older: list[Older] = []
        self._project = project
        self._base = base
        self._wanted = wanted
        self._entries = entries
        self._settings = settings
        self._there = {wheel.name: wheel for wheel in base.wheels}
        before = () if previous is None else previous.wheels
        self._before = {item.wheel.sha256: item for item in before}
        self._preferences = (
            *((wheel.name, wheel.version) for wheel in base.wheels),
            *((item.wheel.name, item.wheel.version) for item in before),
        )
        self._secrets = _secrets([settings.index_url or "", *(url for _, url in settings.indexes)])
        self._indexes = own_indexes(settings)

    def resolve(self, requirements: Iterable[str]) -> dict[str, Package]:
        """Return the solution by name; raise LockError with what can be done if there is none."""
        request = _bounded(self._request(requirements), self._insisted)
        found: dict[str, Package] = {one.name: one for one in self._answer(request)}
        self._check_fixed(found)
        return found

    def _request(self, requirements: Iterable[str]) -> ResolutionRequest:
        folder = self._project.folder.resolve()
        return ResolutionRequest(
            requirements=(*self._options(), *(_absolute(line, folder) for line in requirements)),
            python=self._base.python,
            platform=self._base.platform,
            constraints=(*self._base.constraints, *self._wanted.constraints),
            overrides=(*self._base.overrides, *self._wanted.overrides),
            preferences=self._preferences,
            prerelease="if-necessary-or-explicit",  # those that were taken are judged
            indexes=self._indexes,
            explicit=explicit_indexes(self._settings),
        )

    def _answer(self, request: ResolutionRequest) -> tuple[Package, ...]:
        """Ask uv; build what has no wheel if there is a solution then."""
        while True:
            try:
                return self._ask(request)
            except LockError as problem:
                pins, remains = self._missing(problem, request)
                if remains is None and self._builds(pins):
                    request = _linked(request, self._project.folder.resolve() / BUILT)
                    continue
                shown = str(remains or problem)
                raise LockError("\n".join((shown, *self._hints(shown, pins)))) from problem

    def _ask(self, request: ResolutionRequest) -> tuple[Package, ...]:
        name = self._project.table.name
        return compile_requirements(request, name, self._settings, _ADVICE, direct=True)

    def _direct(self) -> list[Requirement]:
        """Return what the project requires itself, and an index has."""
        return [one for one in map(Requirement, self._wanted.requirements) if one.url is None]

    def _missing(
        self, problem: LockError, request: ResolutionRequest
    ) -> tuple[list[str], LockError | None]:
        """Return the pins of all that must be built, or else what is wrong even then."""
        direct = self._direct()
        bounded = _bounded(request, map(_as_constraint, direct))
        least = self._newest([one.name for one in direct], bounded, sources=False)
        try:
            found = self._imagined(problem, request, least)
        except LockError as remains:
            return sorted(set(_NO_WHEEL.findall(str(remains)))), remains
        return [*_stand_ins(found)], None

    def _imagined(
        self, problem: LockError, request: ResolutionRequest, least: Mapping[str, str]
    ) -> list[Package]:
        """Return the solution that there is if what `problem` names had wheels; else LockError.

        uv names one at a time, so each is given wheels that stand in for its sources: for those of
        the version in `least` and newer ones where that names it. What a source needs is not
        known, so an old one would fit where a newer wheel does not.
        """
        names: set[str] = set()
        with tempfile.TemporaryDirectory(prefix="wheelyard-stand-ins-") as made:
            folder = Path(made).resolve()
            request = _linked(request, folder)
            while new := set(_NO_WHEEL.findall(str(problem))) - names:
                if _OTHER_PYTHON.search(str(problem)):
                    break
                names |= new
                for name in new:
                    sdists = list_sdists(name, self._settings)
                    if from_ := least.get(canonicalize_name(name)):
                        sdists = [one for one in sdists if one[0] >= Version(from_)]
                    write_stand_ins(folder, name, sdists)
                try:
                    return sorted(self._ask(request), key=lambda one: one.name)
                except LockError as next_one:
                    problem = next_one
        raise problem

    def insists(self, problem: NoReleaseError) -> bool:
        """Build a release, and take it from now on; False where nothing can be built.

        Raises LockError for a build that fails, after what can be done instead.
        """
        try:
            able = self._builds([problem.newest])
        except LockError as failed:
            raise LockError(f"{problem}\n{failed}") from failed
        if able:
            self._insisted.append(problem.newest)
        return able

    def improves(self, found: dict[str, Package]) -> bool:
        """Take a newer version of something from now on, building what it needs; False if none is.

        `older` has what stays older then, and why: of distributions that the project requires
        itself, and of those that are older for want of a wheel.
        """
        kept = {(name, version) for name, version in self._preferences}
        names = [
            name
            for name, package in found.items()
            if package.archive is None
            and name not in self._there
            and (name, str(package.version)) not in kept
        ]
        if not names:
            return False
        direct = self._direct()
        asked: set[str] = {canonicalize_name(one.name) for one in direct}
        request = self._request(self._wanted.requirements)
        now = {name: found[name].version for name in names}
        late, far = self._late(now, _bounded(request, map(_as_constraint, direct)), asked)
        for name in sorted(late.keys() - self._judged, key=lambda one: (one not in asked, one)):
            self._judged.add(name)
            held = ">=" if name in asked else "=="
            rest = [f"{one}{held}{now[one]}" for one in sorted(asked & now.keys() - {name})]
            above = f"{name}>{now[name]}"
            if self._rises(
                name, _bounded(request, (*self._insisted, *rest, above)), own=name in asked
            ):
                return True
        for name, version in late.items():
            why, possible = self._why.get(name, ("", None))
            if not why and name in asked & far:
                why = self._why_not(request, f"{name}=={version}")
            if why:
                self.older.append(Older(name, str(now[name]), version, why, possible))
        return False

    def _late(
        self, now: dict[str, Version | None], request: ResolutionRequest, asked: set[str]
    ) -> tuple[dict[str, str], set[str]]:
        """Return the newest versions of what may be older for want of a wheel; and what is far off.

        Most of what is older is so for the bounds of another distribution, which takes no long
        resolutions to find out.
        """
        newest = self._newest(now, request, sources=True)
        own = {one: now[one] for one in asked & now.keys()}
        late, patched = behind(now, newest), behind(own, newest, patches=True)
        if not late and not patched:
            return late, set()
        far = {name for name, version in late.items() if is_far(now[name], version)}
        wheels = self._newest(late | patched, request, sources=False)
        sourced = late.keys() - wheels.keys()
        sourced |= behind({one: Version(x) for one, x in wheels.items()}, late).keys()
        # A patch release of sources alone is near enough to the wheel of the one before it.
        patched = {
            name: version
            for name, version in behind(own, wheels, patches=True).items()
            if name not in late
        }
        late |= patched
        lacking = (
            one
            for one in (far - asked - sourced) | patched.keys()
            if self._lacks(f"{one}=={late[one]}", request)
        )
        return {one: late[one] for one in sorted(sourced | far & asked | {*lacking})}, far

    def _newest(
        self, names: Iterable[str], request: ResolutionRequest, *, sources: bool
    ) -> dict[str, str]:
        try:
            name = self._project.table.name
            return newest_versions(names, request, name, self._settings, sources=sources)
        except LockError:  # without their dependencies, which an override may rely on
            return {}

    def _lacks(self, pin: str, request: ResolutionRequest) -> bool:
        """Tell whether a version needs what has no wheel, whatever else is required."""
        options = (line for line in request.requirements if line.startswith("--"))
        try:
            self._ask(replace(request, requirements=(*options, pin), constraints=(), overrides=()))
        except LockError as problem:
            return _NO_WHEEL.search(str(problem)) is not None
        return False

    def _rises(self, name: str, request: ResolutionRequest, *, own: bool) -> bool:
        """Solve a request for something newer, building what that needs; tell if it was solved."""
        try:
            solution: Iterable[Package] = self._ask(request)
            if not own:  # other distributions would be older for it
                return False
        except LockError as problem:
            wheels = self._newest([name], request, sources=False)
            try:
                solution = self._imagined(problem, request, wheels)
            except LockError:
                return False
        (version,) = (one.version for one in solution if one.name == name)
        pin, pins = f"{name}=={version}", [*_stand_ins(solution)]
        missing = _lacking(pin, pins)
        if pins and self._builder.get() is None:
            advice = wheel_advice(shlex.join(pins), self._base.devel)
            self._why[name] = f"{missing}; {advice}", str(version)
            return False
        try:
            self._answer(_bounded(request, [pin]))
        except LockError as failed:
            self._why[name] = f"{missing}: {failed}", str(version)
            return False
        self._insisted.append(pin)
        return True

    def _why_not(self, request: ResolutionRequest, pin: str) -> str:
        """Say why there is no solution with a version."""
        request = _bounded(request, [pin])
        try:
            self._ask(request)
        except LockError as problem:
            found = (self._framework_hint(name, str(problem)) for name in self._frameworks())
            return "; ".join((_reason(problem), *chain(*found)))
        return "other requirements would be older then"

    def _builds(self, pins: Iterable[str]) -> bool:
        """Build wheels of source distributions; False if there is nothing new to build."""
        new = [pin for pin in pins if pin not in self._built]
        if not new or (builder := self._builder.get()) is None:
            return False
        for pin in new:
            builder.named(pin, self._settings)
            self._built.add(pin)
        return True

    def with_dependents(self, found: dict[str, Package]) -> tuple[dict[str, Package], list[str]]:
        """Resolve again with the rest of the base, some of which may need what is replaced."""
        rest = [wheel.name for wheel in self._base.wheels if wheel.name not in found]
        try:
            whole = self.resolve((*self._wanted.requirements, *rest))
        except LockError as problem:
            told = f"what is replaced may break other parts of the base, which were kept: {problem}"
            return found, [told]
        moved = {
            name: package
            for name, package in whole.items()
            if name in found
            or name not in self._there
            or str(package.version) != self._there[name].version
        }
        return moved, []

    def shadowed(self, found: dict[str, Package]) -> tuple[LockedWheel, ...]:
        """Return the base's wheels of which the project has another version."""
        return tuple(
            sorted(
                (
                    wheel
                    for wheel in self._base.wheels
                    if wheel.name in found and str(found[wheel.name].version) != wheel.version
                ),
                key=lambda wheel: wheel.name,
            )
        )

    def located(self, found: dict[str, Package]) -> tuple[ProjectWheel, ...]:
        """Pin each distribution to one file; the base's own file for the same version."""
        wheels, lost = [], []
        for name, package in sorted(found.items()):
            base = self._there.get(name)
            if base is None or base.version != str(package.version) or package.archive:
                wheels.append(self._located(package))
            elif base.sha256 == first_wheel(package).hashes["sha256"]:
                url = _public(wheel_url(first_wheel(package)), self._secrets)
                wheels.append(ProjectWheel(base, url))
            else:  # the index got another file since
                lost.append(base)
        if lost:
            places = locate(lost, self._base.python, self._settings, self._indexes)
            wheels += [
                ProjectWheel(wheel, _public(place.url, self._secrets))
                for wheel, place in zip(lost, places, strict=True)
            ]
        return tuple(sorted(wheels, key=lambda item: item.wheel.name))

    def _located(self, package: Package) -> ProjectWheel:
        file = package.archive or first_wheel(package)
        where = file.url or file.path or ""
        filename = unquote(urlsplit(where).path.rpartition("/")[2])
        local = file.path is not None or where.startswith("file:")
        name, version, sha256 = package.name, str(package.version), file.hashes["sha256"]
        if local:
            path = Path(url2pathname(urlsplit(where).path) if where.startswith("file:") else where)
            wheel = LockedWheel(name, version, filename, sha256, path.stat().st_size)
            relative = os.path.relpath(path.resolve(), self._project.folder.resolve())
            made = ProjectWheel(wheel, path=PurePosixPath(relative).as_posix())
            return self._with_origin(made)
        size = file.size if file.size is not None else wheel_size(file, self._settings)
        wheel = LockedWheel(name, version, filename, sha256, size)
        return ProjectWheel(wheel, url=_public(where, self._secrets))

    def _with_origin(self, item: ProjectWheel) -> ProjectWheel:
        """Say what a wheel was built of, now or before."""
        sha256 = item.wheel.sha256
        builder = self._builder.made
        if builder is not None and (origin := builder.origins.get(sha256)):
            return replace(item, source=origin.source, revision=origin.revision)
        if (known := self._before.get(sha256)) is not None:
            return replace(item, source=known.source, revision=known.revision)
        return item

    def _options(self) -> Iterator[str]:
        built = self._project.folder.resolve() / BUILT
        if built.is_dir():
            yield f"--find-links {built.as_uri()}"
        for place in self._wanted.find_links:
            if "://" in place:
                yield f"--find-links {expanded(place)}"
                continue
            folder = (self._project.folder / place).resolve()
            if not folder.is_dir():
                raise LockError(f"find-links: {folder} is not a folder")
            yield f"--find-links {folder.as_uri()}"

    def _check_fixed(self, found: dict[str, Package]) -> None:
        """Require the base's own builds of what makes it: an index may have others."""
        for line in self._base.constraints:
            name = canonicalize_name(Requirement(line).name)
            base, package = self._there.get(name), found.get(name)
            if "==" not in line or base is None or package is None:
                continue
            if str(package.version) != base.version or package.archive is not None:
                raise LockError(
                    f"the project's own source has {name} {package.version}, another build than "
                    f"the base's {base.version}; leave {name} to the base: remove that source for "
                    "it (an index line, or `@ ...`)"
                )

    def _hints(self, problem: str, pins: Sequence[str]) -> Iterator[str]:
        """Say what helps against the usual reasons for which there is no solution."""
        if _OTHER_PYTHON.search(problem):
            yield (
                f"a distribution has no wheel for this Python ({self._base.python}, Linux "
                f"{self._base.machine}): "
                "ask for another version of it, or take an image with another Python (`wheelyard "
                "plan`)"
            )
        elif pins:
            yield (
                f"no wheel for Python {self._base.python} on Linux {self._base.machine}: "
                f"{', '.join(pins)}; ask for a version that has one. Otherwise, "
                f"{wheel_advice(shlex.join(pins), self._base.devel)}"
            )
        for name, url in explicit_indexes(self._settings):
            if f"{name} was not found in the package registry" in problem:
                yield (
                    f"{name} is taken from {redact(url)} alone (tool.uv.sources): it is not there, "
                    f"or a login is needed; {LOGIN_ADVICE}"
                )
        for name in self._frameworks():
            yield from self._framework_hint(name, problem)

    def _frameworks(self) -> set[str]:
        return {one for entry in self._entries for one in frameworks_of(entry)}

    def _framework_hint(self, name: str, problem: str) -> Iterator[str]:
        base = self._there.get(name)
        for text in dict.fromkeys(re.findall(rf"\b{name}((?:[<>=!~]=?[\d.]+,?)+)", problem)):
            try:
                asked = Requirement(f"{name}{text.rstrip(',')}")
            except (InvalidRequirement, InvalidSpecifier):
                continue
            if base is None or asked.specifier.contains(base.version, prereleases=True):
                continue
            if found := images_with(asked, self._base, self._entries):
                yield f'{asked}: an image of the set has it: image = "{found[0]}"'


def _lacking(pin: str, pins: Sequence[str]) -> str:
    needs = "" if [*pins] == [pin] else f" needs {' and '.join(pins)}, which"
    return f"{pin}{needs} has no wheel that fits"


def _linked(request: ResolutionRequest, folder: Path) -> ResolutionRequest:
    own = f"--find-links {folder.as_uri()}"
    return replace(request, requirements=(own, *request.requirements))


def _bounded(request: ResolutionRequest, constraints: Iterable[str]) -> ResolutionRequest:
    return replace(request, constraints=(*request.constraints, *constraints))


def _as_constraint(wanted: Requirement) -> str:
    marker = f" ; {wanted.marker}" if wanted.marker else ""
    return f"{wanted.name}{wanted.specifier}{marker}"


def _stand_ins(found: Iterable[Package]) -> Iterator[str]:
    return (f"{one.name}=={one.version}" for one in found if is_stand_in(one))


def _reason(problem: LockError) -> str:
    """Return uv's reason on one line."""
    found = re.search(r"cause: (.+?unsatisfiable)\b", str(problem), re.DOTALL)
    text = " ".join((found[1] if found else str(problem)).split())
    return text if len(text) <= _REASON_MAX else f"{text[:_REASON_MAX]}..."


def _secrets(urls: Iterable[str]) -> tuple[str, ...]:
    """Return what looks like a token in the paths of the indexes' addresses."""
    paths = [(urlsplit(url).path, urlsplit(redact(url)).path) for url in urls]
    return tuple(
        part
        for whole, shown in paths
        for part, kept in zip(whole.split("/"), shown.split("/"), strict=False)
        if part != kept
    )


def _public(url: str, secrets: Iterable[str]) -> str:
    """Return an address without login; a token in it is replaced by `***`."""
    parts = urlsplit(url)
    path = parts.path
    for secret in secrets:
        path = path.replace(secret, "***")
    return urlunsplit(
        (parts.scheme, parts.netloc.rpartition("@")[2], path, "***" if parts.query else "", "")
    )


def _check_hashes(wheels: Iterable[ProjectWheel], wanted: Wanted) -> None:
    """Require one of the hashes that a requirements file pins."""
    for item in wheels:
        allowed = wanted.hashes.get(item.wheel.name)
        of_source = (item.revision or "").removeprefix("sha256:")
        if allowed is not None and not {item.wheel.sha256, of_source} & allowed:
            raise LockError(
                f"{item.wheel.filename} has a hash that the requirements file does not list: it "
                "pins files for another Python or platform, or the file was replaced; write its "
                "hashes again"
            )


def _absolute(line: str, folder: Path) -> str:
    """Name a wheel of the project by its address on this machine, for uv."""
    head, found, rest = line.partition(f"@ {LOCAL}")
    if not found:
        return _expanded(line)
    place, marked, marker = rest.partition(" ;")
    return f"{head}@ {(folder / unquote(place)).resolve().as_uri()}{marked}{marker}"


def _expanded(line: str) -> str:
    return expanded(line) if "@ http" in line else line
