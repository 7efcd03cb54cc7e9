"""What was played where, by whom, and how it ended: as JSON, and as a page to read."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PASSED, FAILED, LEFT_OUT = "passed", "failed", "not applicable"
SIGNS = {PASSED: "yes", FAILED: "**FAILED**", LEFT_OUT: "-"}
LEGEND = """\
`-` is not applicable (`use.json` says why), an empty field was not played with that digest. What
was not played again with a newer digest stands below it, with the digest it was played with."""
Entry = dict[str, Any]


def run(user: str, story: str, outcome: str, seconds: float = 0.0, reason: str = "") -> Entry:
    """One story as one user."""
    return {
        "user": user,
        "story": story,
        "outcome": outcome,
        "seconds": round(seconds, 1),
        "reason": reason,
    }


def entry(image: str, digest: str, engine: str, version: str, runs: list[Entry]) -> Entry:
    """One image in one engine."""
    return {
        "image": image,
        "digest": digest,
        "engine": engine,
        "version": version,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{platform.machine()}, Linux {platform.release()}, no GPU used",
        "runs": runs,
    }


def write(path: Path, entries: Iterable[Entry]) -> None:
    """Add entries to the record, and write the page beside it.

    What they play again is replaced. The rest of an earlier entry stays: in the new entry where the
    digest is the same, else by itself, with its digest and date.
    """
    record = json.loads(path.read_text()) if path.exists() else []
    for item in entries:
        record = [*added(record, item)]
    ordered = sorted(record, key=lambda item: item["date"], reverse=True)
    ordered.sort(key=lambda item: (item["image"], item["engine"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(ordered, indent=1) + "\n")
    path.with_suffix(".md").write_text(page(ordered))


def added(record: Iterable[Entry], new: Entry) -> Iterator[Entry]:
    """The record with one more entry."""
    again = {(run["user"], run["story"]) for run in new["runs"]}
    kept = []
    for item in record:
        if (item["image"], item["engine"]) != (new["image"], new["engine"]):
            yield item
            continue
        rest = [run for run in item["runs"] if (run["user"], run["story"]) not in again]
        if item["digest"] == new["digest"]:
            kept += rest
        elif any(run["outcome"] != LEFT_OUT for run in rest):
            runs = [run for run in item["runs"] if run in rest or run["outcome"] == LEFT_OUT]
            yield {**item, "runs": runs}
    yield {**new, "runs": [*kept, *new["runs"]]}


def page(entries: Iterable[Entry]) -> str:
    """The entries as Markdown: a table each, of stories by users."""
    return "\n".join(["# Images in people's hands", "", LEGEND, "", *map(table, entries)])


def table(item: Entry) -> str:
    """One image in one engine: a row for each story, a column for each user."""
    played = [run for run in item["runs"] if run["outcome"] != LEFT_OUT]
    outcomes = [run["outcome"] for run in item["runs"]]
    counts = ", ".join(f"{outcomes.count(kind)} {kind}" for kind in SIGNS)
    users = list(dict.fromkeys(run["user"] for run in played))
    found = {(run["story"], run["user"]): run["outcome"] for run in item["runs"]}
    lines = [
        f"## {item['image']} in {item['engine']} {item['version']}".rstrip(),
        "",
        f"{item['date']}, `{item['digest'][:19]}`, {item['machine']}: {counts}.",
        "",
        f"| story | {' | '.join(users)} |",
        f"|---|{'---|' * len(users)}",
    ]
    for story in dict.fromkeys(run["story"] for run in played):
        cells = [SIGNS.get(found.get((story, user), ""), "") for user in users]
        lines.append(f"| {story} | {' | '.join(cells)} |")
    failed = [run for run in played if run["outcome"] == FAILED]
    lines += [f"\n{run['story']}, {run['user']}: `{last_line(run['reason'])}`" for run in failed]
    return "\n".join([*lines, ""])


def last_line(text: str) -> str:
    """The last line that says something."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
