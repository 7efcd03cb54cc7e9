"""The files that `wheelyard verify` writes: JUnit, JSON and a page for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from wheelyard.system.templates import make_environment
from wheelyard.system.textfiles import write_text
from wheelyard.verify.charts import HEIGHT, WIDTH, bars, curves
from wheelyard.verify.junit import to_junit
from wheelyard.verify.record import VERSION, Record, as_text

_TEMPLATE = "verify.html.j2"


def write_pages(folder: Path, records: Sequence[Record], templates: Path) -> dict[str, Path]:
    """Write junit.xml, report.json and index.html; return their paths by kind."""
    content = {
        "junit": ("junit.xml", to_junit(records)),
        "json": ("report.json", to_json(records)),
        "html": ("index.html", to_html(records, templates)),
    }
    for name, text in content.values():
        write_text(folder / name, text)
    return {kind: folder / name for kind, (name, _text) in content.items()}


def to_json(records: Sequence[Record]) -> str:
    """Return all records, for programs."""
    images = [{**asdict(record), "ok": record.ok, "result": record.result} for record in records]
    return json.dumps({"version": VERSION, "images": images}, indent=1) + "\n"


def described(record: Record) -> list[tuple[str, str]]:
    """Return where, when and by what a record was made, and the versions that were found."""
    said = {name: as_text(value) for name, value in record.made.items()}
    cpu, device = said.get("cpu", ""), said.get("device", "")
    there = device if record.made.get("driver") else "none"
    rows = [
        ("date", said.get("date", "")),
        ("host", said.get("host", "")),
        ("CPU", cpu or ("" if record.made.get("driver") else device)),
        ("GPU", there if cpu or device else ""),
        ("driver", said.get("driver", "none" if cpu or device else "")),
        ("versions", ", ".join(f"{name} {found}" for name, found in record.versions.items())),
        ("wheelyard", said.get("wheelyard", "")),
        ("selfcheck", " ".join(filter(None, (said.get("selfcheck"), said.get("level"))))),
    ]
    return [(name, text or "not known") for name, text in rows]


def to_html(records: Sequence[Record], templates: Path) -> str:
    """Return a page that needs no other file."""
    return (
        make_environment(templates)
        .get_template(_TEMPLATE)
        .render(
            records=records,
            curves={record.digest: curves(record) for record in records},
            bars=bars(records),
            described=described,
            width=WIDTH,
            height=HEIGHT,
        )
    )
