"""Text from elsewhere, with what a terminal obeys written out. Pure."""

from __future__ import annotations

LINES = "\n\t"


def plain(text: object, keep: str = LINES) -> str:
    """`text` without escape sequences, control characters and marks that turn its direction."""
    return "".join(x if x.isprintable() or x in keep else ascii(x)[1:-1] for x in str(text))


def one_line(text: object) -> str:
    """The same as one line, so that it cannot begin another that looks like ours."""
    return plain(text, "")
