"""`wheelyard audit`: the parts of a published image, their licences, and available fixes."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from wheelyard.errors import UpstreamError, UsageError
from wheelyard.options import Command, add_advisories, add_json, add_verify_options

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.lock.upstream.watch import UpstreamChange
    from wheelyard.model import LockedDeb, LockedWheel
    from wheelyard.publish.audit import Parts

_EXAMPLES = """\
examples:
  wheelyard audit pytorch:2.3.1-cuda12.1 --registry registry.example/team
  wheelyard audit pytorch@sha256:7bc0... --registry registry.example/team --json
  wheelyard audit pytorch:2.3.1 --registry registry.example/team --advisories osv.zip
  wheelyard audit pytorch:2.3.1 --registry registry.example/team --licences-only

Reads the bill of materials beside the image; with --verify-key only a signed one. The fixes in
updates of Debian packages come from their archive (needs apt and mmdebstrap), known
vulnerabilities of wheels from --advisories. Exit code 15 if there is any of either.
"""

COMMAND = Command(
    "list a published image's parts, their licences, and available fixes",
    "List the contents of a published image without fetching it.",
    _EXAMPLES,
    needs_project=False,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("image", metavar="IMAGE", help="REPOSITORY:TAG or REPOSITORY@DIGEST")
    add_advisories(parser)
    parser.add_argument(
        "--licences-only", action="store_true", help="list licences only; do not look up fixes"
    )
    add_verify_options(parser)
    add_json(parser, "an object")


def run(args: argparse.Namespace, context: Context) -> int:
    """Print every part; UpstreamError if updates or advisories concern any of them."""
    from wheelyard.publish.attest.trust import find_trust
    from wheelyard.publish.audit import published_parts
    from wheelyard.registry.client import open_registry

    address = context.settings.require_registry("the registry of the image")
    if args.licences_only and args.advisories:
        raise UsageError("--licences-only does not look up fixes: leave out --advisories")
    trust = find_trust(args.verify_key, args.signed_as, context)
    with open_registry(address, context.settings, context.reporter) as registry:
        parts = published_parts(registry, args.image, trust)
    findings = {} if args.licences_only else _findings(parts, args.advisories, context)
    _show(args, parts, findings)
    if findings:
        raise UpstreamError(
            f"{args.image}: {len(findings)} part(s) have updates with fixes, or are named in "
            "advisories; lock and build again"
        )
    return 0


def _findings(
    parts: Parts, advisories: str | None, context: Context
) -> dict[tuple[str, str], list[UpstreamChange]]:
    """Return the findings for a part's name and version, if there are any."""
    from wheelyard.lock.sources import debian_sources
    from wheelyard.lock.upstream.advisories import advisory_findings, read_advisories
    from wheelyard.lock.upstream.packages import fixed_packages
    from wheelyard.model import PackageLock

    changes: list[UpstreamChange] = []
    if parts.suite is not None:
        lock = PackageLock("image", "", parts.suite, "", parts.debs)
        sources = debian_sources(parts.suite, context.settings, context.reporter)
        changes += [x for x in fixed_packages(context, lock, sources) if x.fixes]
    if advisories:
        known = read_advisories(context, advisories)
        changes += advisory_findings(dict.fromkeys(parts.wheels, ()), known)
    by_part: dict[tuple[str, str], list[UpstreamChange]] = {}
    for finding in changes:
        name, _, version = finding.subject.partition(" ")
        by_part.setdefault((name, version), []).append(finding)
    return by_part


def _show(
    args: argparse.Namespace, parts: Parts, findings: Mapping[tuple[str, str], list[UpstreamChange]]
) -> None:
    from wheelyard.console.table import show_json, show_table, show_text
    from wheelyard.lock.upstream.changelog import NOTE

    every: list[LockedWheel | LockedDeb] = [*parts.wheels, *parts.debs]
    every.sort(key=lambda part: (part.name, part.version))
    if args.json:
        listed = [
            _as_json(part, parts, findings.get((part.name, part.version), [])) for part in every
        ]
        show_json({"digest": parts.digest, "parts": listed})
        return
    rows = [
        (part.name, part.version, ", ".join(parts.licences[part]) or "-",
         _told(findings.get((part.name, part.version), [])))
        for part in every
    ]  # fmt: skip
    show_table(("part", "version", "licences, as declared", "fixes"), rows, fold=(2, 3))
    if findings:
        show_text(NOTE)


def _told(findings: list[UpstreamChange]) -> str:
    from wheelyard.lock.upstream.changelog import fixes_text

    fixes = [fix for finding in findings for fix in finding.fixes or ()]
    unfixed = [finding.detail.partition(":")[0] for finding in findings if not finding.fixes]
    return "; ".join(filter(None, (fixes_text(fixes), *(f"no fix: {name}" for name in unfixed))))


def _as_json(
    part: LockedWheel | LockedDeb, parts: Parts, findings: list[UpstreamChange]
) -> dict[str, object]:
    from wheelyard.model import LockedDeb

    return {
        "type": "deb" if isinstance(part, LockedDeb) else "pypi",
        "name": part.name,
        "version": part.version,
        "licences": list(parts.licences[part]),
        "fixes": [asdict(fix) for finding in findings for fix in finding.fixes or ()],
        "details": [finding.detail for finding in findings],
    }
