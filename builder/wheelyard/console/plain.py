"""Text from elsewhere, with what a terminal obeys written out as JSON does. Pure."""

from __future__ import annotations

import json
import re

_UNUSUAL = re.compile(r"[^ -~\n\t]")
_UNUSUAL_OR_END = re.compile(r"[^ -~]")


def plain(text: object) -> str:
    """`text` without escape sequences, control characters and marks that turn its direction."""
    return _UNUSUAL.sub(_written, str(text))


def one_line(text: object) -> str:
    """The same as one line, so that it cannot begin another that looks like ours."""
    return _UNUSUAL_OR_END.sub(_written, str(text))


def _written(found: re.Match[str]) -> str:
    return found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1]
