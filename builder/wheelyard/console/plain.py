"""Text from other sources, with everything that a terminal would obey escaped as in JSON. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

_UNUSUAL = re.compile(r"[^ -~\n\t]")
_UNUSUAL_OR_END = re.compile(r"[^ -~]")
_LABEL = re.compile(r"( *\S.*?  +)(?=\S)")  # `reason  ...`, `  wheelyard plan    ...`
_PIECE = re.compile(r"\b(?:run|Next): .*|\S*`[^`]*`\S*|\S+")  # what is copied stays in one piece
_WORD = re.compile(r'(?:"[^"]*"|[^\s"])+')
_COMMAND = re.compile(r"(wheelyard|docker|podman) ")
_CONTINUED = 4  # columns: the second line of a command in a list of commands is no command itself


def plain(text: object) -> str:
    """Escape terminal sequences, control characters and marks that change the text's direction."""
    return _UNUSUAL.sub(_written, str(text))


def one_line(text: object) -> str:
    """Escape line breaks as well, so that no text can forge a further line of our output."""
    return _UNUSUAL_OR_END.sub(_written, str(text))


def _written(match: re.Match[str]) -> str:
    return match[0] if match[0].isprintable() else json.dumps(match[0])[1:-1]


def fitted(text: str, columns: int, hang: int = 2) -> str:
    """Wrap lines that are longer than `columns` at spaces, and align what follows a label.

    Other lines continue `hang` columns further in. A command that is wrapped can be pasted:
    its lines end in a backslash.
    """
    lines = text.split("\n")
    return "\n".join(part for line in lines for part in _fitted_line(line, columns, hang))


def _fitted_line(line: str, columns: int, hang: int) -> Iterator[str]:
    if len(line) <= columns:
        yield line
        return
    lead = len(line) - len(line.lstrip(" "))
    label = _LABEL.match(line)
    if label and label.end() <= columns // 2:
        yield from _wrapped(label[0], line[label.end() :], label.end(), columns)
    elif label and lead:
        yield from _fitted_line(label[0].rstrip(), columns, hang)
        yield from _wrapped(" " * (lead + 4), line[label.end() :], lead + 4, columns)
    else:
        hang = max(hang, _CONTINUED) if lead and _COMMAND.match(line[lead:]) else hang
        yield from _wrapped(" " * lead, line[lead:], lead + hang, columns)


def _wrapped(first: str, text: str, indent: int, columns: int) -> Iterator[str]:
    """Yield `text` in lines that start with `first`, then with `indent` spaces.

    A shell's comment stays one: each of its lines begins with `#`.
    """
    is_command = first and _COMMAND.match(text)
    more = " \\" if is_command else ""
    comment = "# " if text.startswith("# ") else ""
    first, text = first + comment, text.removeprefix(comment)
    indent += len(comment)
    room = columns - indent - len(more)
    pieces = (_WORD if is_command else _PIECE).findall(text)
    line, is_empty = first, True
    for piece in (word for p in pieces for word in ([p] if len(p) <= room else p.split())):
        if not is_empty and len(line) + 1 + len(piece) > indent + room:
            yield line + more
            line, is_empty = f"{comment:>{indent}}", True
        line, is_empty = f"{line}{'' if is_empty else ' '}{piece}", False
    yield line
