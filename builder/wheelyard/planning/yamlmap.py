"""YAML with positions: every value's line and its text as written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

YamlPath = tuple[str | int, ...]  # ("axes", "cuda", 0)

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where it is: 10 x faster


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the matrix; `path` says where."""

    path: YamlPath
    message: str
    line: int | None = None  # None: the line of `path`


@dataclass(frozen=True, slots=True)
class Positions:
    """The position of each value of a YAML file."""

    name: str = "matrix.yaml"
    lines: Mapping[YamlPath, int] = field(default_factory=dict)
    texts: Mapping[YamlPath, str] = field(default_factory=dict)  # of scalars, as written

    def line(self, path: YamlPath) -> int:
        """Return the line of a value, or of its nearest existing parent."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def report(self, problems: Iterable[Problem]) -> str:
        """Write problems as `matrix.yaml:12: axes.cuda[0]: what is wrong`, in file order."""
        messages = {
            (item.line or self.line(item.path), item.path, item.message) for item in problems
        }
        ordered = sorted(messages, key=lambda item: (item[0], _dotted(item[1]), item[2]))
        return "\n".join(f"{self.name}:{line}: {_at(path)}{text}" for line, path, text in ordered)


def read_yaml(text: str, name: str) -> tuple[object, Positions, list[Problem]]:
    """Parse `text`; return plain data (None if it is not YAML), positions, and problems.

    Keys are taken as written, so an unquoted `12.1:` is the key "12.1".
    """
    try:
        node = yaml.compose(text, Loader=_Loader)
        reader = _Reader()
        data = None if node is None else reader.value(node, (), ())
    except (yaml.YAMLError, ValueError) as error:
        return None, Positions(name), [_not_yaml(error)]
    return data, Positions(name, reader.lines, reader.texts), reader.problems


class _Reader:
    """Walks the node tree once, collecting values, lines and duplicate keys."""

    def __init__(self) -> None:
        self.lines: dict[YamlPath, int] = {}
        self.texts: dict[YamlPath, str] = {}
        self.problems: list[Problem] = []
        self._scalars = yaml.SafeLoader("")

    def value(self, node: yaml.Node, path: YamlPath, above: tuple[int, ...]) -> Any:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if id(node) in above:
            self.problems.append(Problem(path, "contains itself; write the value in full"))
            return None
        above = (*above, id(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, above)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, at), above) for at, item in enumerate(node.value)]
        self.texts[path] = node.value
        return self._scalars.construct_object(node)

    def _mapping(
        self, node: yaml.MappingNode, path: YamlPath, above: tuple[int, ...]
    ) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self.problems.append(Problem(path, "a key must be plain text", line))
            elif key.value in data:
                first = self.lines[(*path, key.value)]
                message = f"duplicate key; first defined on line {first}"
                self.problems.append(Problem((*path, key.value), message, line))
            else:
                self.lines[(*path, key.value)] = line
                data[key.value] = self.value(value, (*path, key.value), above)
        return data


def _not_yaml(error: Exception) -> Problem:
    mark = getattr(error, "problem_mark", None)
    reason = getattr(error, "problem", None) or str(error)
    if mark is None:
        return Problem((), f"not YAML: {reason}", 1)
    return Problem((), f"not YAML: {reason} (column {mark.column + 1})", mark.line + 1)


def _dotted(path: YamlPath) -> str:
    """Write a path for people: axes.cuda[0]; keys with dots are quoted."""
    parts = (
        f"[{part}]" if isinstance(part, int) else f'."{part}"' if "." in part else f".{part}"
        for part in path
    )
    return "".join(parts).removeprefix(".")


def _at(path: YamlPath) -> str:
    return f"{_dotted(path)}: " if path else ""
