"""Records as JUnit XML, which CI servers read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any
from xml.etree import ElementTree as ET

from wheelyard.verify.record import Record


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
