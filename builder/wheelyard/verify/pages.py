"""The files that `wheelyard verify` writes: JUnit, JSON and a page for people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from wheelyard.system.templates import make_environment
from wheelyard.system.textfiles import write_text
from wheelyard.verify.charts import HEIGHT, WIDTH, bars, curves
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


def to_junit(records: Iterable[Record]) -> str:
    """Return one suite per image, one case per check."""
    root = ET.Element("testsuites", name="wheelyard verify")
    for record in records:
        root.append(_suite(record))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _suite(record: Record) -> ET.Element:
    counts = record.counts
    suite = ET.Element(
        "testsuite",
        name=record.id,
        tests=str(len(record.checks) + (record.error is not None)),
        failures=str(counts["fail"]),
        errors=str(int(record.error is not None)),
        skipped=str(counts["skip"]),
        time=f"{record.seconds:.1f}",
    )
    properties = ET.SubElement(suite, "properties")
    for name in ("digest", "backend", "gpu"):
        ET.SubElement(properties, "property", name=name, value=str(getattr(record, name)))
    for name, value in record.made.items():
        said = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        ET.SubElement(properties, "property", name=name, value=_clean(said))
    for check in record.checks:
        suite.append(_case(record.id, check))
    if record.error is not None:
        case = ET.SubElement(suite, "testcase", classname=record.id, name="run", time="0")
        ET.SubElement(case, "error", message=_clean(record.error))
    return suite


def _case(image: str, check: Mapping[str, Any]) -> ET.Element:
    case = ET.Element(
        "testcase", classname=image, name=check["name"], time=f"{check['seconds']:.3f}"
    )
    message = _clean(check["reason"] or "")
    if check["status"] == "skip":
        ET.SubElement(case, "skipped", message=message)
    elif check["status"] == "fail":
        failure = ET.SubElement(case, "failure", message=message)
        values = {name: check[name] for name in ("seen", "expected")}
        failure.text = _clean(json.dumps(values, indent=1))
    return case


def _clean(text: str) -> str:
    """Remove the control characters that XML 1.0 cannot contain."""
    return "".join(letter for letter in text if letter.isprintable() or letter in "\n\t")
