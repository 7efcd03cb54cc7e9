"""Reads matrix.yaml: a Matrix, or all problems at once, each with its path and line."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from wheelyard.errors import MatrixError, did_you_mean
from wheelyard.planning.matrix_model import Matrix
from wheelyard.planning.references import check_references
from wheelyard.planning.yamlmap import Positions, Problem, YamlPath, read_yaml

__all__ = ["Matrix", "load_matrix", "read_matrix"]

_WANTED = {  # what a pattern requires, in words
    "^\\d+\\.\\d+$": "a version of two components, such as 12.1",
    "^[a-z][a-z0-9]*$": "lower-case letters and digits, starting with a letter",
    "^(\\d+\\.\\d+|cpu)$": "a version of two components, such as 12.1, or cpu",
    "^(\\d+(\\.\\d+)?|cpu)$": "a CUDA version such as 12.1 or 13, or cpu",
    "^(\\d+\\.\\d+(\\.\\d+){0,2}|none)$": "a cuDNN version, such as 8.9 or 8.9.7, or none",
    "^[a-z0-9][a-z0-9.+-]+$": "a Debian package name",
    "^(amd64|arm64)$": "an architecture: amd64 or arm64",
}
_SHAPES = {  # what pydantic requires, in YAML's terms
    "string_type": "text",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
}


def load_matrix(path: Path) -> Matrix:
    """Read and check matrix.yaml; raise MatrixError that lists every problem."""
    matrix, positions, problems = read_matrix(path)
    if matrix is None or problems:
        raise MatrixError(positions.report(problems))
    return matrix


def read_matrix(path: Path) -> tuple[Matrix | None, Positions, list[Problem]]:
    """Read matrix.yaml with its problems; the matrix is None if too little of it is valid."""
    data, positions, problems = read_yaml(_text(path), path.name)
    if data is None:
        return None, positions, problems or [Problem((), "the file is empty", 1)]
    matrix, faults = _validate(data, positions)
    problems += faults
    if matrix is not None:
        matrix = matrix.located(positions)
        problems += check_references(matrix)
    return matrix, positions, problems


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise MatrixError(
            f"{path}: no such file; run inside a Wheelyard project or name one with --project"
        ) from None
    except (OSError, UnicodeDecodeError) as problem:
        raise MatrixError(f"{path}: cannot be read as UTF-8 text ({problem})") from problem


def _validate(data: object, positions: Positions) -> tuple[Matrix | None, list[Problem]]:
    """Validate; on errors repair what is possible, so that later checks still see the rest."""
    try:
        return Matrix.model_validate(data), []
    except ValidationError as error:
        details = error.errors(include_url=False)
    problems = [_problem(detail, positions) for detail in details]
    for detail in details:
        _repair(data, detail, positions)
    try:
        return Matrix.model_validate(data), problems
    except ValidationError:
        return None, problems


def _repair(data: object, detail: ErrorDetails, positions: Positions) -> None:
    """Read an unquoted version as the text that was written; drop any other invalid key.

    A list keeps its items: otherwise the paths of the later ones would be wrong.
    """
    *above, last = detail["loc"] or ("",)
    try:
        place: Any = data
        for part in above:
            place = place[part]
        if detail["type"] == "string_type" and detail["loc"] in positions.texts:
            place[last] = positions.texts[detail["loc"]]
        elif isinstance(place, dict):
            del place[last]
    except (KeyError, IndexError, TypeError):
        return  # the error is about something that is missing


def _problem(detail: ErrorDetails, positions: Positions) -> Problem:
    """Describe a pydantic error in the file's terms."""
    path = tuple(part for part in detail["loc"] if part != "[key]")
    return Problem(path, _message(detail, path, positions))


def _message(detail: ErrorDetails, path: YamlPath, positions: Positions) -> str:
    given, context = detail["input"], detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            known = sorted(_keys_at(path[:-1]))
            return f"unknown key; {did_you_mean(str(path[-1]), known, 'known here')}"
        case "missing":
            return "is missing"
        case "string_type" if isinstance(given, int | float) and path in positions.texts:
            text = positions.texts[path]
            return f'write it in quotes, "{text}": YAML reads {text} as the {_kind(given)} {given}'
        case "string_pattern_mismatch" if path[-2:-1] == ("framework",) or path[-1:] == (
            "framework",
        ):
            return (
                f'{given!r} must read "name version", such as "pytorch 2.3.1"; several '
                'are joined by " + "'
            )
        case "string_pattern_mismatch":
            pattern = str(context.get("pattern"))
            return f"{given!r} must be {_WANTED.get(pattern, f'of the form {pattern}')}"
        case "value_error":
            return str(context.get("error"))
        case "literal_error":
            return f"must be {context.get('expected')}, not {given!r}"
        case "too_short":
            return "must not be empty"
        case kind:
            return f"must be {_SHAPES.get(kind, detail['msg'])}, not {_shape(given)}"


def _shape(value: object) -> str:
    if value is None:
        return "nothing"
    names: dict[type, str] = {dict: "a mapping", list: "a list", str: f"the text {value!r}"}
    return names.get(type(value), f"the {_kind(value)} {value}")


def _kind(value: object) -> str:
    kinds: dict[type, str] = {bool: "truth value", int: "number", float: "number"}
    return kinds.get(type(value), "value")  # for example a date


@cache
def _schema() -> dict[str, Any]:
    return Matrix.model_json_schema()


def _keys_at(path: YamlPath) -> list[str]:
    """Return the keys that the mapping at `path` may have, from the JSON schema."""
    schema = _schema()
    node: dict[str, Any] = schema
    for part in path:
        named = {**node.get("patternProperties", {}), **node.get("properties", {})}
        if isinstance(part, int):
            node = node["items"]
        else:
            node = named.get(part) or next(iter(node["patternProperties"].values()))
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    return list(node.get("properties", {}))
