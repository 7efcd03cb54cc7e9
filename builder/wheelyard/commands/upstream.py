"""`wheelyard upstream`: refresh upstream's facts, or list changes since the locks."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.errors import UpstreamError, UsageError
from wheelyard.options import Command, add_advisories, add_json

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.lock.upstream.refresh import Change
    from wheelyard.lock.upstream.watch import UpstreamChange

_EXAMPLES = """\
refresh reads each framework release's facts from its wheel by byte ranges and rewrites the
data file; a wheel that was read before is not read again. check writes nothing. The data file is
upstream.json beside matrix.yaml; this repository keeps it in builder/wheelyard/data.

check compares the locked wheels with the indexes, and the bases' packages with Debian's archives
(their package lists, kept in the cache, and the pool for what those have dropped; needs apt and
mmdebstrap). "unlisted" can still be fetched, "gone" cannot. "fixes" names the vulnerabilities that
newer packages' changelogs list as fixed since the lock; their .deb files are fetched for it.

examples:
  wheelyard upstream refresh                  # new releases into the data file
  wheelyard upstream refresh --all --json     # read every wheel again; changes for programs
  wheelyard upstream check                    # exit code 15 if something needs attention
  wheelyard upstream check --max-age 90       # call a lock old after 90 days
  wheelyard upstream check --bases-only       # the Debian packages alone
  wheelyard upstream check --advisories URL   # and vulnerabilities of the wheels, in OSV's format
"""
_MAX_AGE = 120  # days

COMMAND = Command(
    "refresh upstream's facts, or list what changed since the locks",
    "Read facts about framework releases from the indexes, or check the locked files.",
    _EXAMPLES,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "action", choices=("refresh", "check"),
        help="refresh the facts of releases, or check what changed since the locks",
    )  # fmt: skip
    parser.add_argument("--all", action="store_true", help="refresh: read known wheels again, too")
    parser.add_argument(
        "--data", type=Path, metavar="FILE", help="file of facts (default: the project's)"
    )
    parser.add_argument(
        "--max-age", type=int, default=_MAX_AGE, metavar="DAYS",
        help=f"check: age of the newest file from which a lock is old (default: {_MAX_AGE})",
    )  # fmt: skip
    add_advisories(parser, "check: ")
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--wheels-only", action="store_true", help="check: no Debian packages")
    part.add_argument("--bases-only", action="store_true", help="check: only Debian packages")
    add_json(parser)


def run(args: argparse.Namespace, context: Context) -> int:
    """Carry out one of the two actions."""
    if args.advisories and args.action != "check":
        raise UsageError("only `upstream check` takes --advisories")
    return _check(args, context) if args.action == "check" else _refresh(args, context)


def _refresh(args: argparse.Namespace, context: Context) -> int:
    from wheelyard.console.amounts import amount
    from wheelyard.fetching.transport import make_client
    from wheelyard.lock.upstream.indexes import list_frameworks
    from wheelyard.lock.upstream.refresh import changes, merge, read_releases
    from wheelyard.lock.upstream.simpleindex import CONNECTIONS
    from wheelyard.planning.facts import dump_upstream, facts_file, facts_target, load_upstream
    from wheelyard.planning.matrix import load_matrix
    from wheelyard.planning.plan import MATRIX
    from wheelyard.system.textfiles import write_text

    if args.data is None:
        context.settings.require_own("`wheelyard upstream refresh`")
    project = context.settings.project
    path, known_by = (args.data or find(project) for find in (facts_target, facts_file))
    matrix = load_matrix(project / MATRIX)
    before = load_upstream(known_by) if known_by.exists() else {}
    after, received = before, [0]
    with (
        make_client(context.settings, CONNECTIONS) as client,
        context.reporter.task("upstream facts", None, "bytes") as task,
    ):

        def on_bytes(count: int) -> None:
            received.append(count)
            task.advance(count)

        listings = list_frameworks(matrix, client, context)
        for listing in listings:
            known = before.get(listing.framework, {})
            read = read_releases(listing, known, client, on_bytes, reread=args.all)
            after = merge(after, listing, read)
    changed = changes(before, after, listings)
    text = dump_upstream(after)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)
    context.reporter.info(f"read {amount(sum(received), 'bytes')} of wheels")
    _show_changes(changed, as_json=args.json)
    return 0


def _check(args: argparse.Namespace, context: Context) -> int:
    from wheelyard.console.table import show_json, show_table, show_text
    from wheelyard.lock.upstream.advisories import check_advisories
    from wheelyard.lock.upstream.changelog import NOTE, fixes_text
    from wheelyard.lock.upstream.packages import check_packages
    from wheelyard.lock.upstream.watch import check_upstream

    findings = [] if args.bases_only else check_upstream(context, args.max_age, args.data)
    findings += [] if args.wheels_only else check_packages(context)
    findings += check_advisories(context, args.advisories) if args.advisories else []
    if args.json:
        show_json([_as_json(finding) for finding in findings])
    elif findings:
        rows = [
            (f.kind, f.subject, f.detail, str(len(f.locks) or ""), fixes_text(f.fixes or ()))
            for f in findings
        ]
        show_table(("kind", "what", "detail", "locks", "fixes"), rows, fold=(2, 4))
        if any(finding.fixes for finding in findings):
            show_text(NOTE)
    else:
        print("nothing changed: every locked file is available, and no lock is old")
    if findings:
        raise UpstreamError(
            f"{len(findings)} thing(s) changed upstream; take new versions with `wheelyard "
            "upstream "
            "refresh`, `wheelyard lock --upgrade` and `wheelyard render`, and look at the change"
        )
    return 0


def _show_changes(changed: Sequence[Change], *, as_json: bool) -> None:
    from wheelyard.console.table import show_json, show_table

    rows = [(c.framework, c.version, c.kind, c.detail) for c in changed]
    if as_json:
        names = ("framework", "version", "kind", "detail")
        show_json([dict(zip(names, row, strict=True)) for row in rows])
    elif rows:
        show_table(("framework", "version", "change", "detail"), rows)
    else:
        print("no release or fact has changed")


def _as_json(finding: UpstreamChange) -> dict[str, object]:
    return {
        "kind": finding.kind,
        "what": finding.subject,
        "detail": finding.detail,
        "locks": list(finding.locks),
        "fixes": None if finding.fixes is None else [asdict(fix) for fix in finding.fixes],
    }
