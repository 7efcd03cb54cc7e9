"""The environment of all templates: Jinja2, sandboxed, where an undefined name is an error."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from pathlib import Path
from traceback import extract_tb
from typing import NoReturn

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from wheelyard.errors import StorageError
from wheelyard.system.packaged import PACKAGED


def find_templates(named: Path | None) -> Path:
    """Find the templates: those of a project that was named, else wheelyard's own.

    Never those of the current folder: what they write is run by hosts.
    """
    ours = (Path(__file__).parents[3], PACKAGED)
    places = ours if named is None else (named, *ours)
    folders = (place / "templates" for place in places if (place / "templates/deploy").is_dir())
    return next(folders, PACKAGED / "templates")


def make_environment(templates: Path) -> Environment:
    """Return the Jinja2 environment of all templates; an undefined name is an error."""
    if not templates.is_dir():
        raise StorageError(f"{templates} is missing: restore it from version control")
    environment = _Environment(
        loader=FileSystemLoader(templates, encoding="utf-8"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters["quoted"] = quoted
    environment.filters["json"] = json.dumps
    environment.filters["word"] = shlex.quote
    environment.filters["json_array"] = _json_array
    return environment


class _Environment(ImmutableSandboxedEnvironment):
    """A sandbox: the project may be a clone of untrusted origin, so a template only writes text."""

    def handle_exception(self, source: str | None = None) -> NoReturn:
        """Name the template that cannot be rendered, and its line."""
        try:
            super().handle_exception(source)
        except TemplateError as error:
            where = [x for x in extract_tb(error.__traceback__) if x.filename.endswith(".j2")]
            line = f"{where[-1].filename}:{where[-1].lineno}" if where else "a template"
            raise StorageError(f"{line} cannot be rendered: {error}; restore it") from error


def quoted(value: str) -> str:
    """Quote a Dockerfile value so that nothing in it is expanded."""
    if "'" not in value:
        return f"'{value}'"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return f'"{escaped}"'


def _json_array(values: Iterable[str]) -> str:
    """Return the exec form of ENTRYPOINT and CMD."""
    return json.dumps(list(values))
