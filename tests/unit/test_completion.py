"""Completion as people have it: real shells, a Tab, what stands in the line afterwards."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import planning
import pytest

from wheelyard.planning.selector import continuations

PROJECT = Path(__file__).parents[2]
ID = "pytorch-2.3.1-cuda12.1-cudnn8.9-py3.11-devel"
LINES = [  # what is typed before Tab, what stands there then
    ("wheelyard completion f", "wheelyard completion fish"),
    ("wheelyard plan --shar", "wheelyard plan --sharing"),
    (f"wheelyard build {ID[:-4]}", f"wheelyard build {ID}"),
    ("wheelyard plan al", "wheelyard plan all"),
]
START = {
    "bash": ("bash", "--norc", "--noprofile", "-i"),
    "zsh": ("zsh", "-f", "-i"),
    "fish": ("fish", "--no-config", "-i"),
}


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A PATH with `wheelyard`, run from this checkout, and a home of the test's own."""
    program = tmp_path / "bin" / "wheelyard"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m wheelyard "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"
    kept = {name: os.environ[name] for name in ("PYTHONPATH", "LANG") if name in os.environ}
    return kept | {"PATH": path, "HOME": str(tmp_path), "TERM": "xterm", "PS1": "$ "}


class Terminal:
    """A shell with a terminal, in the project's folder."""

    def __init__(self, argv: tuple[str, ...], environ: dict[str, str]) -> None:
        self._ours, theirs = pty.openpty()
        self._process = subprocess.Popen(
            argv, stdin=theirs, stdout=theirs, stderr=theirs, env=environ, cwd=PROJECT,
            start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def wait(self, text: str, seconds: float = 40) -> None:
        """Read until `text` is shown."""
        end = time.monotonic() + seconds
        while text not in self.seen:
            ready, _, _ = select.select([self._ours], [], [], max(0, end - time.monotonic()))
            assert ready, f"{text!r} was not shown: {self.seen[-2000:]!r}"
            self.seen += os.read(self._ours, 65536).decode(errors="replace")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_tab_completes_commands_options_and_images(shell: str, environ: dict[str, str]) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    terminal = Terminal(START[shell], environ)
    try:
        if shell == "zsh":
            terminal.type("autoload -U compinit && compinit -u\n")
        terminal.type(f'eval "$(wheelyard completion {shell})"; echo rea""dy\n')
        terminal.wait("ready")
        for typed, full in LINES:
            # The line is not run: its beginning makes it an argument of printf.
            terminal.seen = ""
            terminal.type(f"{typed}\t")
            time.sleep(0.1)
            terminal.type("\x01printf '<%s>' \x05 e''nd\n")
            terminal.wait("<end>")
            assert "".join(f"<{word}>" for word in full.split()) in terminal.seen
    finally:
        terminal.close()


def test_fish_offers_commands_options_and_images(environ: dict[str, str]) -> None:
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    for typed, full in LINES:
        code = f"wheelyard completion fish | source; complete -C '{typed}'"
        done = subprocess.run(
            ["fish", "--no-config", "-c", code],
            check=True, capture_output=True, text=True, env=environ, cwd=PROJECT, timeout=60,
        )  # fmt: skip
        offered = [line.partition("\t")[0] for line in done.stdout.splitlines()]
        assert full.split()[-1] in offered, (typed, done.stdout, done.stderr)


def test_the_lines_of_the_help_work_in_an_empty_home(environ: dict[str, str]) -> None:
    """As they are shown at 80 columns, pasted into a shell that stops at the first failure."""

    def bash(text: str) -> str:
        return subprocess.run(
            ["bash", "-eu"], input=text, env=environ | {"COLUMNS": "80"}, cwd=PROJECT,
            check=True, capture_output=True, text=True, timeout=60,
        ).stdout  # fmt: skip

    shown = bash("wheelyard completion --help").partition("examples:\n")[2]
    lines = [line for line in shown.splitlines() if line.startswith("  ")]
    assert max(map(len, lines)) <= 80
    bash("\n".join(lines))
    files = {
        "bash": ".local/share/bash-completion/completions/wheelyard",
        "zsh": ".zfunc/_wheelyard",
        "fish": ".config/fish/completions/wheelyard.fish",
    }
    for shell, file in files.items():
        made = Path(environ["HOME"], file).read_text(encoding="utf-8")
        assert "_ARGCOMPLETE" in made
        assert made == bash(f"wheelyard completion {shell}")


def test_what_continues_a_word() -> None:
    plan = planning.committed_plan()
    first = continuations(plan, "")
    assert {"all", "pytorch", "cuda12.1", "py3.11", "devel"} <= set(first)
    assert not any(":" in word or word == ID for word in first)  # thousands; after a letter
    assert "pytorch:2.3" in continuations(plan, "pytorch:")
    assert ID in continuations(plan, "pytorch-2.3.1-")
    assert continuations(plan, "all,py3.1") == ["all,py3.11", "all,py3.13"]
    assert continuations(plan, "unheard-of") == []


@pytest.mark.parametrize("folder", ["/", "/nowhere"])
def test_without_a_project_nothing_is_offered_and_nothing_said(folder: str) -> None:
    line = f"wheelyard --project {folder} plan py"
    environ = os.environ | {
        "_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)),
        "ARGCOMPLETE_USE_TEMPFILES": "1", "_ARGCOMPLETE_STDOUT_FILENAME": "/dev/stdout",
    }  # fmt: skip
    argv = [sys.executable, "-m", "wheelyard"]
    done = subprocess.run(argv, check=False, capture_output=True, env=environ, timeout=60)
    assert (done.returncode, done.stdout) == (0, b"")
