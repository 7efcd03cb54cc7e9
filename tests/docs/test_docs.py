"""Every command of README and docs, run in page order, with an engine and without one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.blocks import PAGES, PROJECT, Command, commands, is_shown
from tests.engines.daemons import client_environment, own_engine, temporary_folder
from tests.needs import need_to_be_root, need_tools
from tests.peers.registries import registry
from wheelyard.settings import load_settings

PATIENCE = 900  # seconds a page
SAID = "::docs"


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest) -> Iterator[Path]:
    need_tools("docker-registry", "make", "openssl")
    with temporary_folder(request.config.getoption("--scratch")) as folder:
        yield folder


@pytest.fixture(scope="module")
def project(folder: Path) -> Path:
    """The checkout's files in a folder of their own, with this checkout's environment."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout
    copy = folder / "clone"
    for name in filter(None, listed.split("\0")):
        if (PROJECT / name).exists():  # not deleted since
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, copy / name, follow_symlinks=False)
    (copy / ".venv").symlink_to(PROJECT / ".venv")
    (folder / "home").mkdir()
    return copy


@pytest.fixture(scope="module")
def environment(folder: Path) -> dict[str, str]:
    """A home without settings, and the machine's cache, which the builds before have filled."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("WHEELYARD_", "DOCKER_"))}
    cache = str(load_settings({"project": str(PROJECT)}).cache_dir)
    home = str(folder / "home")
    kept = {n: v for n, v in kept.items() if not n.startswith("XDG_")}
    return {**kept, "HOME": home, "WHEELYARD_CACHE": cache, "DOCKER_HOST": f"unix://{home}/none"}


def script(todo: list[Command], address: str) -> str:
    """A shell that says before each command which one it is, and after it how it ended."""
    lines = []
    for number, command in enumerate(todo):
        lines += [f"echo '{SAID} {number}'", command.here(address), f'echo "{SAID} = $?"']
    return "\n".join(lines) + "\n"


def run_all(
    project: Path, environment: dict[str, str], address: str, *, engine: bool
) -> tuple[list[str], Counter[str]]:
    """What failed, and how many commands ran or did not, by kind."""
    failed: list[str] = []
    counts: Counter[str] = Counter()
    for page in PAGES:
        every = list(commands(page))
        counts.update(command.skipped[0] for command in every if command.skipped)
        todo = [c for c in every if not c.skipped and (engine or not c.needs_engine)]
        counts["engine"] += sum(not c.skipped and c.needs_engine and c not in todo for c in every)
        failed += _run_page(todo, project, environment, address)
        counts["run"] += len(todo)
    return failed, counts


def _run_page(
    todo: list[Command], project: Path, environment: dict[str, str], address: str
) -> Iterator[str]:
    lines = ". .venv/bin/activate\n" + script(todo, address)  # as README's first block leaves it
    done = subprocess.run(
        ["bash"], input=lines, cwd=project, env=environment, check=False, timeout=PATIENCE,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    pieces = re.split(rf"^{SAID} \d+\n", done.stdout, flags=re.MULTILINE)[1:]
    for number, command in enumerate(todo):
        text = pieces[number] if number < len(pieces) else "it was never reached"
        printed, _, code = text.rpartition(f"{SAID} = ")
        if code.strip() != "0":
            yield f"{command.page}:{command.line}: {command.here(address)}\n{text[-2000:]}"
        elif not is_shown(command.shown, printed):
            yield f"{command.page}:{command.line} prints something else\n{printed}"


def told(counts: Counter[str], how: str) -> str:
    rest = ", ".join(f"{number} {kind}" for kind, number in counts.items() if kind != "run")
    return f"documentation {how}: {counts['run']} commands ran; not run: {rest}"


def test_without_an_engine(
    project: Path, environment: dict[str, str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with registry(folder) as address:
        failed, counts = run_all(project, environment, address, engine=False)
    shutil.rmtree(project / "dist", ignore_errors=True)
    with capsys.disabled():
        print(f"\n{told(counts, 'without an engine')}")
    assert failed == []
    assert counts["run"] > 15


def test_with_an_engine(
    project: Path, environment: dict[str, str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    need_to_be_root()
    need_tools("dockerd", "docker")
    with temporary_folder(folder) as place, registry(folder) as address, own_engine(place):
        ours = {**environment, "DOCKER_HOST": client_environment(place)["DOCKER_HOST"]}
        failed, counts = run_all(project, ours, address, engine=True)
    with capsys.disabled():
        print(f"\n{told(counts, 'with an engine')}")
    assert failed == []
    assert counts["engine"] == 0
