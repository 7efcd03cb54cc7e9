"""What installing a wheel means: which member goes where, and which files are generated.

The rules are PyPA's (binary distribution format, recording installed projects, entry points);
`installer` and `packaging` supply them. Nothing here touches a file system.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from installer.records import InvalidRecordEntry, parse_record_file
from installer.scripts import Script
from installer.utils import parse_entrypoints, parse_metadata_file
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from builder.errors import WheelError

if TYPE_CHECKING:
    from builder.assemble.wheel import Member, Wheel

PREFIX = "opt/venv"
INSTALLER = b"wheelyard\n"
_SHEBANG_MAX = 1 << 20  # bytes; a "script" above this is a program


@dataclass(frozen=True, slots=True)
class Target:
    """One installed file: a member as it is, or generated content."""

    path: str  # relative to the root of the image
    executable: bool
    member: Member | None
    content: bytes = b""


def site_packages(python: str) -> str:
    """Where modules go, relative to the root of the image."""
    return f"{PREFIX}/lib/python{python}/site-packages"


def plan_install(wheel: Wheel, name: str, version: str, python: str) -> list[Target]:
    """Every file of the installed distribution, RECORD and INSTALLER included.

    Raises WheelError when the wheel's metadata is missing, unsupported, or another
    distribution's than `name` and `version` say.
    """
    dist_info = _dist_info(wheel, name, version)
    _check_format(wheel, dist_info)
    targets = [
        target
        for member in wheel.members.values()
        if member.name not in _regenerated(dist_info) and not _is_stale_bytecode(member, wheel)
        for target in _place(wheel, member, dist_info, python)
    ]
    targets += _entry_points(wheel, dist_info)
    site = site_packages(python)
    targets.append(Target(f"{site}/{dist_info}/INSTALLER", False, None, INSTALLER))
    targets = _without_twins(targets, wheel)
    record = _record(wheel, dist_info, targets, site)
    return [*targets, Target(f"{site}/{dist_info}/RECORD", False, None, record)]


def _regenerated(dist_info: str) -> set[str]:
    names = ("RECORD", "RECORD.jws", "RECORD.p7s", "INSTALLER", "direct_url.json", "REQUESTED")
    return {f"{dist_info}/{name}" for name in names}


def _is_stale_bytecode(member: Member, wheel: Wheel) -> bool:
    """Bytecode that slipped into the wheel beside its source: the image's Python makes its own."""
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
    text = wheel.read(member).decode("utf-8", "replace")
    wheel_version = parse_metadata_file(text).get("Wheel-Version", "")
    if wheel_version.split(".")[0] != "1":
        raise WheelError(f"{wheel.path.name}: wheel format {wheel_version!r} is not supported")


def _place(wheel: Wheel, member: Member, dist_info: str, python: str) -> list[Target]:
    data_folder = dist_info.removesuffix(".dist-info") + ".data/"
    site = site_packages(python)
    if not member.name.startswith(data_folder):
        return [Target(f"{site}/{member.name}", member.executable, member)]
    scheme, _, rest = member.name.removeprefix(data_folder).partition("/")
    project = dist_info.removesuffix(".dist-info").rpartition("-")[0]
    roots = {
        "purelib": site,
        "platlib": site,
        "scripts": f"{PREFIX}/bin",
        "headers": f"{PREFIX}/include/site/python{python}/{project}",
        "data": PREFIX,
    }
    if not rest or scheme not in roots:
        raise WheelError(f"{wheel.path.name}: unknown scheme in {member.name}; refused")
    path = f"{roots[scheme]}/{rest}"
    if scheme != "scripts":
        return [Target(path, member.executable, member)]
    if member.size <= _SHEBANG_MAX and (script := wheel.read(member)).startswith(b"#!python"):
        first, _, body = script.partition(b"\n")
        gui = first.startswith(b"#!pythonw")
        arguments = first[len(b"#!pythonw" if gui else b"#!python") :]
        content = f"#!/{PREFIX}/bin/python".encode() + arguments + b"\n" + body
        return [Target(path, True, None, content)]
    return [Target(path, True, member)]


def _entry_points(wheel: Wheel, dist_info: str) -> list[Target]:
    member = wheel.members.get(f"{dist_info}/entry_points.txt")
    if member is None:
        return []
    text = wheel.read(member).decode("utf-8")
    targets = []
    for name, module, attribute, section in parse_entrypoints(text):
        if "/" in name or name in {".", ".."}:
            raise WheelError(f"{wheel.path.name}: entry point {name!r} leaves bin/; refused")
        script = Script(name, module, attribute, section)
        file_name, content = script.generate(f"/{PREFIX}/bin/python", "posix")
        targets.append(Target(f"{PREFIX}/bin/{file_name}", True, None, content))
    return targets


def _without_twins(targets: list[Target], wheel: Wheel) -> list[Target]:
    """One target a path; an entry point wins over a script of the same name, as in pip."""
    chosen: dict[str, Target] = {}
    for target in targets:
        twin = chosen.get(target.path)
        if twin and twin.member and target.member and twin.member.crc != target.member.crc:
            raise WheelError(
                f"{wheel.path.name}: {twin.member.name} and {target.member.name} both install to "
                f"{target.path}, with different content"
            )
        chosen[target.path] = target
    return list(chosen.values())


def _record(wheel: Wheel, dist_info: str, targets: list[Target], site: str) -> bytes:
    known = _wheel_record(wheel, dist_info)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for target in sorted(targets, key=lambda t: t.path):
        if target.member is None:
            digest, size = _record_hash(target.content), str(len(target.content))
        else:
            digest, size = known.get(target.member.name, ""), str(target.member.size)
        writer.writerow((_relative(target.path, site), digest, size))
    writer.writerow((f"{dist_info}/RECORD", "", ""))
    return out.getvalue().encode()


def _wheel_record(wheel: Wheel, dist_info: str) -> dict[str, str]:
    """Member -> digest, as the wheel's own RECORD states them."""
    member = wheel.members.get(f"{dist_info}/RECORD")
    if member is None:
        raise WheelError(f"{wheel.path.name}: has no {dist_info}/RECORD; not a wheel")
    lines = wheel.read(member).decode("utf-8").splitlines()
    try:
        return {path: digest for path, digest, _ in parse_record_file(lines)}
    except InvalidRecordEntry as error:
        raise WheelError(f"{wheel.path.name}: RECORD is damaged ({error})") from error


def _record_hash(content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest())
    return "sha256=" + digest.decode().rstrip("=")


def _relative(path: str, site: str) -> str:
    if path.startswith(site + "/"):
        return path[len(site) + 1 :]
    up = "/".join([".."] * (site.count("/") - PREFIX.count("/")))
    return f"{up}/{path.removeprefix(PREFIX + '/')}"
