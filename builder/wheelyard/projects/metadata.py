"""A project as an installed distribution: its metadata, launchers, and where its modules are.

It is installed as `pip install --editable` does: the modules stay in the working folder, so a
changed file needs no other layer, and a mounted folder takes its place.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from wheelyard.contract.paths import WHEELYARD
from wheelyard.errors import ProjectError
from wheelyard.images.assemble.accounts import empty_environment
from wheelyard.layers.errors import WheelError
from wheelyard.layers.install import plan_install, record_hash
from wheelyard.layers.layer import Layer, LayerWriter
from wheelyard.layers.wheel import Wheel
from wheelyard.layers.wheels import add_parents

if TYPE_CHECKING:
    from wheelyard.projects.table import Project

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
LOCK = f"{WHEELYARD}/pylock.toml"
_UNKNOWN = "0"  # of a project whose version only its build backend knows


def is_installed(project: Project) -> bool:
    """Tell whether the project has a name to be installed by."""
    return isinstance(project.metadata.get("name"), str)


def write_metadata(blob: Path, project: Project, python: str, lock: bytes) -> Layer:
    """Write the layer of what the environment knows about the project, and of its lock.

    Raises ProjectError for metadata that is not valid.
    """
    environment = empty_environment(python)
    with LayerWriter(blob, packed=True) as writer:
        if lock:
            add_parents(writer, LOCK, environment)
            writer.file(LOCK, lock, 0o644)
        for path, content, executable in _installed(blob, project, python):
            add_parents(writer, path, environment)
            mode = environment.program_mode if executable else environment.file_mode
            writer.file(path, content, mode, 0, environment.gid)
        return writer.finish()


def _installed(blob: Path, project: Project, python: str) -> Iterator[tuple[str, bytes, bool]]:
    """Yield what an installation of the project consists of: path, content, and whether it runs."""
    if not is_installed(project):
        return
    name, version = identity(project)
    dist_info = f"{name}-{version}.dist-info"
    packed = blob.with_name(f"{name}-{version}-py3-none-any.whl")
    packed.write_bytes(_wheel(project, name, version, dist_info))
    environment = empty_environment(python)
    try:
        with Wheel(packed) as wheel:
            for target in plan_install(wheel, name, version, environment):
                content = wheel.read(target.member) if target.member else target.content
                if target.path.endswith(f"{dist_info}/RECORD"):
                    link = json.dumps(_direct_url(project)).encode()
                    path = f"{dist_info}/direct_url.json"
                    yield f"{environment.site_packages}/{path}", link, False
                    content = f"{path},{record_hash(link)},{len(link)}\n".encode() + content
                yield target.path, content, target.executable
    except WheelError as error:
        raise ProjectError(f"{project.source}: [project]: {error}") from error
    finally:
        packed.unlink(missing_ok=True)


def identity(project: Project) -> tuple[str, str]:
    """Return name and version as they are in the names of files."""
    name, version = project.metadata["name"], project.metadata.get("version", _UNKNOWN)
    if not _NAME.fullmatch(name):
        raise ProjectError(f"{project.source}: [project] name = {name!r} is not a valid name")
    try:
        return canonicalize_name(name).replace("-", "_"), str(Version(str(version)))
    except InvalidVersion as error:
        raise ProjectError(f"{project.source}: [project] {error}") from None


def _direct_url(project: Project) -> dict[str, Any]:
    return {"dir_info": {"editable": True}, "url": f"file://{project.table.workdir}"}


def _wheel(project: Project, name: str, version: str, dist_info: str) -> bytes:
    """Make the wheel that an editable build would give, to be installed like every wheel."""
    source = "src" if (project.folder / "src").is_dir() else ""
    files = {
        f"__editable__.{name}.pth": f"{project.table.workdir.rstrip('/')}/{source}".rstrip("/"),
        f"{dist_info}/METADATA": "\n".join(_metadata(project, version)),
        f"{dist_info}/WHEEL": "Wheel-Version: 1.0\nGenerator: wheelyard\nTag: py3-none-any",
        f"{dist_info}/entry_points.txt": "\n".join(_entry_points(project)),
        f"{dist_info}/RECORD": "",
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for path, text in files.items():
            if text or path.endswith("RECORD"):
                archive.writestr(zipfile.ZipInfo(path), f"{text}\n" if text else "")
    return packed.getvalue()


def _metadata(project: Project, version: str) -> Iterator[str]:
    data = project.metadata
    yield "Metadata-Version: 2.1"
    yield f"Name: {data['name']}"
    yield f"Version: {version}"
    if summary := data.get("description"):
        yield f"Summary: {' '.join(str(summary).split())}"
    if python := data.get("requires-python"):
        yield f"Requires-Python: {' '.join(str(python).split())}"
    for text in data.get("dependencies") or ():
        yield f"Requires-Dist: {_requirement(project, text)}"
    for extra, texts in sorted(_table(project, "optional-dependencies").items()):
        yield f"Provides-Extra: {canonicalize_name(extra)}"
        for text in texts:
            yield f"Requires-Dist: {_requirement(project, text, canonicalize_name(extra))}"


def _requirement(project: Project, text: object, extra: str | None = None) -> str:
    try:
        requirement = Requirement(str(text))
    except InvalidRequirement as error:
        raise ProjectError(f"{project.source}: {text!r} is not a requirement: {error}") from None
    if extra is None:
        return str(requirement)
    plain, _, marker = str(requirement).partition(";")
    condition = f'extra == "{extra}"'
    return f"{plain.strip()} ; {f'({marker.strip()}) and ' if marker else ''}{condition}"


def _entry_points(project: Project) -> Iterator[str]:
    groups = {
        "console_scripts": _table(project, "scripts"),
        "gui_scripts": _table(project, "gui-scripts"),
        **_table(project, "entry-points"),
    }
    for group, entries in groups.items():
        if not isinstance(entries, dict):
            raise ProjectError(f"{project.source}: [project.entry-points.{group}] must be a table")
        if entries:
            yield f"[{_line(group)}]"
            yield from (
                f"{_line(name)} = {_line(value)}" for name, value in sorted(entries.items())
            )


def _table(project: Project, key: str) -> Mapping[str, Any]:
    found = project.metadata.get(key) or {}
    if not isinstance(found, dict):
        raise ProjectError(f"{project.source}: [project.{key}] must be a table")
    return found


def _line(text: object) -> str:
    return " ".join(str(text).split())
