"""Records, pages and comparisons: what `wheelyard verify` and `wheelyard bench` make of checks."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import planning
import pytest

from wheelyard.cli import main
from wheelyard.console.amounts import Unit
from wheelyard.console.progress import QuietReporter
from wheelyard.console.tasks import Task
from wheelyard.errors import VerifyError
from wheelyard.oci.layout import MANIFEST_TYPE, REF_NAME, Descriptor, Layout
from wheelyard.selfcheck.gpu.driver import Driver, Gpu
from wheelyard.system.distribution import version_line
from wheelyard.system.subprocesses import run
from wheelyard.verify import places
from wheelyard.verify.charts import HEIGHT, WIDTH, bars, curves, polyline
from wheelyard.verify.compare import Series, compare
from wheelyard.verify.pages import to_html, to_junit, write_pages
from wheelyard.verify.places import Answer, Place, Run, chroot_command, find_place
from wheelyard.verify.record import Record, read_record, record_path, write_record
from wheelyard.verify.verify import Request, parse, verify

PROJECT = Path(__file__).parents[2]
DIGEST = "sha256:" + "ab" * 32


def check(name: str, status: str = "pass", reason: str | None = None, seen: Any = None) -> Any:
    return {"name": name, "status": status, "reason": reason, "seen": seen, "expected": None,
            "seconds": 0.5}  # fmt: skip


def bench(name: str, *speeds: float, mixed: float | None = None) -> Any:
    seen: dict[str, Any] = {"float32": {"samples_per_second": speeds[0], "runs": list(speeds)}}
    if mixed is not None:
        seen["mixed"] = {"samples_per_second": mixed, "runs": [mixed]}
    return check(name, seen=seen)


CHECKS = (
    check("versions.python", seen="3.11.2"),
    check("gpu.driver", "skip", "no NVIDIA driver here"),
    check("train.mlp.pytorch", "fail", "the loss <fell> & stayed\x1b", {"losses": [2.0, 1.0, 0.5],
          "scores": {"accuracy": 0.875}}),
    bench("bench.mlp.pytorch", 1000.0, 990, 1010, 1005, mixed=2000.0),
)  # fmt: skip


def record(**changes: Any) -> Record:
    values: dict[str, Any] = {
        "id": "pytorch-2.3.1-cuda12.1-cudnn8.9-py3.11-runtime", "digest": DIGEST,
        "tags": ("pytorch:2.3.1",), "backend": "chroot", "gpu": False, "groups": ("all",),
        "seconds": 12.5, "checks": CHECKS, "machine": "host 550.54 GPU-1",
    }  # fmt: skip
    return Record(**values | changes)


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_record(tmp_path, record())
    assert read_record(tmp_path, DIGEST) == record()
    other = "sha256:" + "cd" * 32
    record_path(tmp_path, DIGEST).rename(record_path(tmp_path, other))
    assert read_record(tmp_path, other) is None  # it is another image's


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 0}', '{"version": 1}'])
def test_a_damaged_record_is_no_record(tmp_path: Path, text: str) -> None:
    record_path(tmp_path, DIGEST).write_text(text)
    assert read_record(tmp_path, DIGEST) is None
    assert read_record(tmp_path, "sha256:other") is None


def test_only_a_pass_in_the_same_place_answers_again() -> None:
    def known(kept: Record, place: str = "chroot", *groups: str, gpu: bool = False) -> bool:
        return kept.answers(place, gpu, groups or ("all",), False, "host 550.54 GPU-1")

    good = record(checks=CHECKS[:2])
    assert known(good)
    assert known(good, "chroot", "versions", "gpu")
    assert not known(good, "docker")
    assert not known(good, gpu=True)
    assert not known(record())  # a check failed
    assert not known(record(checks=(), error="no engine"))
    assert not known(record(checks=()))  # nothing was asked
    part = record(checks=CHECKS[:1], groups=("versions",))
    assert known(part, "chroot", "versions")
    assert not known(part)


@pytest.mark.parametrize(
    "machine", ["other 550.54 GPU-1", "host 580.65 GPU-1", "host 550.54 GPU-2", "host", ""]
)
def test_another_host_driver_or_gpu_is_another_place(machine: str) -> None:
    good = record(checks=CHECKS[:1])
    assert good.answers("chroot", False, ("all",), False, "host 550.54 GPU-1")
    assert not good.answers("chroot", False, ("all",), False, machine)


def test_a_place_is_a_host_its_driver_and_its_very_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    def machine(*gpus: Gpu, version: str = "550.54") -> str:
        monkeypatch.setattr(places, "read_driver", lambda: Driver(version, gpus, "nvml"))
        return find_place("chroot", QuietReporter(sys.stderr)).machine

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    one, two = (Gpu("Tesla T4", 15360, "7.5", uuid=f"GPU-{at}") for at in (1, 2))
    nameless = Gpu("Tesla T4", 15360, "7.5")
    found = [machine(one), machine(two), machine(one, two), machine(one, version="580.65")]
    found += [machine(nameless), machine()]
    assert len(set(found)) == len(found)
    assert machine(one) == found[0]


def test_a_gpu_that_is_required_is_not_proven_by_a_run_that_skipped_it() -> None:
    """CHECKS has a GPU check that was skipped: with --require-gpu it would have failed."""
    plain, strict = record(checks=CHECKS[:2]), record(checks=CHECKS[:1], required=True)
    place = ("chroot", False, ("all",))
    assert not plain.answers(*place, True, plain.machine)
    assert strict.answers(*place, True, plain.machine)
    assert strict.answers(*place, False, plain.machine)


def test_junit_has_a_case_a_check() -> None:
    root = ET.fromstring(to_junit([record(), record(checks=(), error="it did not start")]))
    first, second = root.findall("testsuite")
    assert (first.get("tests"), first.get("failures"), first.get("skipped")) == ("4", "1", "1")
    failure = first.find("testcase[@name='train.mlp.pytorch']/failure")
    assert failure is not None
    assert failure.get("message") == "the loss <fell> & stayed"
    assert json.loads(failure.text or "")["seen"]["losses"] == [2.0, 1.0, 0.5]
    skipped = first.find("testcase[@name='gpu.driver']/skipped")
    assert skipped is not None
    assert skipped.get("message") == "no NVIDIA driver here"
    assert second.get("errors") == "1"


def test_curves_fill_their_frame() -> None:
    (curve,) = curves(record())
    assert (curve.title, curve.top, curve.losses) == ("mlp.pytorch", "2", ["2", "1", "0.5"])
    assert curve.points.split()[0] == "0.0,0.0"
    assert curve.points.split()[-1] == f"{WIDTH:.1f},{HEIGHT * 0.75:.1f}"
    assert polyline([1.0]) == "0.0,0.0"


def test_losses_that_are_no_numbers_leave_no_curve_and_break_no_page() -> None:
    """selfcheck's JSON has null for nan."""
    seen = {"losses": [2.0, None, 1.0], "scores": {"accuracy": None, "f1": 0.5}}
    overflowed = check("train.x.pytorch", "fail", "the loss is not a finite number", seen)
    none = check("train.y.pytorch", "fail", "nan", {"losses": [None], "scores": {"accuracy": 0.1}})
    (curve,) = curves(record(checks=(overflowed, none)))
    assert (curve.losses, curve.scores) == (["2", "1"], {"f1": 0.5})
    page = to_html([record(checks=(overflowed, none))], PROJECT / "templates")
    assert "the loss is not a finite number" in page


def test_bars_are_parts_of_the_longest_of_their_model() -> None:
    slow = record(id="other", checks=(bench("bench.mlp.pytorch", 500.0),))
    (shapes,) = bars([record(), slow]).values()
    assert [(bar.kind, bar.percent) for bar in shapes] == [
        ("float32", 50), ("mixed", 100), ("float32", 25),
    ]  # fmt: skip


def test_throughput_stands_beside_the_device_s_peak() -> None:
    speed = {"samples_per_second": 12345.6, "tflops": 98.76, "of_peak": 0.1234, "runs": [1]}
    model = check("bench.cnn.pytorch", seen={"device": "NVIDIA H100", "batch": 8, "float32": speed})
    product = {"device": "NVIDIA H100", "size": 8192, "tf32": {"tflops": 400.0, "of_peak": 0.8}}
    unknown = {"device": "Some CPU", "float32": {"tflops": 0.5, "of_peak": None}}
    checks = (
        model,
        check("bench.matmul.pytorch", seen=product),
        check("bench.matmul.tensorflow", seen=unknown),
    )
    text = to_html([record(checks=checks)], PROJECT / "templates")
    rows = [" ".join(row.split()) for row in Page(text).rows]
    image = record().id
    assert f"{image} NVIDIA H100 float32 12,346 98.8 TFLOP/s 12.3% of peak" in rows
    assert f"{image} NVIDIA H100 tf32 400 TFLOP/s 80.0% of peak" in rows
    assert f"{image} Some CPU float32 0.5 TFLOP/s peak not known" in rows


MADE = {
    "date": "2026-11-28T12:40:00+00:00", "host": "node7", "cpu": "AMD EPYC 9554, 16 cores",
    "device": ["NVIDIA H100 80GB HBM3", "NVIDIA <b>"], "driver": "550.54.15",
    "selfcheck": "0123456789ab", "level": "medium", "wheelyard": "0.1.0 (revision 1234567890ab)",
}  # fmt: skip


def test_the_page_names_the_machine_and_what_was_found_there() -> None:
    page = Page(to_html([record(made=MADE)], PROJECT / "templates"))
    assert page.terms == {
        "date": "2026-11-28T12:40:00+00:00", "host": "node7", "CPU": "AMD EPYC 9554, 16 cores",
        "GPU": "NVIDIA H100 80GB HBM3, NVIDIA <b>", "driver": "550.54.15",
        "versions": "python 3.11.2", "wheelyard": "0.1.0 (revision 1234567890ab)",
        "selfcheck": "0123456789ab medium",
    }  # fmt: skip


def test_a_machine_without_a_gpu_is_said_to_have_none() -> None:
    made = MADE | {"device": ["AMD EPYC 9554"], "driver": None}
    terms = Page(to_html([record(made=made)], PROJECT / "templates")).terms
    assert (terms["CPU"], terms["GPU"]) == ("AMD EPYC 9554, 16 cores", "none")
    old = {name: made[name] for name in ("date", "device")}  # an image made before
    terms = Page(to_html([record(made=old)], PROJECT / "templates")).terms
    assert (terms["CPU"], terms["GPU"], terms["host"]) == ("AMD EPYC 9554", "none", "not known")


def test_ok_hides_no_skips() -> None:
    """Neither on the page, nor in the report, nor on the terminal."""
    skips = [check(f"gpu.{n}", "skip", "no NVIDIA driver here") for n in range(3)]
    other = check("train.x", "skip", "no <pandas>")
    some = record(checks=(CHECKS[0], *skips, other))
    assert some.ok
    assert some.result == "1 ok, 4 skipped"
    assert some.skip_reasons == ["no NVIDIA driver here (3)", "no <pandas> (1)"]
    page = Page(to_html([some], PROJECT / "templates"))
    row = next(row for row in page.rows if row.startswith(some.id))
    assert "1 ok , 4 skipped" in " ".join(row.split())
    assert "no NVIDIA driver here (3); no <pandas> (1)" in row
    assert record().result == "1 FAILED, 2 ok, 1 skipped"
    assert record(error="no engine").result == "not run"
    assert record(checks=()).result == "no checks"


def test_on_a_telephone_every_cell_has_its_column_s_name() -> None:
    text = to_html([record()], PROJECT / "templates")
    page = Page(text)
    assert page.cells  # of tables whose rows become cards there
    assert all(label for label in page.cells)
    narrow = text[text.index("@media (max-width") :]
    assert "content: attr(data-label)" in narrow[: narrow.index("</style>")]


def test_what_ran_is_recorded(tmp_path: Path) -> None:
    said = {**MADE, "host": "a1b2c3", "image": "x", "checks": [check("versions.python")]}
    del said["wheelyard"]
    images = Images({"sha256:" + "aa" * 32: Answer(0, json.dumps(said), "")})
    ((kept, _known),) = verified(tmp_path, images)
    here = {"host": "node7", "wheelyard": version_line()}  # a container's own name says nothing
    assert kept.made == {**{name: MADE[name] for name in MADE}, **here}
    assert read_record(tmp_path / "reports", kept.digest) == kept


def test_earlier_runs_are_kept_and_shown(tmp_path: Path) -> None:
    """By digest, of every host; what was asked again and answered from the record is no run."""
    digest = "sha256:" + "aa" * 32
    checks = [check("versions.python"), check("gpu.driver", "fail", "no <driver>")]
    said = {**MADE, "checks": checks, "device": ["L4", "H100"], "driver": "550.54"}
    failing = Images({digest: Answer(1, json.dumps(said), "")})
    passing = Images({digest: Answer(0, json.dumps({**said, "checks": checks[:1]}), "")})
    hosts = [replace(CHROOT, host=host, machine=f"{host} 550.54") for host in ("node1", "node2")]
    for host, images in zip((*hosts, hosts[1]), (failing, passing, passing), strict=True):
        ((kept, _known),) = verified(tmp_path, images, place=host)
    (first,) = kept.earlier
    assert (first.host, first.device, first.driver) == ("node1", "L4, H100", "550.54")
    assert (first.result, first.failed) == ("1 FAILED, 1 ok", "gpu.driver")
    ((kept, _known),) = verified(tmp_path, failing, again=True, place=hosts[0])
    assert [run.host for run in kept.earlier] == ["node2", "node1"]
    assert read_record(tmp_path / "reports", digest) == kept
    page = Page(to_html([kept], PROJECT / "templates"))
    told = [row for row in page.rows if "node1" in row or "node2" in row]
    assert len(told) == 2
    assert "gpu.driver" in told[1]
    for _ in range(60):
        kept = replace(kept, earlier=kept.history)
    assert len(kept.earlier) == 50


@pytest.mark.parametrize("earlier", [[1], [{"date": "x"}], "x", {"a": 1}, [{}] * 51])
def test_a_history_that_no_run_wrote_is_no_record(tmp_path: Path, earlier: object) -> None:
    write_record(tmp_path, record())
    path = record_path(tmp_path, DIGEST)
    content = json.loads(path.read_text())
    del content["earlier"]  # as records were before there was one
    path.write_text(json.dumps(content))
    assert read_record(tmp_path, DIGEST) == record()
    path.write_text(json.dumps({**content, "earlier": earlier}))
    assert read_record(tmp_path, DIGEST) is None


class Page(HTMLParser):
    """Counts elements, and sees that every one is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.count: dict[str, int] = {}
        self.open: list[str] = []
        self.words = ""
        self.classes: list[str] = []
        self.labels: list[str] = []
        self.rows: list[str] = []  # the words of each row of a table
        self.cells: list[str | None] = []  # the labels of cells in tables that become cards
        self.terms: dict[str, str] = {}
        self._cards = False
        self._term = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1
        self.classes.append(dict(attrs).get("class") or "")
        self.labels.append(dict(attrs).get("aria-label") or "")
        if tag == "table":
            self._cards = dict(attrs).get("class") == "rows"
        elif tag == "tr":
            self.rows.append("")
        elif tag == "td" and self._cards:
            self.cells.append(dict(attrs).get("data-label"))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data
        if "tr" in self.open:
            self.rows[-1] += data if self.open[-1] == "span" else f" {data}".lstrip("\n")
            self.rows[-1] = self.rows[-1].lstrip()
        if self.open and self.open[-1] == "dt":
            self._term = data
        elif self.open and self.open[-1] == "dd":
            self.terms[self._term] = self.terms.get(self._term, "") + data


def test_the_page_shows_every_image_with_curves_and_bars() -> None:
    page = Page(to_html([record(), record(digest="sha256:cd")], PROJECT / "templates"))
    assert page.open == []
    assert (page.count["polyline"], page.classes.count("bar mixed")) == (2, 2)
    assert page.count["h2"] == 3
    assert "the loss <fell> & stayed" in page.words
    assert "mlp.pytorch: the loss of 3 epochs: 2, 1, 0.5" in page.labels  # for who hears the page


def test_the_page_can_be_read_in_the_dark_and_on_a_telephone() -> None:
    """Colours a theme, each strong enough against its page (WCAG 2.1: 4.5, shapes 3)."""
    text = to_html([record()], PROJECT / "templates")
    assert '<meta name="viewport"' in text
    light, dark = re.findall(r":root \{([^}]*)\}", text)
    for theme in (light, dark):
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]+)", theme))
        for name in ("text", "faint", "link", "pass", "fail", "skip"):
            assert contrast(colours[name], colours["page"]) >= 4.5, name
        assert min(contrast(colours[name], colours["page"]) for name in ("float32", "mixed")) >= 3


def contrast(one: str, other: str) -> float:
    """The ratio of two colours' luminances, as WCAG 2.1 defines it."""
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    shares = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_pages_are_written_together(tmp_path: Path) -> None:
    paths = write_pages(tmp_path / "new", [record()], PROJECT / "templates")
    assert sorted(path.name for path in paths.values()) == [
        "index.html", "junit.xml", "report.json",
    ]  # fmt: skip
    (image,) = json.loads(paths["json"].read_text())["images"]
    assert (image["digest"], image["ok"]) == (DIGEST, False)


def test_what_selfcheck_prints_is_checks_or_an_error() -> None:
    assert parse(Answer(1, '{"checks": [{"name": "a"}], "date": "2026"}', "")) == {
        "checks": [{"name": "a"}],
        "date": "2026",
    }
    with pytest.raises(VerifyError):
        parse(Answer(0, "[]", ""))
    with pytest.raises(VerifyError) as caught:
        parse(Answer(127, "", "selfcheck: not found\n"))
    assert "selfcheck in the image failed (exit code 127)" in str(caught.value)
    assert "selfcheck: not found" in str(caught.value)
    with pytest.raises(VerifyError, match="killed, probably because it ran out of memory"):
        parse(Answer(137, "", ""))


def test_a_chroot_gets_the_images_user_environment_and_folder() -> None:
    settings = {"Env": ["PATH=/opt/venv/bin:/bin", "LANG=C.UTF-8"], "WorkingDir": "/workspace"}
    command = chroot_command(Path("/srv/root"), settings, ["selfcheck", "--json"])
    job = json.loads(command[-1])
    assert (job["root"], job["uid"], job["gid"], job["groups"]) == ("/srv/root", 1000, 1000, [900])
    assert job["argv"] == [
        "/usr/bin/env", "-i", "-C", "/workspace", "PATH=/opt/venv/bin:/bin", "LANG=C.UTF-8",
        "HOME=/home/dev", "selfcheck", "--json",
    ]  # fmt: skip
    assert job["env"] == {}


@dataclass
class Images:
    """Stands for images that can be run: what each prints, and how often one was."""

    answers: dict[str, Answer]
    runs: list[str] = field(default_factory=list)

    @contextmanager
    def open(self, place: Place, digest: str, *_rest: object) -> Iterator[Run]:
        def run(argv: Sequence[str], _on_line: Callable[[str], None]) -> Answer:
            self.runs.append(f"{digest} {' '.join(argv)}")
            return self.answers[digest]

        yield run


CHROOT = Place("chroot", gpu=False, host="node7")


def verified(
    folder: Path, images: Images, *, again: bool = False, place: Place = CHROOT
) -> list[tuple[Record, bool]]:
    cells = planning.committed_plan().cells[: len(images.answers)]
    layout = Layout(folder / "dist")
    layout.create()
    entries = [
        {**Descriptor(MANIFEST_TYPE, digest, 1).as_json(), "annotations": {REF_NAME: cell.tags[0]}}
        for cell, digest in zip(cells, images.answers, strict=True)
    ]
    (layout.folder / "index.json").write_text(json.dumps({"manifests": entries}))
    request = Request(("all",), False, again, folder / "reports", folder)
    return verify(cells, layout, place, request, QuietReporter(None), images.open)


def test_an_image_that_passed_is_not_tested_twice_unless_asked(tmp_path: Path) -> None:
    good = Answer(0, json.dumps({"checks": [check("versions.python")]}), "")
    bad = Answer(1, json.dumps({"checks": [check("versions.python", "fail", "no")]}), "")
    broken = Answer(127, "", "no such command")
    aa, bb, cc = (f"sha256:{letters * 32}" for letters in ("aa", "bb", "cc"))
    images = Images({aa: good, bb: bad, cc: broken})
    first = verified(tmp_path, images)
    assert [(record.ok, known) for record, known in first] == [
        (True, False), (False, False), (False, False),
    ]  # fmt: skip
    assert "no such command" in (first[2][0].error or "")
    assert images.runs[0] == f"{aa} selfcheck --json all"
    images.runs.clear()
    assert [known for _record, known in verified(tmp_path, images)] == [True, False, False]
    assert [run.split()[0] for run in images.runs] == [bb, cc]
    images.runs.clear()
    verified(tmp_path, images, again=True)
    assert len(images.runs) == 3


class Steps(QuietReporter):
    """Keeps what is shown of each piece of work."""

    def __init__(self) -> None:
        super().__init__(None)
        self.shown: list[str | int] = []

    @contextmanager
    def task(self, label: str, total: int | None, unit: Unit) -> Iterator[Task]:
        self.shown.append(label)
        yield self

    def advance(self, amount: int) -> None:
        self.shown.append(amount)

    def at(self, step: str) -> None:
        self.shown.append(step)


def test_the_check_that_runs_is_shown_while_it_runs(tmp_path: Path) -> None:
    """selfcheck itself, in the place of an image's: its errors name each check before it runs."""
    steps = Steps()

    @contextmanager
    def itself(*_: object) -> Iterator[Run]:
        def work(argv: Sequence[str], on_line: Callable[[str], None]) -> Answer:
            command = [sys.executable, "-m", "wheelyard.selfcheck", *argv[1:]]
            done = run(command, error=None, timeout=120, on_error_line=on_line)
            return Answer(done.returncode, done.stdout, done.stderr)

        yield work

    cell = planning.committed_plan().cells[0]
    layout = Layout(tmp_path / "dist")
    layout.create()
    entry = {
        **Descriptor(MANIFEST_TYPE, DIGEST, 1).as_json(),
        "annotations": {REF_NAME: cell.tags[0]},
    }
    (layout.folder / "index.json").write_text(json.dumps({"manifests": [entry]}))
    request = Request(("versions", "libraries"), False, False, tmp_path / "reports", tmp_path)
    place = Place("chroot", gpu=False)
    ((kept, _known),) = verify([cell], layout, place, request, steps, itself)
    names = [check["name"] for check in kept.checks]
    assert len(names) > 2
    assert steps.shown[0] == f"{cell.id}: checks"
    assert [step for step in steps.shown[1:] if isinstance(step, str)] == names
    assert sum(step for step in steps.shown if isinstance(step, int)) == len(names)


def test_an_image_that_is_not_built_is_named(tmp_path: Path) -> None:
    cell = planning.committed_plan().cells[0]
    layout = Layout(tmp_path)
    layout.create()
    request = Request(("all",), False, False, tmp_path, tmp_path)
    with pytest.raises(VerifyError, match=f"run: wheelyard build {cell.id}"):
        verify([cell], layout, Place("chroot", gpu=False), request, QuietReporter(None))


def test_a_folder_of_records_that_cannot_be_made_is_met_before_the_checks(tmp_path: Path) -> None:
    (tmp_path / "reports").touch()
    images = Images({DIGEST: Answer(0, json.dumps({"checks": [check("versions.python")]}), "")})
    with pytest.raises(FileExistsError):
        verified(tmp_path, images)
    assert images.runs == []


def series(*runs: float) -> dict[str, Series]:
    return {"x": Series("x", runs)}


def test_a_slowdown_counts_only_beyond_noise() -> None:
    quiet = series(100, 100.5, 99.5, 100, 100)
    assert compare(quiet, series(96, 96, 96, 96, 96))[0].verdict == "same"
    assert compare(quiet, series(90, 90, 90, 90, 90))[0].verdict == "slower"
    assert compare(quiet, series(110, 110, 110, 110, 110))[0].verdict == "faster"
    noisy = series(60, 140, 80, 120, 100)
    assert compare(noisy, series(80, 80, 80, 80, 80))[0].verdict == "same"


def report(path: Path, *speeds: float) -> str:
    path.write_text(json.dumps({"checks": [bench("bench.mlp.pytorch", *speeds)]}))
    return str(path)


def test_bench_compare_is_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = report(tmp_path / "a.json", 100, 101, 99, 100, 100)
    after = report(tmp_path / "b.json", 70, 71, 69, 70, 70)
    assert main(["bench", "--compare", before, before]) == 0
    capsys.readouterr()
    assert main(["bench", "--compare", before, after, "--json"]) == VerifyError.exit_code
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["name"], row["verdict"], row["ratio"]) == (
        "bench.mlp.pytorch float32",
        "slower",
        0.7,
    )


@pytest.mark.parametrize("change", [{"device": "NVIDIA A10"}, {"batch": 64}])
def test_bench_compares_like_with_like(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any]
) -> None:
    """Half of the speed on another device, or with a batch made smaller, is no regression."""
    for name, speed, more in (("a", 100.0, {}), ("b", 50.0, change)):
        made = bench("bench.mlp.pytorch", speed, speed, speed, speed)
        made["seen"] |= {"device": "NVIDIA H100", "batch": 1024, **more}
        (tmp_path / name).write_text(json.dumps({"checks": [made]}))
    assert main(["bench", "--compare", str(tmp_path / "a"), str(tmp_path / "b"), "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)[0]["verdict"] == "other"
    assert "1 of 1 measurements were made on another device" in said.err


def test_between_folders_the_spread_between_processes_is_the_noise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Windows of a process differ by 1 % here, processes by 20 %: 15 % slower is noise."""
    for side, speeds in (("old", (90, 100, 110)), ("new", (80, 85, 95)), ("slow", (40, 45, 50))):
        (tmp_path / side).mkdir()
        for at, speed in enumerate(speeds):
            report(tmp_path / side / f"{at}.json", speed, speed * 1.01, speed * 0.99, speed, speed)
    old, new, slow = (str(tmp_path / name) for name in ("old", "new", "slow"))
    assert main(["bench", "--compare", f"{old}/1.json", f"{new}/1.json"]) == VerifyError.exit_code
    capsys.readouterr()
    assert main(["bench", "--compare", old, new, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["before"], row["after"], row["verdict"]) == (100, 85, "same")
    assert main(["bench", "--compare", old, slow]) == VerifyError.exit_code


def test_a_folder_needs_two_reports_that_are_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report(tmp_path / "a.json", 100, 100, 100, 100)
    assert main(["bench", "--compare", str(tmp_path), str(tmp_path)]) == 2
    assert "has 1 reports (*.json); at least 2 are compared" in capsys.readouterr().err
    other = bench("bench.mlp.pytorch", 100, 100, 100, 100)
    other["seen"] |= {"batch": 7}
    (tmp_path / "b.json").write_text(json.dumps({"checks": [other]}))
    assert main(["bench", "--compare", str(tmp_path), str(tmp_path)]) == 2
    assert "several batches" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "{}", '{"checks": []}', '{"checks": [{"name": "x"}]}'])
def test_bench_names_a_file_that_is_no_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text(text)
    assert main(["bench", "--compare", str(wrong), str(wrong)]) == 2
    assert "wrong.json" in capsys.readouterr().err
