"""What people see on terminals of 80 to 160 columns, by a real pseudo-terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

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


def seen(columns: int, *argv: str, codes: tuple[int, ...] = (0,)) -> list[str]:
    """The lines that a program writes to a terminal of that width, without escape sequences."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    env = {k: v for k, v in os.environ.items() if k not in {"COLUMNS", "LINES", "CI", "NO_COLOR"}}
    process = subprocess.Popen(
        argv, stdin=follower, stdout=follower, stderr=follower, cwd=ROOT,
        env={**env, "TERM": "xterm"},
    )  # fmt: skip
    os.close(follower)
    written = bytearray()
    try:
        while data := os.read(leader, 1 << 16):
            written += data
    except OSError:  # EIO: the program has closed its side
        pass
    os.close(leader)
    assert process.wait() in codes, written.decode()
    text = ESCAPE.sub("", written.decode())
    return [line for line in re.split(r"[\r\n]+", text) if line.strip()]


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
def test_what_make_lists_fits(columns: int) -> None:
    lines = seen(columns, "make", "help")
    assert max(map(len, lines)) <= columns
    listed = [line.split()[0] for line in lines if re.match(r"  \S", line)]
    told = re.findall(r"(?m)^([\w-]+):.* ## ", (Path(__file__).parents[2] / "Makefile").read_text())
    assert listed == sorted(told)


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize("words", [["plan", "all"], ["doctor", "--offline"]])
def test_tables_fit(columns: int, words: list[str]) -> None:
    lines = seen(columns, sys.executable, "-m", "wheelyard", *words, codes=(0, 17))
    assert max(map(len, lines)) <= columns
    if words[0] == "doctor":
        runtimes = "other runtimes|container runtime|Docker"  # what a machine has of them
        assert any(re.search(rf"^run +({runtimes})", line) for line in lines)


HELPS = """
from wheelyard.cli import COMMANDS, main
main(["--help"])
for name in COMMANDS:
    main([name, "--help"])
"""


@pytest.mark.parametrize("columns", WIDTHS)
def test_help_fits_and_fills_its_paragraphs(columns: int) -> None:
    lines = seen(columns, sys.executable, "-c", HELPS)
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
    program = f"from wheelyard.cli import main\nfor words in {SAID!r}: main(words)"
    lines = seen(columns, sys.executable, "-c", program)
    assert max(map(len, lines)) <= columns
    assert len([line for line in lines if line.startswith("error: ")]) == len(SAID) - 3


def test_a_wrapped_command_can_be_pasted_and_a_named_one_stays_whole() -> None:
    picked = seen(80, sys.executable, "-m", "wheelyard", *PICK, "sm_90")
    at = next(at for at, line in enumerate(picked) if line.startswith("run "))
    assert picked[at].endswith(" --shm-size=8g \\")
    assert picked[at + 1] == "        pytorch:2.10.0-cuda12.8-cudnn9.10-py3.13"
    argv = [sys.executable, "-m", "wheelyard", "inspect", "pytorch:2.3", *LAYOUT]
    told = seen(80, *argv, codes=(10,))
    assert told[-1] == "  run: wheelyard build pytorch-2.3.1-cuda12.1-cudnn8.9-py3.11-runtime"
    built = f"2 images are in /srv/{'x' * 40}; not loaded. Next: tar -C /srv/x -c . | docker load"
    assert any(
        x.endswith("Next: tar -C /srv/x -c . | docker load") for x in fitted(built, 80).split("\n")
    )


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_nothing_is_wrapped_in_a_pipe_nor_for_programs(more: list[str]) -> None:
    argv = [sys.executable, "-m", "wheelyard", *PICK, "sm_90", *more]
    piped = subprocess.run(argv, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    line = next(line for line in piped.splitlines() if "is the newest that runs here" in line)
    assert line.endswith(("the machine has 535.104", 'the machine has 535.104",'))
    if more:
        assert line in seen(80, *argv)
    failed = [sys.executable, "-m", "wheelyard", *PICK, "sm_120", *more]
    error = subprocess.run(failed, capture_output=True, text=True, cwd=ROOT, check=False).stderr
    assert len(error.splitlines()) == 1


def test_wide_shows_all() -> None:
    lines = seen(80, sys.executable, "-m", "wheelyard", "plan", "--wide", "pytorch-2.3.1-runtime")
    assert lines[0].split()[-1] == "tags"
    assert "pytorch:2.3.1-cuda12.1-cudnn8.9-py3.11" in lines[1]


def test_a_pipe_gets_every_column() -> None:
    argv = [sys.executable, "-m", "wheelyard", "plan", "pytorch-2.3.1-runtime"]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines()[0].split()[-1] == "tags"
    assert done.stderr == ""
