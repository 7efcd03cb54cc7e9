"""What the documents tell people to type exists: commands, options, targets, images, outputs."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import planning
import pytest

from tests.docs.blocks import BUILD, NOT_BUILT, NOT_RUN, PAGES, Command, blocks, commands, is_shown
from wheelyard.cli import COMMANDS, make_parser

PROJECT = Path(__file__).parents[2]
DOCUMENTS = (*PAGES, "CONTRIBUTING.md", "SECURITY.md", "ARCHITECTURE.md", "README.zh-CN.md")
COMMANDS_OF_PAGES = [command for page in DOCUMENTS for command in commands(page)]
TARGETS = set(re.findall(r"^([a-z0-9-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
IMAGE = re.compile(r"(?<![\w/.-])((?:pytorch|tensorflow|pytorch-tensorflow):[\w.-]*\w)")


def named(command: Command) -> str:
    return f"{command.page}:{command.line}"


def words(text: str, program: str) -> list[list[str]]:
    """The arguments of each call of a program in a line of shell."""
    found = re.findall(rf"(?:^|[;&|] *|\w=\S+ ){program} ([^;&|]*)", text)
    return [shlex.split(call) for call in found]


@pytest.mark.parametrize("command", COMMANDS_OF_PAGES, ids=named)
def test_commands_can_be_parsed_and_targets_exist(command: Command) -> None:
    text = command.text.replace(".venv/bin/wheelyard", "wheelyard")
    for arguments in words(text, "wheelyard"):
        assert make_parser(arguments).parse_args(arguments).command == arguments[0]
    for arguments in words(text, "make"):
        assert [a for a in arguments if "=" not in a and a not in TARGETS] == []


def test_every_page_of_docs_is_read() -> None:
    assert all((PROJECT / page).is_file() for page in PAGES)
    assert len(COMMANDS_OF_PAGES) > 60


@pytest.mark.parametrize("page", DOCUMENTS)
def test_images_that_are_named_exist(page: str) -> None:
    tags = {tag for cell in planning.committed_plan().cells for tag in cell.tags}
    for line, _, text in blocks(page):
        assert [tag for tag in IMAGE.findall(text) if tag not in tags] == [], f"{page}:{line}"


@pytest.mark.parametrize("page", DOCUMENTS)
def test_commands_in_sentences_exist(page: str) -> None:
    text = (PROJECT / page).read_text(encoding="utf-8")
    for name in re.findall(r"`wheelyard ([a-z]+)", text):
        assert name in COMMANDS, name
    for target in re.findall(r"`make ([a-z0-9-]+)", text):
        assert target in TARGETS, target


@pytest.mark.parametrize(
    "command",
    [c for c in COMMANDS_OF_PAGES if c.shown and c.skipped is None],
    ids=named,
)
def test_what_a_page_shows_is_what_is_printed(command: Command) -> None:
    argv = [sys.executable, "-m", *shlex.split(command.text)]
    done = subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True, check=True)
    assert is_shown(command.shown, done.stdout), done.stdout


def test_the_readme_s_dockerfile_is_built() -> None:
    (readme,) = (c for c in commands("README.md") if c.text.startswith(BUILD))
    assert readme.skipped is None
    assert readme.needs_engine
    assert "FROM pytorch:2.3\nRUN pip install " in readme.here("127.0.0.1:5000")
    built = [c for c in COMMANDS_OF_PAGES if c.text.startswith(BUILD) and c.skipped is None]
    assert {c.page for c in built} >= {"README.md", "docs/extend.md", "docs/run.md"}


def test_every_rule_that_skips_is_used() -> None:
    for rule, _, _ in (*NOT_RUN, *NOT_BUILT):
        assert any(re.search(rule, command.text) for command in COMMANDS_OF_PAGES), rule


def test_shown_text_may_be_wrapped_and_shortened_but_not_changed() -> None:
    printed = "image  a:1\nreason it is the newest; it has code for sm_90; and more\nrun docker\n"
    assert is_shown("image a:1\nreason it is\n   the newest; ...\nrun docker", printed)
    assert not is_shown("image a:2", printed)
    assert not is_shown("run docker\nimage a:1", printed)
