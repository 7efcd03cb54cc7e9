"""`python -m tests.mutations`: make every fault, and see who notices.

Runs the checks that images carry in unpacked images (root), and unit tests here. Fails where a
fault without an excuse is not seen, or one with an excuse is.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import repeat
from pathlib import Path
from typing import Any

from tests.mutations.inside import NO_CHECK
from tests.mutations.mutants import MUTANTS, Mutant
from wheelyard.oci.layout import Layout
from wheelyard.oci.unpack import make_mount_points, unpack
from wheelyard.planning.plan import load_plan
from wheelyard.planning.selector import select
from wheelyard.selfcheck.machine import processor
from wheelyard.verify.places import chroot_command

PROJECT = Path(__file__).parents[2]
PACKAGE = "builder/wheelyard/selfcheck"
INSIDE = "tmp/mutations"


@dataclass(frozen=True)
class Verdict:
    """What became of one fault."""

    name: str
    kind: str
    seen_by: str
    result: str  # "caught", "not caught", "excused", "excused, yet caught"
    reason: str  # the check's, or the excuse
    seconds: float
    before: str = ""  # what selfcheck said before these faults were listed; see `--before`


def main(arguments: Sequence[str] | None = None) -> int:
    """Run them all, and print and write the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("--dist", type=Path, default=Path("dist"))
    parser.add_argument("--images", nargs="*", default=["pytorch-2.3.1-cuda12.1-cudnn8.9-py3.11-devel",  # noqa: E501
                        "tensorflow-2.21.0-cuda12.5-cudnn9.3-py3.11-runtime",
                        "jax-0.12.0.1-cuda12.8-cudnn9.10-py3.13-runtime"])  # fmt: skip
    parser.add_argument(
        "--only", nargs="*", default=[], help="faults whose names hold one of these"
    )
    parser.add_argument("--folder", type=Path, help="where images are unpacked")
    parser.add_argument("--report", type=Path, metavar="FOLDER",
                        help="write mutations.json and .md there")  # fmt: skip
    parser.add_argument("--add", action="store_true", help="keep the report's other verdicts")
    parser.add_argument(
        "--skip-sound", action="store_true", help="do not run the checks without a fault first"
    )
    parser.add_argument("--skip-units", action="store_true", help="only what images must see")
    parser.add_argument("--before", metavar="REVISION",
                        help="make the faults in that revision's selfcheck, ask its own checks and "
                        "tests, and add what they say to the report")  # fmt: skip
    given = parser.parse_args(arguments)
    chosen = [each for each in MUTANTS if not given.only or any(w in each.name for w in given.only)]
    if given.skip_units:
        chosen = [each for each in chosen if each.in_image]
    if given.before:
        return compare_with(given.before, chosen, given)
    verdicts = list(units([each for each in chosen if not each.in_image], PROJECT))
    for image in given.images:
        verdicts += in_image(image, chosen, given, sound=not given.skip_sound)
    tried = len(verdicts)
    if given.report:
        verdicts = joined(verdicts, kept(given.report), add=given.add)
    report = described(verdicts, given.images)
    for each in verdicts:
        print(
            f"{each.result:20} {each.kind:10} {each.name:52} {each.seconds:6.1f} s  {each.seen_by}"
        )
    print(summary(verdicts))
    if given.report:
        write(report, verdicts, given.report)
    missing = len(chosen) - tried
    if missing:
        print(f"{missing} faults were not tried: no image of their framework was named")
    return int(any(each.result in ("not caught", "excused, yet caught") for each in verdicts))


def kept(folder: Path) -> list[Verdict]:
    """Verdicts of an earlier report on faults that are still listed."""
    file = folder / "mutations.json"
    if not file.exists():
        return []
    listed = {each.name for each in MUTANTS}
    old = (Verdict(**each) for each in json.loads(file.read_text())["faults"])
    return [each for each in old if each.name in listed]


def joined(new: Sequence[Verdict], old: Sequence[Verdict], *, add: bool) -> list[Verdict]:
    """The new verdicts, with `before` from the old ones, and with `add` those not tried now."""
    before = {each.name: each.before for each in old}
    found = [replace(each, before=before.get(each.name, "")) for each in new]
    if add:
        tried = {each.name for each in new}
        found += [each for each in old if each.name not in tried]
    order = [each.name for each in MUTANTS]
    return sorted(found, key=lambda each: order.index(each.name))


def compare_with(revision: str, chosen: Sequence[Mutant], given: argparse.Namespace) -> int:
    """Put the same faults into an earlier selfcheck; its checks and unit tests are the judges."""
    if not given.report:
        raise SystemExit("--before adds to a report: name its folder with --report")
    with tempfile.TemporaryDirectory(prefix="mutations-", dir=given.folder) as folder:
        archive = subprocess.run(["git", "archive", revision], check=True, cwd=PROJECT,
                                 stdout=subprocess.PIPE).stdout  # fmt: skip
        subprocess.run(["tar", "x", "-C", folder], check=True, input=archive)
        project = Path(folder)
        fitting = [each for each in chosen if fits(each, project)]
        verdicts = list(units([each for each in fitting if not each.in_image], project))
        for image in given.images:
            verdicts += in_image(image, fitting, given, sound=False, project=project)
    before = {each.name: said_before(each) for each in verdicts}
    before = {**{each.name: "not applicable" for each in chosen}, **before}
    old = kept(given.report)
    told = [replace(each, before=before.get(each.name, each.before)) for each in old]
    for each in told:
        print(f"{each.before:14} {each.result:10} {each.name}")
    content = json.loads((given.report / "mutations.json").read_text())
    write({**content, "before": revision, "faults": [asdict(each) for each in told]}, told,
          given.report)  # fmt: skip
    return 0


def fits(mutant: Mutant, project: Path) -> bool:
    """Whether the fault can be made there, and its test exists; a check may still be missing."""
    target = project / PACKAGE / mutant.file
    judge = mutant.in_image or (project / "tests/unit" / mutant.seen_by).exists()
    return judge and target.exists() and target.read_text().count(mutant.old) == 1


def said_before(verdict: Verdict) -> str:
    """Of a fault in an earlier selfcheck: caught, not caught, or not applicable."""
    if verdict.reason == NO_CHECK:
        return "not applicable"
    return "caught" if verdict.result in ("caught", "excused, yet caught") else "not caught"


def judged(mutant: Mutant, *, caught: bool, reason: str, seconds: float) -> Verdict:
    """The verdict on a fault that a check did or did not see."""
    if mutant.excuse:
        result = "excused, yet caught" if caught else "excused"
        return Verdict(mutant.name, mutant.kind, mutant.seen_by, result, mutant.excuse, seconds)
    result = "caught" if caught else "not caught"
    return Verdict(mutant.name, mutant.kind, mutant.seen_by, result, reason, seconds)


def units(mutants: Sequence[Mutant], project: Path) -> Iterator[Verdict]:
    """Those that unit tests must see: each with a copy of the package in front of our own."""
    with ThreadPoolExecutor(2) as pool:
        yield from pool.map(_unit, mutants, repeat(project))


def _unit(mutant: Mutant, project: Path) -> Verdict:
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        shutil.copytree(project / "builder", Path(folder, "builder"))
        target = Path(folder, PACKAGE, mutant.file)
        target.write_text(mutant.applied(target.read_text()))
        path = os.pathsep.join((f"{folder}/builder", str(project)))
        start = time.monotonic()
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
                   f"--basetemp={folder}/t", str(project / "tests/unit" / mutant.seen_by)]  # fmt: skip  # noqa: E501
        try:
            done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120,
                                  env={**os.environ, "PYTHONPATH": path}, cwd=project)  # fmt: skip
            caught, lines = done.returncode == 1, done.stdout.splitlines()
        except subprocess.TimeoutExpired:
            caught, lines = True, ["FAILED the test came to no end"]
        seconds = round(time.monotonic() - start, 1)
    said = next((line for line in reversed(lines) if line.startswith("FAILED")), "")
    return judged(mutant, caught=caught, reason=said.rpartition("::")[2][:200], seconds=seconds)


def in_image(
    selector: str,
    mutants: Sequence[Mutant],
    given: argparse.Namespace,
    *,
    sound: bool,
    project: Path = PROJECT,
) -> list[Verdict]:
    """Those that a check of this image must see; raises SystemExit when the sound ones fail."""
    (cell,) = select(load_plan(PROJECT), selector)
    framework = cell.framework
    mine = [each for each in mutants if each.in_image and each.framework == framework]
    if not mine:
        return []
    checks = sorted({each.seen_by for each in mine}) if sound else []
    without = [{"name": check, "file": "cli.py", "old": "", "new": "", "seen_by": check}
             for check in checks]  # fmt: skip
    with unpacked(cell.tags[0], given.dist, given.folder) as (root, settings):
        before = _run([*without], framework, root, settings, project)
        if wrong := {name: each for name, each in before.items() if each["status"] != "pass"}:
            raise SystemExit(f"{selector}: without a fault these do not pass: {wrong}")
        found = _run([asdict(each) for each in mine], framework, root, settings, project)
    return [
        judged(each, caught=found[each.name]["status"] in ("fail", "crash"),
               reason=found[each.name]["reason"], seconds=found[each.name]["seconds"])
        for each in mine
    ]  # fmt: skip


def _run(
    jobs: Sequence[dict[str, Any]],
    framework: str,
    root: Path,
    settings: dict[str, Any],
    project: Path,
) -> dict[str, dict[str, Any]]:
    place = root / INSIDE
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(project / PACKAGE, place / "selfcheck",
                    ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
    shutil.copy(Path(__file__).with_name("inside.py"), place)
    (place / "jobs.json").write_text(json.dumps(jobs))
    subprocess.run(["chown", "-R", "1000:1000", str(place)], check=True)
    words = ["python", f"/{INSIDE}/inside.py", framework, f"/{INSIDE}"]
    results = {}
    with subprocess.Popen(chroot_command(root, settings, words), stdout=subprocess.PIPE,
                          text=True) as process:  # fmt: skip
        for line in process.stdout or ():
            if line.startswith("{"):
                result = json.loads(line)
                results[result.pop("name")] = result
                print(f"  {line.strip()[:160]}", file=sys.stderr, flush=True)
    if process.returncode:
        raise SystemExit(f"the runner in the image ended with {process.returncode}")
    return results


@contextmanager
def unpacked(tag: str, dist: Path, folder: Path | None) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A built image's files, and its config."""
    layout = Layout(dist.absolute())
    manifest = layout.read_json(layout.references()[tag].digest)
    settings = layout.read_json(manifest["config"]["digest"])["config"]
    with tempfile.TemporaryDirectory(prefix="mutations-", dir=folder) as scratch:
        root = Path(scratch, "root")
        root.mkdir()
        Path(scratch).chmod(0o755)
        unpack([layout.blob(layer["digest"]) for layer in manifest["layers"]], root)
        make_mount_points(root)
        yield root, settings


def described(verdicts: Sequence[Verdict], images: Sequence[str]) -> dict[str, Any]:
    """The report as JSON."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{processor()}, {os.cpu_count()} processors, no GPU, {platform.system()}",
        "images": list(images),
        "summary": summary(verdicts),
        "faults": [asdict(each) for each in verdicts],
    }


def summary(verdicts: Sequence[Verdict]) -> str:
    """How many of each."""
    kinds = ("caught", "not caught", "excused", "excused, yet caught")
    counts = {kind: sum(each.result == kind for each in verdicts) for kind in kinds}
    return f"{len(verdicts)} faults: " + ", ".join(f"{n} {kind}" for kind, n in counts.items() if n)


def write(report: dict[str, Any], verdicts: Sequence[Verdict], folder: Path) -> None:
    """The table, for programs and for people."""
    text = json.dumps(report, indent=1) + "\n"
    (folder / "mutations.json").write_text(text, encoding="utf-8")
    lines = [
        "# Faults in selfcheck, and who sees them", "",
        f"`make test-mutations` on {report['date']}: {report['machine']}; {report['summary']}.",
        f"Images: {', '.join(report['images'])}.", *_of_before(report.get("before"), verdicts), "",
        "| fault | kind | seen by | before | result | what it said, or why nothing can see it |",
        "|---|---|---|---|---|---|",
        *(f"| {each.name} | {each.kind} | `{each.seen_by}` | {each.before or '-'} | "
          f"{each.result} | {each.reason.replace('|', '/')} |" for each in verdicts),
    ]  # fmt: skip
    (folder / "mutations.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _of_before(revision: str | None, verdicts: Sequence[Verdict]) -> list[str]:
    if not revision:
        return []
    counts = Counter(each.before for each in verdicts)
    told = ", ".join(f"{counts[kind]} {kind}" for kind in ("caught", "not caught"))
    return [
        "",
        f"Before: the same fault in revision {revision}, judged by that revision's own checks and "
        f"unit tests: {told}, {counts['not applicable']} not applicable (its code, or the check, "
        "was not there yet).",
    ]


if __name__ == "__main__":
    sys.exit(main())
