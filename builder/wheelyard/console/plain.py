"""Text from other sources, with everything that a terminal would obey escaped as in JSON. Pure."""

from __future__ import annotations

import json
import re

_UNUSUAL = re.compile(r"[^ -~\n\t]")
_UNUSUAL_OR_END = re.compile(r"[^ -~]")


def plain(text: object) -> str:
    """Escape terminal sequences, control characters and marks that change the text's direction."""
    return _UNUSUAL.sub(_written, str(text))


def one_line(text: object) -> str:
    """Escape line breaks as well, so that no text can forge a further line of our output."""
    return _UNUSUAL_OR_END.sub(_written, str(text))


def _written(match: re.Match[str]) -> str:
    return match[0] if match[0].isprintable() else json.dumps(match[0])[1:-1]
