"""uv's workspaces: which folders are members, and where members take distributions from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from wheelyard.errors import ProjectError
from wheelyard.projects.table import PYPROJECT, read_toml

_MEMBERS_MAX = 1000


@dataclass(frozen=True)
class Workspace:
    """The uv workspace that a folder is in; of the folder alone if it is in none."""

    root: Path
    uv: Mapping[str, Any]  # [tool.uv] of the root

    @cached_property
    def members(self) -> dict[str, Path]:
        """Return the folders of its members by the name of the distribution."""
        return {name: folder for folder in self._folders() if (name := _name(folder))}

    def sources(self, uv: Mapping[str, Any]) -> dict[str, Any]:
        """Return where a member with this [tool.uv] takes distributions from, by name."""
        both = {**_table(self.uv.get("sources")), **_table(uv.get("sources"))}
        return {canonicalize_name(str(name)): source for name, source in both.items()}

    def member(self, name: str, where: str) -> Path:
        """Return the folder of a member; raise ProjectError if there is none of that name."""
        found = self.members.get(canonicalize_name(name))
        if found is None:
            listed = ", ".join(sorted(self.members)) or "none"
            raise ProjectError(
                f"{where}.sources: {name} is not a member of the uv workspace of {self.root}; "
                f"its members are: {listed}"
            )
        return found

    def _folders(self) -> Iterator[Path]:
        yield self.root
        table = _table(self.uv.get("workspace"))
        left_out = {path for pattern in _texts(table, "exclude") for path in self._glob(pattern)}
        for pattern in _texts(table, "members"):
            yield from (path for path in self._glob(pattern) if path not in left_out)

    def _glob(self, pattern: str) -> Iterator[Path]:
        try:
            for at, path in enumerate(self.root.glob(pattern)):
                if at == _MEMBERS_MAX:
                    raise ProjectError(
                        f"{self.root / PYPROJECT}: {pattern!r} matches more than {_MEMBERS_MAX} "
                        "members of the workspace"
                    )
                if (path / PYPROJECT).is_file():
                    yield path.resolve()
        except (ValueError, NotImplementedError, IndexError, OSError) as error:
            raise ProjectError(
                f"{self.root / PYPROJECT}: {pattern!r} is not a pattern of folders: {error}"
            ) from error


def find_workspace(folder: Path) -> Workspace:
    """Return the uv workspace that a folder is in; raise ProjectError for a malformed file."""
    folder = folder.resolve()
    for place in (folder, *folder.parents):
        uv = uv_table(place)
        if "workspace" in uv:
            found = Workspace(place, uv)
            if folder == place or folder in found.members.values():
                return found
            break
    return Workspace(folder, uv_table(folder))


def uv_table(folder: Path) -> Mapping[str, Any]:
    """Return [tool.uv] of a folder's pyproject.toml; an empty table if it has none."""
    return _table(_table(_document(folder).get("tool")).get("uv"))


def project_table(folder: Path) -> Mapping[str, Any]:
    """Return [project] of a folder's pyproject.toml; an empty table if it has none."""
    return _table(_document(folder).get("project"))


def _document(folder: Path) -> Mapping[str, Any]:
    path = folder / PYPROJECT
    return read_toml(path) if path.is_file() else {}


def _name(folder: Path) -> str:
    return canonicalize_name(str(project_table(folder).get("name", "")))


def _texts(table: Mapping[str, Any], key: str) -> list[str]:
    found = table.get(key)
    return [str(text) for text in found] if isinstance(found, list) else []


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
