"""Installing a wheel: where each member goes, and which files are generated.

The rules are PyPA's (binary distribution format, recording installed projects, entry points);
`installer` and `packaging` supply them. Nothing here touches a file system.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from installer.records import parse_record_file
from installer.scripts import Script
from installer.utils import parse_metadata_file
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from wheelyard.layers.errors import WheelError, unreadable
from wheelyard.layers.toc import parents
from wheelyard.layers.wheel import Member, Wheel, is_plain

_INSTALLER = b"wheelyard\n"
# Bytes; the largest in the wheels used here: 190, 140 thousand, 2.7 thousand.
_WHEEL_MAX, _METADATA_MAX, _ENTRY_POINTS_MAX = 1 << 16, 4 << 20, 1 << 18
_SCRIPTS_MAX = 32 << 20  # bytes of all scripts of a wheel whose first line is changed
_SHEBANG = b"#!python"
_ENTRY_POINT = re.compile(r"([\w.]+)\s*:\s*([\w.]+)\s*(?:\[[^\[\]]*\])?\s*(?:#.*)?")
_WRAPPERS = (".exe", "-script.py", ".pya")  # what setuptools makes of an entry point besides


@dataclass(frozen=True, slots=True)
class Target:
    """One installed file: an unchanged member, or generated content."""

    path: str  # relative to the root of the image
    executable: bool
    member: Member | None
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class Environment:
    """The virtual environment that wheels are installed into."""

    prefix: str  # relative to the root of the file system: "opt/venv"
    python: str  # "3.11"
    kinds: Mapping[str, str]  # path -> kind ("file", "dir", "symlink") of its own entries
    gid: int = 0  # the group of what is installed
    folder_mode: int = 0o755
    file_mode: int = 0o644
    program_mode: int = 0o755

    @property
    def python_path(self) -> str:
        """The absolute path of its interpreter, with which scripts begin."""
        return f"/{self.prefix}/bin/python"

    @property
    def site_packages(self) -> str:
        """The folder of its modules, relative to the root of the file system."""
        return f"{self.prefix}/lib/python{self.python}/site-packages"


def plan_install(wheel: Wheel, name: str, version: str, environment: Environment) -> list[Target]:
    """List every file of the installed distribution, RECORD and INSTALLER included.

    Raises WheelError if the wheel's metadata is missing, unsupported, or belongs to another
    distribution than `name` and `version`, and if the wheel would replace files of the environment
    itself.
    """
    dist_info = _dist_info(wheel, name, version)
    _check_format(wheel, dist_info)
    roots = _roots(name, environment)
    scripts = _entry_points(wheel, dist_info, environment)
    wrappers = {f"{script.path}{ending}" for script in scripts for ending in _WRAPPERS}
    targets: list[Target] = []
    rewritten = 0
    for member in wheel.members.values():
        if member.name in _regenerated(dist_info) or _is_stale_bytecode(member, wheel):
            continue
        target = _place(wheel, member, dist_info, roots, environment)
        rewritten += len(target.content)
        if rewritten > _SCRIPTS_MAX:
            raise WheelError(
                f"{wheel.path.name}: its scripts with {_SHEBANG.decode()} have more than "
                f"{_SCRIPTS_MAX:,} bytes; refused"
            )
        if target.path not in wrappers:
            targets.append(target)
    targets += scripts
    site = environment.site_packages
    targets.append(Target(f"{site}/{dist_info}/INSTALLER", False, None, _INSTALLER))
    targets = _without_duplicates(targets, wheel)
    record = Target(f"{site}/{dist_info}/RECORD", False, None)
    _check_places([*targets, record], wheel, environment)
    return [*targets, replace(record, content=_record(wheel, dist_info, targets, environment))]


def _regenerated(dist_info: str) -> set[str]:
    names = ("RECORD", "RECORD.jws", "RECORD.p7s", "INSTALLER", "direct_url.json", "REQUESTED")
    return {f"{dist_info}/{name}" for name in names}


def _is_stale_bytecode(member: Member, wheel: Wheel) -> bool:
    """Recognise bytecode beside its source; the image's Python compiles that source itself."""
    folder, separator, name = member.name.rpartition("__pycache__/")
    return bool(separator) and f"{folder}{name.split('.')[0]}.py" in wheel.members


def _dist_info(wheel: Wheel, name: str, version: str) -> str:
    folders = {m.split("/", 1)[0] for m in wheel.members if m.endswith(".dist-info/METADATA")}
    folders = {folder for folder in folders if folder.endswith(".dist-info")}
    if len(folders) != 1:
        raise WheelError(f"{wheel.path.name}: expected one .dist-info folder, found {len(folders)}")
    (folder,) = folders
    found_name, _, found_version = folder.removesuffix(".dist-info").rpartition("-")
    try:
        same = canonicalize_name(found_name) == canonicalize_name(name) and Version(
            found_version
        ) == Version(version)
    except InvalidVersion:
        same = False
    if not same:
        raise WheelError(
            f"{wheel.path.name}: holds {found_name} {found_version}, the lock says {name} {version}"
        )
    return folder


def _check_format(wheel: Wheel, dist_info: str) -> None:
    member = wheel.members.get(f"{dist_info}/WHEEL")
    if member is None:
        raise WheelError(f"{wheel.path.name}: has no {dist_info}/WHEEL; not a wheel")
    text = wheel.read(member, _WHEEL_MAX).decode("utf-8", "replace")
    with unreadable(lambda why: WheelError(f"{wheel.path.name}: {member.name} is damaged ({why})")):
        wheel_version = str(parse_metadata_file(text).get("Wheel-Version", ""))
    if wheel_version.split(".")[0] != "1":
        raise WheelError(f"{wheel.path.name}: wheel format {wheel_version!r} is not supported")
    wheel.read(wheel.members[f"{dist_info}/METADATA"], _METADATA_MAX)  # inspection reads it


def _roots(name: str, environment: Environment) -> dict[str, str]:
    """Return where the folders of `.data` go."""
    prefix, site = environment.prefix, environment.site_packages
    headers = f"{prefix}/include/site/python{environment.python}"
    return {
        "": site,
        "purelib": site,
        "platlib": site,
        "scripts": f"{prefix}/bin",
        "headers": f"{headers}/{canonicalize_name(name)}",
        "data": prefix,
    }


def _place(
    wheel: Wheel, member: Member, dist_info: str, roots: dict[str, str], environment: Environment
) -> Target:
    data_folder = dist_info.removesuffix(".dist-info") + ".data/"
    if not member.name.startswith(data_folder):
        return Target(f"{roots['']}/{member.name}", member.executable, member)
    scheme, _, rest = member.name.removeprefix(data_folder).partition("/")
    if not rest or not scheme or scheme not in roots:
        raise WheelError(f"{wheel.path.name}: unknown scheme in {member.name}; refused")
    path = f"{roots[scheme]}/{rest}"
    if scheme != "scripts":
        return Target(path, member.executable, member)
    if not wheel.begins(member, _SHEBANG):
        return Target(path, True, member)
    first, _, body = wheel.read(member).partition(b"\n")
    arguments = first.removeprefix(_SHEBANG).removeprefix(b"w")  # pythonw: for Windows
    shebang = f"#!{environment.python_path}".encode()
    return Target(path, True, None, shebang + arguments + b"\n" + body)


def _entry_points(wheel: Wheel, dist_info: str, environment: Environment) -> list[Target]:
    """Generate the scripts that entry points ask for, as pip does."""
    member = wheel.members.get(f"{dist_info}/entry_points.txt")
    if member is None:
        return []
    content = wheel.read(member, _ENTRY_POINTS_MAX)
    with unreadable(
        lambda why: WheelError(f"{wheel.path.name}: {member.name} is not UTF-8 ({why})")
    ):
        text = content.decode("utf-8")
    scripts: dict[Literal["console", "gui"], dict[str, str]] = {"console": {}, "gui": {}}
    for section, name, value in _pairs(text, wheel):
        if section == "console_scripts":
            scripts["console"][name] = value
        elif section == "gui_scripts":
            scripts["gui"][name] = value
    scripts["console"] = _versioned(scripts["console"], environment.python)
    targets = []
    for kind, values in scripts.items():
        for name, value in values.items():
            match = _ENTRY_POINT.fullmatch(value)
            if match is None:
                raise WheelError(
                    f"{wheel.path.name}: entry point {name!r} is not a callable: {value[:200]!r} "
                    "(module:function); refused"
                )
            if "/" in name or name in {"", ".", ".."} or not is_plain(name):
                raise WheelError(f"{wheel.path.name}: entry point {name!r} leaves bin/; refused")
            script = Script(name, match[1], match[2], kind)
            file_name, content = script.generate(environment.python_path, "posix")
            targets.append(Target(f"{environment.prefix}/bin/{file_name}", True, None, content))
    return targets


def _pairs(text: str, wheel: Wheel) -> Iterator[tuple[str, str, str]]:
    """Yield section, name and value, as pip reads them: lines before the first section are ignored.

    Like pip, it accepts a section or a name twice (the last one counts), and a byte order mark,
    which makes the first line one that precedes every section.
    """
    section = ""
    for line in map(str.strip, text.splitlines()):
        if not line or line.startswith("#"):
            continue
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif section:
            name, equals, value = line.partition("=")
            if not equals:
                raise WheelError(
                    f"{wheel.path.name}: entry_points.txt has a line without `=`: {line[:200]!r}; "
                    "refused"
                )
            yield section, name.strip(), value.strip()


def _versioned(scripts: dict[str, str], python: str) -> dict[str, str]:
    """Name scripts for this Python if a universal wheel names them for its builder's (pip's rule).

    Source: pip, get_console_script_specs.
    """
    major = python.partition(".")[0]
    versioned = dict(scripts)
    for name, stale, names in (
        ("pip", r"pip(\d+(\.\d+)?)?", ("pip", f"pip{major}", f"pip{python}")),
        (
            "easy_install",
            r"easy_install(-\d+\.\d+)?",
            ("easy_install", f"easy_install-{python}"),
        ),
    ):
        if value := scripts.get(name):
            kept = {n: v for n, v in versioned.items() if not re.fullmatch(stale, n)}
            versioned = {**dict.fromkeys(names, value), **kept}
    return versioned


def _without_duplicates(targets: list[Target], wheel: Wheel) -> list[Target]:
    """Keep one target per path; an entry point wins over a script of the same name, as in pip."""
    chosen: dict[str, Target] = {}
    for target in targets:
        first = chosen.get(target.path)
        if first and first.member and target.member and first.member.crc != target.member.crc:
            raise WheelError(
                f"{wheel.path.name}: {first.member.name} and {target.member.name} both install to "
                f"{target.path}, with different content"
            )
        chosen[target.path] = target
    return list(chosen.values())


def _check_places(targets: list[Target], wheel: Wheel, environment: Environment) -> None:
    """Refuse a path with two owners: two files of the wheel, or a file and the environment."""
    owned, prefix = environment.kinds, environment.prefix
    for target in targets:
        if target.path in owned:
            raise WheelError(
                f"{wheel.path.name}: {_origin(target)} would replace /{target.path}, which belongs "
                "to the environment; refused"
            )
    files = {target.path for target in targets}
    seen: set[str] = set()
    for target in targets:
        for folder in parents(target.path.removeprefix(f"{prefix}/")):
            if folder in seen:
                continue
            seen.add(folder)
            path = f"{prefix}/{folder}"
            if path in files or owned.get(path, "dir") != "dir":
                raise WheelError(
                    f"{wheel.path.name}: {_origin(target)} would be below /{path}, which is not "
                    "a folder; refused"
                )


def _origin(target: Target) -> str:
    return target.member.name if target.member else target.path.rpartition("/")[2]


def _record(wheel: Wheel, dist_info: str, targets: list[Target], environment: Environment) -> bytes:
    known = _wheel_record(wheel, dist_info)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for target in sorted(targets, key=lambda t: t.path):
        if target.member is None:
            digest, size = record_hash(target.content), str(len(target.content))
        else:
            digest, size = known.get(target.member.name, ""), str(target.member.size)
        writer.writerow((_relative(target.path, environment), digest, size))
    writer.writerow((f"{dist_info}/RECORD", "", ""))
    return out.getvalue().encode()


def _wheel_record(wheel: Wheel, dist_info: str) -> dict[str, str]:
    """Return member -> digest, as the wheel's own RECORD states them."""
    member = wheel.members.get(f"{dist_info}/RECORD")
    if member is None:
        raise WheelError(f"{wheel.path.name}: has no {dist_info}/RECORD; not a wheel")
    lines = io.TextIOWrapper(io.BytesIO(wheel.read(member)), "utf-8", newline="")
    with unreadable(lambda why: WheelError(f"{wheel.path.name}: RECORD is damaged ({why})")):
        rows = parse_record_file(lines)
        return {path: digest for path, digest, _ in rows if path in wheel.members}


def record_hash(content: bytes) -> str:
    """Return a file's hash as RECORD has it."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest())
    return "sha256=" + digest.decode().rstrip("=")


def _relative(path: str, environment: Environment) -> str:
    prefix, site = environment.prefix, environment.site_packages
    if path.startswith(site + "/"):
        return path[len(site) + 1 :]
    up = "/".join([".."] * (site.count("/") - prefix.count("/")))
    return f"{up}/{path.removeprefix(prefix + '/')}"
