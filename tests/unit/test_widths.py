"""What people see on terminals of 80 to 160 columns, by a real pseudo-terminal."""

from __future__ import annotations

import fcntl
import itertools
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path

import pytest

from wheelyard.cli import COMMANDS, main
from wheelyard.console.plain import fitted

ROOT = Path(__file__).parents[2]
WIDTHS = (80, 100, 120, 160)
WHEEL = "nvidia_cusolver_cu12-11.4.5.107-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl"
TASKS = f"""
import sys, time
from wheelyard.console.terminal import TerminalReporter
reporter = TerminalReporter(sys.stderr, color=False)
with reporter.task("images", 8, "items") as images, \\
        reporter.task({WHEEL!r}, 1_500_000_000, "bytes") as wheel:
    for _ in range(6):
        images.advance(1)
        wheel.advance(300_000_000)  # more than there is, as after a restart
        time.sleep(0.15)
reporter.close()
"""
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
END = b"\0"
UNSET = ("COLUMNS", "LINES", "CI", "NO_COLOR")


def lines_of(written: bytearray) -> list[str]:
    """What a terminal was sent, line by line, without escape sequences."""
    text = ESCAPE.sub("", written.removesuffix(END).decode())
    return [line for line in re.split(r"[\r\n]+", text) if line.strip()]


@contextmanager
def terminal(columns: int, written: bytearray) -> Iterator[int]:
    """A terminal of that width; what it is sent is in `written` afterwards."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))

    def read() -> None:
        while not written.endswith(END):
            written.extend(os.read(leader, 1 << 16))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield follower
    finally:
        os.write(follower, END)  # a helper process may still have the terminal open
        reader.join()
        os.close(follower)
        os.close(leader)


@cache  # several tests ask about the same progress
def seen(columns: int, *argv: str, codes: tuple[int, ...] = (0,)) -> list[str]:
    """The lines that a program writes to a terminal of that width."""
    env = {k: v for k, v in os.environ.items() if k not in UNSET}
    written = bytearray()
    with terminal(columns, written) as screen:
        process = subprocess.Popen(
            argv, stdin=screen, stdout=screen, stderr=screen, cwd=ROOT, env={**env, "TERM": "xterm"}
        )
        code = process.wait()
    assert code in codes, written.decode()
    return lines_of(written)


class Said:
    """The command line in this process, whose own standard streams are a terminal meanwhile."""

    def __call__(self, columns: int, *commands: list[str]) -> tuple[list[str], list[int]]:
        """Give what commands write to a terminal of that width, and their exit codes."""
        written = bytearray()
        with terminal(columns, written) as screen, standard_streams(screen):
            codes = [main(words) for words in commands]
        return lines_of(written), codes


@contextmanager
def standard_streams(screen: int) -> Iterator[None]:
    kept = [os.dup(number) for number in range(3)]
    try:
        for number in range(3):
            os.dup2(screen, number)
        with (
            open(1, "w", closefd=False) as out, open(2, "w", closefd=False) as err,
            redirect_stdout(out), redirect_stderr(err),
        ):  # fmt: skip
            yield
    finally:
        for number, before in enumerate(kept):
            os.dup2(before, number)
            os.close(before)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Said:
    for name in UNSET:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.chdir(ROOT)
    return Said()


STEPS = """
import sys, time
from wheelyard.console.terminal import TerminalReporter
reporter = TerminalReporter(sys.stderr, color=False)
label = "pytorch-2.3.1-cuda12.1-cudnn8.9-py3.11-runtime: checks"
with reporter.task(label, None, "items") as task:
    for name in ("versions.python", "distributed.elastic.pytorch"):
        task.at(name)
        time.sleep(0.3)
        task.advance(1)
reporter.close()
"""


@pytest.mark.parametrize("columns", WIDTHS)
def test_the_running_check_is_shown_whole_before_the_image(columns: int) -> None:
    lines = seen(columns, sys.executable, "-c", STEPS)
    assert max(map(len, lines)) <= columns
    assert any(line.startswith("distributed.elastic.pytorch  pytorch-2.3.1") for line in lines)


@pytest.mark.parametrize("columns", WIDTHS)
def test_progress_fits_and_only_names_are_shortened(columns: int) -> None:
    lines = seen(columns, sys.executable, "-c", TASKS)
    assert max(map(len, lines)) <= columns
    rows = [line for line in lines if line.startswith("nvidia") and " / " in line]
    assert rows
    for row in rows:
        assert re.search(r"[\d.]+ [kMG]?B / 1\.50 GB", row), row
        assert row.startswith("nvidia_cusolver"), row
    assert any(line.startswith("images") and re.search(r"\d / 8", line) for line in lines)


@pytest.mark.parametrize("columns", WIDTHS)
def test_totals_are_never_exceeded(columns: int) -> None:
    for line in seen(columns, sys.executable, "-c", TASKS):
        if found := re.search(r"([\d.]+) GB / ([\d.]+) GB", line):
            assert float(found[1]) <= float(found[2]), line


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize(
    ("target", "marks", "most"), [("help", "## ", 24), ("help-all", "##+ ", 99)]
)
def test_what_make_lists_fits(columns: int, target: str, marks: str, most: int) -> None:
    """What is for images fits the 24 rows of a terminal as well."""
    lines = seen(columns, "make", target)
    assert max(map(len, lines)) <= columns
    assert len(lines) <= most
    listed = [line.split()[0] for line in lines if re.match(r"  \S", line)]
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    assert listed == sorted(re.findall(rf"(?m)^([\w-]+):.* {marks}", makefile))


@pytest.mark.parametrize("columns", WIDTHS)
def test_tables_fit(columns: int, said: Said) -> None:
    lines, codes = said(columns, ["plan", "all"])
    assert max(map(len, lines)) <= columns
    assert codes == [0]


@pytest.mark.parametrize("columns", WIDTHS)
def test_findings_fit(columns: int) -> None:
    """By a process of its own: it asks for engines, which a unit test may not."""
    argv = [sys.executable, "-m", "wheelyard", "doctor", "--offline"]
    lines = seen(columns, *argv, codes=(0, 17))
    assert max(map(len, lines)) <= columns
    runtimes = "other runtimes|container runtime|Docker"  # what a machine has of them
    assert any(re.search(rf"^run +({runtimes})", line) for line in lines)


@pytest.mark.parametrize("columns", WIDTHS)
def test_help_fits_and_fills_its_paragraphs(columns: int, said: Said) -> None:
    lines, _ = said(columns, ["--help"], *([name, "--help"] for name in COMMANDS))
    assert max(map(len, lines)) <= columns
    start = next(at for at, line in enumerate(lines) if line.startswith("One failure does not"))
    first, word = lines[start], lines[start + 1].split()[0]
    assert len(first) + 1 + len(word) > min(columns - 2, 100)  # not a line of the source


NOBODY = "http://127.0.0.1:9/team"
LAYOUT = ["--output", "/nonexistent"]
PICK = ["pick", "--driver", "535.104", "--gpu"]
SAID = [
    ["plan", "pytroch"],
    ["plan", "nothing"],
    ["plan", "--explain", "pytorch-2.3"],
    ["bild"],
    ["build", "nothing-1.0"],
    ["build", "pytorch:2.3", "--index-url", "ftp://x"],
    [*PICK, "sm_90"],
    [*PICK, "sm_90", "--framework", "tensorflow"],
    [*PICK, "sm_120"],
    ["inspect", "pytorch:2.3", *LAYOUT],
    ["inspect", *LAYOUT],
    [*PICK, "sm_90", "--framework", "pytorch-9"],
    ["verify", "pytorch:2.3", *LAYOUT],
    ["push", "pytorch:2.3", *LAYOUT, "--registry", NOBODY],
    ["push", "pytorch:2.3"],
    ["reproduce", "pytorch:2.3"],
    ["audit", "pytorch:2.3"],
    ["run", "nothing"],
    ["deploy", "pytorch:2.3", "--kind", "quadlet", "--workspace", "pvc:x"],
    ["devcontainer", "prepare", "nothing"],
    ["devcontainer", "init", "--driver", "1"],
    ["lock", "--check", "nothing"],
]


@pytest.mark.parametrize("columns", [80, 120])
def test_what_commands_say_fits(columns: int) -> None:
    """By a process of its own: builds start helpers, which would keep this terminal."""
    program = f"from wheelyard.cli import main\nfor words in {SAID!r}: main(words)"
    lines = seen(columns, sys.executable, "-c", program)
    assert max(map(len, lines)) <= columns
    assert len([line for line in lines if line.startswith("error: ")]) == len(SAID) - 3


def test_the_second_line_of_an_example_is_indented(said: Said) -> None:
    lines, _ = said(80, *([name, "--help"] for name in COMMANDS))
    seconds = [after for line, after in itertools.pairwise(lines) if line.endswith(" \\")]
    assert len(seconds) > 3
    assert [line for line in seconds if not line.startswith("      ")] == []


def test_a_wrapped_command_can_be_pasted_and_a_named_one_stays_whole(said: Said) -> None:
    picked, _ = said(80, [*PICK, "sm_90"])
    at = next(at for at, line in enumerate(picked) if line.startswith("run "))
    assert picked[at].endswith(" --shm-size=8g \\")
    assert picked[at + 1] == "        pytorch:2.10.0-cuda12.8-cudnn9.10-py3.13"
    told, codes = said(80, ["inspect", "pytorch:2.3", *LAYOUT])
    assert codes == [10]
    assert told[-1] == "  run: wheelyard build pytorch-2.3.1-cuda12.1-cudnn8.9-py3.11-runtime"
    built = f"2 images are in /srv/{'x' * 40}; not loaded. Next: tar -C /srv/x -c . | docker load"
    assert any(
        x.endswith("Next: tar -C /srv/x -c . | docker load") for x in fitted(built, 80).split("\n")
    )


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_nothing_is_wrapped_in_a_pipe_nor_for_programs(
    more: list[str], said: Said, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([*PICK, "sm_90", *more]) == 0
    piped = capfd.readouterr().out
    line = next(line for line in piped.splitlines() if "is the newest that runs here" in line)
    assert line.endswith(("the machine has 535.104", 'the machine has 535.104",'))
    if more:
        assert line in said(80, [*PICK, "sm_90", *more])[0]
    assert main([*PICK, "sm_120", *more]) != 0
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_wide_shows_all(said: Said) -> None:
    lines, _ = said(80, ["plan", "--wide", "pytorch-2.3.1-runtime"])
    assert lines[0].split()[-1] == "tags"
    assert "pytorch:2.3.1-cuda12.1-cudnn8.9-py3.11" in lines[1]


def test_a_pipe_gets_every_column(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["plan", "pytorch-2.3.1-runtime"]) == 0
    out, err = capfd.readouterr()
    assert out.splitlines()[0].split()[-1] == "tags"
    assert err == ""
