"""`python -m tests.mutations`: make every fault, and see who notices.

Runs the checks that images carry in unpacked images (root), and unit tests here. Fails where a
fault without an excuse is not seen, or one with an excuse is. What was said is kept, so the same
command goes on after an interruption, and tries again only what an edit may have changed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import signal
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

from tests.mutations.kept import (
    NO_CHECK,
    Kept,
    digest_of,
    files_read,
    forget_reads,
    needed,
)
from tests.mutations.mutants import MUTANTS, Mutant
from wheelyard.oci.layout import Layout
from wheelyard.oci.unpack import make_mount_points, unpack
from wheelyard.planning.plan import load_plan
from wheelyard.planning.selector import select
from wheelyard.selfcheck.machine import processor
from wheelyard.selfcheck.report import revision
from wheelyard.verify.places import chroot_command

PROJECT = Path(__file__).parents[2]
PACKAGE = "builder/wheelyard/selfcheck"
BEFORE = "1c91390"  # the last commit before there were faults to try
INSIDE = "tmp/mutations"
# CUDA libraries, which are most of an image: only PyTorch needs them to be imported on a processor.
UNUSED = "wheelyard: nvidia-"
SECONDS = 120  # of a processor, for a unit test
UNCOMPILED = shutil.ignore_patterns("__pycache__")  # so that sources are read


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
    selfcheck: str = ""  # the revision that was tried, as its reports name it; empty: an old one


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
                        help="write mutations.json and .md there, of the whole list")  # fmt: skip
    parser.add_argument("--kept", type=Path, default=PROJECT / "reports/mutations.jsonl",
                        metavar="FILE", help="verdicts that still hold")  # fmt: skip
    parser.add_argument("--at-once", type=int, default=os.cpu_count() or 1, metavar="N",
                        help="how many faults are tried at the same time")  # fmt: skip
    parser.add_argument("--before", metavar="REVISION",
                        help="make the faults in that revision's selfcheck, ask its own checks and "
                        "tests, and add what they say to the report")  # fmt: skip
    given = parser.parse_args(arguments)
    chosen = [each for each in MUTANTS if not given.only or any(w in each.name for w in given.only)]
    store = Kept(given.kept)
    if given.before:
        return compare_with(given.before, chosen, given, store)
    of_now = revision(PROJECT / PACKAGE)
    verdicts = [replace(each, selfcheck=of_now) for each in tried(chosen, given, store)]
    for each in verdicts:
        print(
            f"{each.result:20} {each.kind:10} {each.name:52} {each.seconds:6.1f} s  {each.seen_by}"
        )
    print(summary(verdicts))
    if given.report:
        write(
            described(joined(verdicts, earlier(given.report)), given.images, of_now), given.report
        )
    missing = len(chosen) - len(verdicts)
    if missing:
        print(f"{missing} faults were not tried: no image of their framework was named")
    return int(any(each.result in ("not caught", "excused, yet caught") for each in verdicts))


def tried(
    chosen: Sequence[Mutant],
    given: argparse.Namespace,
    store: Kept,
    project: Path = PROJECT,
    *,
    sound: bool = True,
) -> list[Verdict]:
    """Every fault whose judge is here, in the order of the list."""
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        builder = Path(folder, "builder")  # may be edited meanwhile
        shutil.copytree(project / "builder", builder, ignore=UNCOMPILED)
        alone = [each for each in chosen if not each.in_image]
        verdicts = units(alone, project, builder, given.at_once, store)
        for image in given.images:
            done = {each.name for each in verdicts}
            left = [each for each in chosen if each.name not in done]
            verdicts += in_image(image, left, given, store, builder, sound=sound)
    order = [each.name for each in MUTANTS]
    return sorted(verdicts, key=lambda each: order.index(each.name))


def earlier(folder: Path) -> list[Verdict]:
    """Verdicts of an earlier report on faults that are still listed."""
    file = folder / "mutations.json"
    if not file.exists():
        return []
    listed = {each.name for each in MUTANTS}
    old = (Verdict(**each) for each in json.loads(file.read_text())["faults"])
    return [each for each in old if each.name in listed]


def joined(new: Sequence[Verdict], old: Sequence[Verdict]) -> list[Verdict]:
    """The new verdicts, with `before` from the old ones, and those that were not tried now."""
    before = {each.name: each.before for each in old}
    found = [replace(each, before=before.get(each.name, "")) for each in new]
    tried_now = {each.name for each in new}
    found += [each for each in old if each.name not in tried_now]
    order = [each.name for each in MUTANTS]
    return sorted(found, key=lambda each: order.index(each.name))


def compare_with(
    commit: str, chosen: Sequence[Mutant], given: argparse.Namespace, store: Kept
) -> int:
    """Put the same faults into an earlier selfcheck; its checks and unit tests are the judges."""
    if not given.report:
        raise SystemExit("--before adds to a report: name its folder with --report")
    with tempfile.TemporaryDirectory(prefix="mutations-", dir=given.folder) as folder:
        archive = subprocess.run(["git", "archive", commit], check=True, cwd=PROJECT,
                                 stdout=subprocess.PIPE).stdout  # fmt: skip
        subprocess.run(["tar", "x", "-C", folder], check=True, input=archive)
        project = Path(folder)
        fitting = [each for each in chosen if fits(each, project)]
        verdicts = tried(fitting, given, store, project, sound=False)
    before = {each.name: said_before(each) for each in verdicts}
    before = {**{each.name: "not applicable" for each in chosen}, **before}
    old = earlier(given.report)
    told = [replace(each, before=before.get(each.name, each.before)) for each in old]
    for each in told:
        print(f"{each.before:14} {each.result:10} {each.name}")
    content = json.loads((given.report / "mutations.json").read_text())
    faults = [asdict(each) for each in told]
    write({**content, "before": commit, "faults": faults}, given.report)
    return 0


def fits(mutant: Mutant, project: Path) -> bool:
    """Whether the fault can be made there, and its test exists; a check may still be missing."""
    target = project / PACKAGE / mutant.file
    judge = mutant.in_image or (project / "tests/unit" / mutant.seen_by.partition("::")[0]).exists()
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


def units(
    mutants: Sequence[Mutant], project: Path, builder: Path, at_once: int, store: Kept
) -> list[Verdict]:
    """Those that unit tests must see: each with a copy of the package in front of our own."""
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(_unit, mutants, repeat(project), repeat(builder), repeat(store)))


def _unit(mutant: Mutant, project: Path, builder: Path, store: Kept) -> Verdict:
    key = _key_of(mutant, *_tests(project / "tests/unit", mutant.seen_by))
    found = store.find(key, builder)
    if found is None:
        found, read = _asked(mutant, project, builder)
        place = os.path.normpath(f"wheelyard/selfcheck/{mutant.file}")
        store.add(key, builder, needed(read, place, builder), found)
        print(f"  {json.dumps({'name': mutant.name, **found})[:160]}", file=sys.stderr, flush=True)
    return judged(mutant, **found)


def _tests(folder: Path, name: str) -> Iterator[bytes]:
    """Yield the test's file, and those beside it that every test here, or this one, imports."""
    name = name.partition("::")[0]
    text = (folder / name).read_text()
    helpers = (folder / f"{word}.py" for word in re.findall(r"^(?:from|import) (\w+)", text, re.M))
    for path in (folder / name, folder / "conftest.py", *helpers):
        if path.is_file():
            yield path.read_bytes()


def _asked(mutant: Mutant, project: Path, sound: Path) -> tuple[dict[str, Any], list[str]]:
    """Run the unit test; what it says, and the files of the package that it read."""
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        builder = Path(folder, "builder")
        shutil.copytree(sound, builder)
        target = Path(folder, PACKAGE, mutant.file)
        target.write_text(mutant.applied(target.read_text()))
        forget_reads(builder)
        path = os.pathsep.join((str(builder), str(project)))
        start = time.monotonic()
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
                   f"--basetemp={folder}/t", str(project / "tests/unit" / mutant.seen_by)]  # fmt: skip  # noqa: E501
        done = subprocess.run(
            ["sh", "-c", f'ulimit -t {SECONDS}; exec "$@"', "sh", *command],
            check=False, capture_output=True, text=True, cwd=project, timeout=30 * SECONDS,
            env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        seconds = round(time.monotonic() - start, 1)
        read = files_read(builder)
    endless = done.returncode in (-signal.SIGXCPU, -signal.SIGKILL)
    lines = reversed(done.stdout.splitlines())
    said = next((line for line in lines if line.startswith("FAILED")), "")
    reason = "the test came to no end" if endless else said.rpartition("::")[2][:200]
    return {"caught": endless or done.returncode == 1, "reason": reason, "seconds": seconds}, read


def _key_of(mutant: Mutant, *judge: bytes | str) -> str:
    """Name a question: this fault, asked of this judge."""
    return digest_of(mutant.file, mutant.old, mutant.new, mutant.seen_by, *judge)


def in_image(
    selector: str,
    mutants: Sequence[Mutant],
    given: argparse.Namespace,
    store: Kept,
    builder: Path,
    *,
    sound: bool,
) -> list[Verdict]:
    """Those that a check of this image must see; raises SystemExit when the sound ones fail."""
    (cell,) = select(load_plan(PROJECT), selector)
    frameworks = cell.framework.split("+")
    mine = [each for each in mutants if each.in_image and each.framework in frameworks]
    if not mine:
        return []
    layout = Layout(given.dist.absolute())
    if (there := layout.references().get(cell.tags[0])) is None:
        raise SystemExit(f"{given.dist} has no {cell.tags[0]}: wheelyard build {cell.id} --no-load")
    content = layout.read_json(there.digest)
    # All but the final layer, which has selfcheck, and that is copied over it.
    image = " ".join(layer["digest"] for layer in content["layers"][:-1])
    judge = (image, Path(__file__).with_name("inside.py").read_bytes())
    checks = sorted({each.seen_by for each in mine}) if sound else []
    without = [Mutant(check, "math", "cli.py", "", "", check) for check in checks]
    keys = {each.name: _key_of(each, *judge) for each in (*without, *mine)}
    package = builder / "wheelyard/selfcheck"
    found = {name: said for name, key in keys.items() if (said := store.find(key, package))}
    missing = {each.name: each for each in (*without, *mine) if each.name not in found}
    if missing:
        with unpacked(layout, content, frameworks, given.folder) as (root, settings):
            for framework in frameworks:
                jobs = [each for each in missing.values() if each.framework == framework]
                if not jobs:
                    continue
                for said in _run(jobs, framework, root, settings, package, given.at_once):
                    name, read = said.pop("name"), said.pop("read")
                    store.add(keys[name], package, needed(read, missing[name].file, package), said)
                    found[name] = said
    if wrong := {check: found[check] for check in checks if found[check]["status"] != "pass"}:
        raise SystemExit(f"{selector}: without a fault these do not pass: {wrong}")
    return [
        judged(each, caught=found[each.name]["status"] in ("fail", "crash"),
               reason=found[each.name]["reason"], seconds=found[each.name]["seconds"])
        for each in mine
    ]  # fmt: skip


def _run(
    jobs: Sequence[Mutant],
    framework: str,
    root: Path,
    settings: dict[str, Any],
    package: Path,
    at_once: int,
) -> Iterator[dict[str, Any]]:
    """Yield what the image says of each, as soon as it is known."""
    place = root / INSIDE
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(package, place / "selfcheck")
    for name in ("inside.py", "kept.py"):
        shutil.copy(Path(__file__).with_name(name), place)
    numbered = [{**asdict(each), "number": number} for number, each in enumerate(jobs)]
    (place / "jobs.json").write_text(json.dumps(numbered))
    subprocess.run(["chown", "-R", "1000:1000", str(place)], check=True)
    words = ["python", f"/{INSIDE}/inside.py", framework, f"/{INSIDE}", str(at_once)]
    with subprocess.Popen(chroot_command(root, settings, words), stdout=subprocess.PIPE,
                          text=True) as process:  # fmt: skip
        for line in process.stdout or ():
            if line.startswith("{"):
                print(f"  {line.strip()[:160]}", file=sys.stderr, flush=True)
                yield json.loads(line)
    if process.returncode:
        raise SystemExit(f"the runner in the image ended with {process.returncode}")


@contextmanager
def unpacked(
    layout: Layout, content: dict[str, Any], frameworks: Sequence[str], folder: Path | None
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A built image's files, and its config."""
    config = layout.read_json(content["config"]["digest"])
    told = [each["created_by"] for each in config["history"] if not each.get("empty_layer")]
    layers = [
        layout.blob(layer["digest"])
        for layer, what in zip(content["layers"], told, strict=True)
        if "pytorch" in frameworks or not what.startswith(UNUSED)
    ]
    with tempfile.TemporaryDirectory(prefix="mutations-", dir=folder) as scratch:
        root = Path(scratch, "root").absolute()
        root.mkdir()
        Path(scratch).chmod(0o755)
        unpack(layers, root)
        make_mount_points(root)
        yield root, config["config"]


def described(verdicts: Sequence[Verdict], images: Sequence[str], of_now: str) -> dict[str, Any]:
    """The report as JSON."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{processor()}, {os.cpu_count()} processors, no GPU, {platform.system()}",
        "images": list(images),
        "selfcheck": of_now,
        "before": BEFORE,
        "summary": summary(verdicts),
        "faults": [asdict(each) for each in verdicts],
    }


def summary(verdicts: Sequence[Verdict]) -> str:
    """How many of each."""
    kinds = ("caught", "not caught", "excused", "excused, yet caught")
    counts = {kind: sum(each.result == kind for each in verdicts) for kind in kinds}
    return f"{len(verdicts)} faults: " + ", ".join(f"{n} {kind}" for kind, n in counts.items() if n)


def write(report: dict[str, Any], folder: Path) -> None:
    """The table, for programs and for people."""
    text = json.dumps(report, indent=1) + "\n"
    (folder / "mutations.json").write_text(text, encoding="utf-8")
    verdicts, of_now = [Verdict(**each) for each in report["faults"]], report.get("selfcheck")
    older = sum(each.selfcheck != of_now for each in verdicts)
    lines = [
        "# Faults in selfcheck, and who sees them", "",
        f"`make test-mutations` on {report['date']}: {report['machine']}; {report['summary']}.",
        f"Images: {', '.join(report['images'])}.",
        *([f"Of an earlier selfcheck, and marked so: {older} verdicts."] if older else []),
        *_of_before(report["before"], verdicts), "",
        "| fault | kind | seen by | before | result | what it said, or why nothing can see it |",
        "|---|---|---|---|---|---|",
        *(f"| {each.name} | {each.kind} | `{each.seen_by}` | {each.before or '-'} | "
          f"{each.result}{'' if each.selfcheck == of_now else ' (earlier)'} | "
          f"{each.reason.replace('|', '/')} |" for each in verdicts),
    ]  # fmt: skip
    (folder / "mutations.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _of_before(commit: str, verdicts: Sequence[Verdict]) -> list[str]:
    counts = Counter(each.before for each in verdicts)
    told = ", ".join(f"{counts[kind]} {kind}" for kind in ("caught", "not caught"))
    return [
        "",
        f"Before: the same fault in commit {commit}, judged by that commit's own checks and "
        f"unit tests: {told}, {counts['not applicable']} not applicable (its code, or the check, "
        "was not there yet).",
    ]


if __name__ == "__main__":
    sys.exit(main())
