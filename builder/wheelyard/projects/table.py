"""Reads a project's table: `[tool.wheelyard]` of pyproject.toml, or a whole wheelyard.toml."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from packaging.utils import canonicalize_name
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.json_schema import WithJsonSchema
from pydantic_core import ErrorDetails

from wheelyard.errors import ProjectError, did_you_mean
from wheelyard.oci.documents import is_reference
from wheelyard.projects.model import LOCK

PYPROJECT = "pyproject.toml"
OWN = "wheelyard.toml"
_MATRIX = "matrix.yaml"
_LARGEST = 4 << 20  # bytes of a file
_HEADER = re.compile(r"\s*\[\[?\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?")
_KEY = re.compile(r"""\s*["']?([\w.-]+)["']?\s*=""")
_WANTED = {  # what a pattern requires, in words
    "^[a-z0-9][a-z0-9.+-]+$": "a Debian package name",
    "^[A-Za-z_][A-Za-z0-9_]*$": "a variable's name",
    "^/[^\\s:]*$": "an absolute path without blanks or colons, such as /workspace",
}
_SHAPES = {
    "string_type": "text in quotes",
    "tuple_type": "a list",
    "dict_type": "a table",
    "int_type": "a whole number",
    "model_type": "a table",
}


def _command(value: object) -> object:
    """Split a text as a shell would; a list is taken as it is."""
    if not isinstance(value, str):
        return tuple(value) if isinstance(value, list) else value
    try:
        return tuple(shlex.split(value))
    except ValueError as error:
        raise ValueError(f"{value!r} cannot be split into words: {error}") from None


def _repository(text: str) -> str:
    if not is_reference(text) or ":" in text or "@" in text or "." in text.partition("/")[0]:
        raise ValueError(
            f"{text!r} is not a repository below the registry: write lower-case letters, digits "
            "and dashes, such as my-model or team/my-model"
        )
    return text


def _inside(text: str) -> str:
    """Require a file of the project: a lock names nothing that only this machine has."""
    if Path(text).is_absolute() or text.startswith("~"):
        raise ValueError(f"{text!r} must be relative to the project's folder")
    return text


def _links(text: str) -> str:
    return text if re.match(r"https?://", text) else _inside(text)


_Text = Annotated[str, Field(min_length=1)]
_Relative = Annotated[_Text, AfterValidator(_inside)]
_Words = Annotated[
    tuple[str, ...],
    BeforeValidator(_command),
    Field(min_length=1),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
_Debian = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.+-]+$")]
_Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
_Port = Annotated[int, Field(ge=1, le=65535)]
_Folder = Annotated[str, Field(pattern=r"^/[^\s:]*$")]


class Table(BaseModel):
    """The image of one project: what it is based on, and what is added."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=lambda name: name.replace("_", "-"),
        title="wheelyard.toml",
    )

    image: Annotated[
        _Text, Field(description="the base image: a tag (pytorch:2.3.1), id or axis words")
    ]
    name: Annotated[
        str,
        AfterValidator(_repository),
        Field(description="repository to push to (default: the project's name)"),
    ] = ""
    extras: Annotated[
        tuple[_Text, ...], Field(description="of [project.optional-dependencies]")
    ] = ()
    groups: Annotated[tuple[_Text, ...], Field(description="of [dependency-groups]")] = ()
    requirements: Annotated[
        tuple[_Relative, ...], Field(description="requirements files, in pip's format")
    ] = ()
    find_links: Annotated[
        tuple[Annotated[_Text, AfterValidator(_links)], ...],
        Field(description="folders with wheels, or addresses of pages that link to wheels"),
    ] = ()
    packages: Annotated[tuple[_Debian, ...], Field(description="Debian packages")] = ()
    include: Annotated[
        tuple[_Text, ...], Field(description="files that go in although git ignores them")
    ] = ()
    exclude: Annotated[tuple[_Text, ...], Field(description="files that stay out")] = ()
    entrypoint: Annotated[
        _Words | None, Field(description="program that starts the command (default: the image's)")
    ] = None
    command: Annotated[_Words | None, Field(description="what a container runs")] = None
    env: Annotated[dict[_Variable, str], Field(description="environment variables")] = {}
    ports: Annotated[tuple[_Port, ...], Field(description="ports that the command serves")] = ()
    workdir: Annotated[_Folder, Field(description="where code lies and the command starts")] = (
        "/workspace"
    )
    labels: Annotated[dict[_Text, str], Field(description="labels of the image")] = {}


@dataclass(frozen=True, slots=True)
class Project:
    """A folder with a table."""

    folder: Path
    source: Path  # the file that holds the table
    table: Table
    metadata: dict[str, Any]  # [project] of pyproject.toml, unchanged; empty if it has none

    @property
    def lock(self) -> Path:
        """The project's lock."""
        return self.folder / LOCK


def find_project_table(folder: Path) -> Project | None:
    """Return the nearest project upwards; None if there is none, or a matrix.yaml is nearer."""
    for place in (folder, *folder.parents):
        if (place / _MATRIX).is_file():
            return None
        if (found := read_project(place)) is not None:
            return found
    return None


def read_project(folder: Path) -> Project | None:
    """Read the project of exactly this folder; None if it has no table.

    Raises ProjectError, which lists every problem of the table.
    """
    pyproject, own = folder / PYPROJECT, folder / OWN
    text = read_text(pyproject) if pyproject.is_file() else ""
    data = _toml(pyproject, text) if "wheelyard" in text or (text and own.is_file()) else {}
    table = _table_at(data, "tool", "wheelyard", path=pyproject)
    metadata = _table_at(data, "project", path=pyproject) or {}
    if own.is_file():
        if table is not None:
            raise ProjectError(
                f"{folder} has two tables: [tool.wheelyard] in {PYPROJECT}, and {OWN}; keep one"
            )
        source = read_text(own)
        return _project(folder, own, source, _toml(own, source), metadata)
    return None if table is None else _project(folder, pyproject, text, table, metadata)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file of a project; raise ProjectError if it is not one."""
    return _toml(path, read_text(path))


def _project(
    folder: Path, source: Path, text: str, data: dict[str, Any], metadata: dict[str, Any]
) -> Project:
    try:
        # TOML's lists become tuples; nothing else is converted.
        table = Table.model_validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        places = _Lines(text, "" if source.name == OWN else "tool.wheelyard")
        problems = sorted(
            (places.line(detail["loc"]), _dotted(detail["loc"]), _message(detail))
            for detail in error.errors(include_url=False)
        )
        listed = "\n".join(f"{source}:{line}: {at}: {said}" for line, at, said in problems)
        raise ProjectError(listed) from None
    name = table.name or _default_name(folder, metadata, source)
    return Project(folder, source, table.model_copy(update={"name": name}), metadata)


def _default_name(folder: Path, metadata: dict[str, Any], source: Path) -> str:
    named = str(metadata.get("name") or folder.resolve().name)
    name = canonicalize_name(re.sub(r"[^A-Za-z0-9._-]+", "-", named)).strip("-")
    if not name or not is_reference(name):
        raise ProjectError(
            f'{source}: {named!r} gives no name for the image; add a line such as name = "my-model"'
        )
    return name


def read_text(path: Path) -> str:
    """Return the text of a small file of the project; raise ProjectError."""
    try:
        with path.open("rb") as stream:
            data = stream.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise ProjectError(f"{path} is larger than {_LARGEST >> 20} MiB")
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProjectError(f"{path} is not UTF-8 text: {error}") from error
    except OSError as error:
        raise ProjectError(f"{path} cannot be read: {error.strerror}") from error


def _toml(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ProjectError(f"{path} is not valid TOML: {error}") from error


def _table_at(data: dict[str, Any], *keys: str, path: Path) -> dict[str, Any] | None:
    """Return the table at `keys`, or None."""
    for at, key in enumerate(keys, 1):
        if key not in data:
            return None
        data = data[key]
        if not isinstance(data, dict):
            raise ProjectError(f"{path}: {'.'.join(keys[:at])} must be a table")
    return data


class _Lines:
    """The lines of a table's keys, found by their text; tomllib does not tell them."""

    def __init__(self, text: str, table: str) -> None:
        self._lines: dict[str, int] = {}
        section = ""
        for number, line in enumerate(text.splitlines(), 1):
            if header := _HEADER.fullmatch(line):
                section = re.sub(r"[\s\"']", "", header[1])
                self._lines.setdefault(section, number)
            elif key := _KEY.match(line):
                self._lines.setdefault(f"{section}.{key[1]}".removeprefix("."), number)
        self._table = table

    def line(self, path: Sequence[str | int]) -> int:
        """Return the line of a key, or of the nearest table or key above it."""
        names = [*filter(None, [self._table]), *(str(part) for part in path)]
        while names and ".".join(names) not in self._lines:
            names.pop()
        return self._lines.get(".".join(names), 1)


def _dotted(path: Sequence[str | int]) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return "".join(parts).replace(".[key]", "").removeprefix(".") or "table"


def _message(detail: ErrorDetails) -> str:
    """Describe a pydantic error in TOML's terms."""
    given, context, path = detail["input"], detail.get("ctx", {}), detail["loc"]
    match detail["type"]:
        case "extra_forbidden":
            word = str(path[-1]).replace("_", "-")
            return f"unknown key; {did_you_mean(word, sorted(_keys()), 'known keys')}"
        case "missing":
            return (
                'is missing: name the image to build on, such as image = "pytorch:2.3.1" '
                "(`wheelyard pick` finds one for this machine)"
            )
        case "string_pattern_mismatch":
            pattern = str(context.get("pattern"))
            return f"{given!r} must be {_WANTED.get(pattern, f'of the form {pattern}')}"
        case "value_error":
            return str(context.get("error"))
        case "too_short" | "string_too_short":
            return "must not be empty"
        case "greater_than_equal" | "less_than_equal":
            return f"{given} is not a port: write a number from 1 to 65535"
        case kind:
            return f"must be {_SHAPES.get(kind, detail['msg'])}, not {_shape(given)}"


def _keys() -> Iterator[str]:
    for name, field in Table.model_fields.items():
        yield field.alias or name


def _shape(value: object) -> str:
    names: dict[type, str] = {dict: "a table", list: "a list", str: f"the text {value!r}"}
    return names.get(type(value), f"{json.dumps(value, default=str)}")


def json_schema() -> str:
    """Return the JSON schema with which editors complete wheelyard.toml and [tool.wheelyard]."""
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Table.model_json_schema(),
    }
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    print(json_schema(), end="")
