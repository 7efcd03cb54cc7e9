"""What was played where, by whom, and how it ended: as JSON, and as a page to read."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PASSED, FAILED, LEFT_OUT = "passed", "failed", "not applicable"
SIGNS = {PASSED: "yes", FAILED: "**FAILED**", LEFT_OUT: "-"}
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
    """Put entries in the place of those of the same image and engine, and write the page beside."""
    known = json.loads(path.read_text()) if path.exists() else []
    found = {(item["image"], item["engine"]): item for item in [*known, *entries]}
    ordered = [found[key] for key in sorted(found)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(ordered, indent=1) + "\n")
    path.with_suffix(".md").write_text(page(ordered))


def page(entries: Iterable[Entry]) -> str:
    """The entries as Markdown: a table each, of stories by users."""
    legend = "`-` is not applicable (`use.json` says why), an empty field was not played."
    return "\n".join(["# Images in people's hands", "", legend, "", *map(table, entries)])


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
