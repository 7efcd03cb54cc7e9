"""Write results for people and for programs."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import textwrap
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TextIO

from .gpu import find_driver
from .gpu.driver import NoDriverError
from .machine import cores, processor
from .result import Options, Result

COLOURS = {"pass": "32", "fail": "31", "skip": "33"}
WIDTH = 80
INDENT: dict[str, Any] = {"initial_indent": " " * 6, "subsequent_indent": " " * 6}


def to_json(results: list[Result], header: Mapping[str, Any]) -> str:
    """Make the machine-readable report: where and by what it was made, then the checks."""
    content = without_nan({**header, "checks": [result.to_json() for result in results]})
    return json.dumps(content, indent=2, allow_nan=False)


def header(options: Options, level: str) -> dict[str, Any]:
    """Say when and where the report was made; None for what cannot be known here."""
    answer = find_driver()
    driver = None if isinstance(answer, NoDriverError) else answer
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),  # noqa: UP017
        "host": platform.node(),
        "cpu": f"{processor()}, {cores()} cores",
        "device": [gpu.name for gpu in driver.gpus] if driver else [processor()],
        "driver": driver.version if driver else None,
        "selfcheck": revision(Path(__file__).parent),
        "image": options.cell.id if options.cell else None,
        "level": level,
    }


def revision(folder: Path) -> str:
    """Return a digest of selfcheck's files, since no version number names it."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            digest.update(f"{path.relative_to(folder).as_posix()}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


def without_nan(value: Any) -> Any:
    """Replace every number that JSON does not have (nan, the infinities) by null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: without_nan(each) for key, each in value.items()}
    return [without_nan(each) for each in value] if isinstance(value, list | tuple) else value


def wants_colour(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Say whether to colour: on a terminal, unless NO_COLOR is set (no-color.org)."""
    return stream.isatty() and not environment.get("NO_COLOR")


def line(result: Result, *, colour: bool, width: int = WIDTH) -> str:
    """Show one check on one line: status, name, seconds, and what there is to say.

    Why one failed is never cut: it stands below, where it does not fit.
    """
    start = f"{result.status:4}  {result.name:36} {result.seconds:6.1f} s"
    told = " ".join((result.reason or _value(result.seen)).split())
    whole = f"{start}  {told}".rstrip()
    if len(whole) > width:
        if result.status == "fail":
            whole = "\n".join((start, textwrap.fill(told, width, **INDENT)))
        else:
            whole = f"{whole[: max(width - 3, len(start))]}..."
    if not colour:
        return whole
    return f"\x1b[{COLOURS[result.status]}m{result.status:4}\x1b[0m{whole[4:]}"


def summary(results: list[Result]) -> str:
    """Count results and seconds; list every reason to skip once, and what failed."""
    counts = {status: sum(item.status == status for item in results) for status in COLOURS}
    seconds = sum(item.seconds for item in results)
    told = f"{counts['pass']} passed, {counts['fail']} failed, {counts['skip']} skipped"
    reasons = Counter(item.reason for item in results if item.status == "skip")
    skipped = [f"skipped {count}: {reason}" for reason, count in reasons.items()]
    failed = [f"failed: {item.name}" for item in results if item.status == "fail"]
    return "\n".join((*skipped, *failed, f"{told} in {seconds:.0f} s"))


def _value(seen: object) -> str:
    """Show what was seen to people: a training's end, a speed, or the plain values there are."""
    if isinstance(seen, dict):
        if isinstance(seen.get("losses"), list) and isinstance(seen.get("scores"), dict):
            seen = {"loss": seen["losses"][-1], **seen["scores"]}
        elif isinstance(seen.get("float32", seen.get("mixed")), dict) or _rates(seen):
            kinds = {name: value for name, value in seen.items() if isinstance(value, dict)}
            seen = {name: _speed(value) for name, value in kinds.items()}
        plain = {name: value for name, value in seen.items() if not isinstance(value, dict | list)}
        return ", ".join(f"{name} {_number(value)}" for name, value in plain.items())
    if isinstance(seen, list | tuple):
        return ", ".join(map(str, seen))
    return "" if seen is None else str(seen)


def _rates(seen: Mapping[str, Any]) -> bool:
    parts = (each for each in seen.values() if isinstance(each, dict))
    return any("gigabytes_per_second" in part for part in parts)


def _speed(seen: Mapping[str, Any]) -> str:
    if "samples_per_second" in seen:
        return f"{seen['samples_per_second']:,.0f} samples/s"
    if "gigabytes_per_second" in seen:
        return f"{seen['gigabytes_per_second']:,.1f} GB/s"
    if "accuracy" in seen:
        return f"accuracy {seen['accuracy']:.4g}"
    return f"{seen['tflops']:.4g} TFLOP/s" if "tflops" in seen else "not measured"


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
