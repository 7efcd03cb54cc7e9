"""Write results for people and for programs."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any, TextIO

from .result import Result

COLOURS = {"pass": "32", "fail": "31", "skip": "33"}


def to_json(results: list[Result]) -> str:
    """The machine-readable report."""
    content = without_nan({"checks": [result.to_json() for result in results]})
    return json.dumps(content, indent=2, allow_nan=False)


def without_nan(value: Any) -> Any:
    """The same with null for every number that JSON does not have: nan and the infinities."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: without_nan(each) for key, each in value.items()}
    return [without_nan(each) for each in value] if isinstance(value, list | tuple) else value


def wants_colour(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Colour on a terminal, unless NO_COLOR asks for none (no-color.org)."""
    return stream.isatty() and not environment.get("NO_COLOR")


def line(result: Result, *, colour: bool) -> str:
    """One check: status, name, seconds, and what there is to say."""
    status = f"{result.status:4}"
    if colour:
        status = f"\x1b[{COLOURS[result.status]}m{status}\x1b[0m"
    told = result.reason or _value(result.seen)
    return f"{status}  {result.name:42} {result.seconds:7.2f} s  {told}".rstrip()


def summary(results: list[Result]) -> str:
    """How many of each."""
    counts = {status: sum(item.status == status for item in results) for status in COLOURS}
    return f"{counts['pass']} passed, {counts['fail']} failed, {counts['skip']} skipped"


def _value(seen: object) -> str:
    return "" if seen is None else seen if isinstance(seen, str) else json.dumps(seen)
