"""Every command of README and docs, run in page order, with an engine and without one."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tiny import make_tiny

from tests.docs.blocks import BUILD, PAGES, PROJECT, Command, commands, is_shown
from tests.engines.daemons import address_of, own_engine, temporary_folder
from tests.needs import missing, need_to_be_root, need_tools
from tests.peers.registries import registry
from wheelyard.settings import load_settings

PATIENCE = 900  # seconds a page
ROOM = 16 * 10**9  # bytes: two images in a layout and a registry, and loaded from a tar
SAID = "::docs"
TRAIN = """\
import torch

layer = torch.nn.Linear(4, 1)
layer(torch.ones(2, 4)).sum().backward()
assert layer.weight.grad.tolist() == [[2.0] * 4]
"""
_IMAGES = re.compile(r"\bpytorch:2\.3(?:-devel)?(?![\w.-])")


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest) -> Iterator[Path]:
    need_tools("docker-registry", "make", "openssl")
    with temporary_folder(request.config.getoption("--scratch")) as folder:
        yield folder


def copy_checkout(target: Path, *, images: bool) -> Path:
    """The checkout's files in a folder of their own, with this checkout's environment."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        wanted = images or not name.startswith("images/")
        if wanted and (PROJECT / name).exists():  # not deleted since
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, target / name, follow_symlinks=False)
    environment = target / ".venv"
    environment.mkdir()
    (environment / "bin").symlink_to(PROJECT / ".venv" / "bin")
    (environment / "run").touch()  # newer than what it is made from, so that make makes nothing
    (target / "train.py").write_text(TRAIN)
    return target


@pytest.fixture(scope="module")
def small(folder: Path) -> tuple[Path, Path]:
    """A checkout whose matrix is the tiny project's, and that project's cache."""
    tiny = make_tiny(folder / "tiny")
    copy = copy_checkout(folder / "clone", images=False)
    for name in ("matrix.yaml", "upstream.json"):
        if (tiny.folder / name).exists():
            shutil.copy(tiny.folder / name, copy)
    shutil.copytree(tiny.folder / "images", copy / "images")
    return copy, tiny.context.settings.cache_dir


def environment(home: Path, cache: Path) -> dict[str, str]:
    """A home without settings, a cache that builds have filled, and the address of no engine."""
    home.mkdir()
    settings = ("WHEELYARD_", "DOCKER_", "XDG_", "MAKE", "MFLAGS", "ARGS")  # of an outer make, too
    kept = {name: value for name, value in os.environ.items() if not name.startswith(settings)}
    return {
        **kept,
        "HOME": str(home),
        "WHEELYARD_CACHE": str(cache),
        "DOCKER_HOST": f"unix://{home}/none",
    }


def script(todo: list[Command], address: str) -> str:
    """A shell that says before each command which one it is, and after it how it ended."""
    lines = []
    for number, command in enumerate(todo):
        lines += [
            f"echo '{SAID} {number}'",
            *_trusting(command),
            f"{{ {command.here(address)}\n}} </dev/null",
            f'echo "{SAID} = $?"',
        ]
    return "\n".join(lines) + "\n"


def _trusting(command: Command) -> list[str]:
    """What gives a Dockerfile's base the CA of a machine whose network opens TLS, as its own."""
    certificates = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE")
    if certificates is None or not command.text.startswith(BUILD):
        return []
    (base,) = re.findall(r"^FROM (\S+)$", command.text, re.MULTILINE)
    lines = (
        f"FROM {base}",
        "COPY ca.pem /etc/ssl/private-ca.pem",
        "ENV PIP_CERT=/etc/ssl/private-ca.pem SSL_CERT_FILE=/etc/ssl/private-ca.pem",
    )
    return [
        f"mkdir -p trust && cp {shlex.quote(certificates)} trust/ca.pem",
        f"printf '%s\\n' {shlex.join(lines)} > trust/Dockerfile",
        f"docker build --quiet --tag {base} trust",
    ]


@contextmanager
def engine_of_page(todo: list[Command], folder: Path) -> Iterator[dict[str, str]]:
    """The variables of a page: an engine of its own if it needs one, deleted with its images."""
    if not any(command.needs_engine for command in todo):
        yield {}
        return
    with temporary_folder(folder) as place, own_engine(place):
        yield {"DOCKER_HOST": address_of(place)}


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
        todo = [c for c in todo if engine or not c.shown]
        counts["engine"] += sum(not c.skipped and c.needs_engine and c not in todo for c in every)
        with engine_of_page(todo, project.parent) as ours:
            failed += _run_page(todo, project, {**environment, **ours}, address)
        counts["run"] += len(todo)
    return failed, counts


def _run_page(
    todo: list[Command], project: Path, environment: dict[str, str], address: str
) -> Iterator[str]:
    lines = ". .venv/bin/activate\n"  # as README's first block leaves it
    lines += _bringing(todo) if todo and todo[0].page != PAGES[0] else ""
    lines += script(todo, address)
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


def _bringing(todo: list[Command]) -> str:
    """What builds and loads the images that a page takes as there."""
    texts = [command.text for command in todo if command.needs_engine]
    named = sorted({name for text in texts for name in _IMAGES.findall(text)})
    return f"wheelyard build {','.join(named)} --load\n" if named else ""


def told(counts: Counter[str], how: str) -> str:
    rest = ", ".join(f"{number} {kind}" for kind, number in counts.items() if kind != "run")
    return f"documentation {how}: {counts['run']} commands ran; not run: {rest}"


def test_without_an_engine(
    small: tuple[Path, Path], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On small images, in seconds; what a page shows of the real ones tests/unit compares."""
    project, cache = small
    nobody = environment(folder / "home", cache)
    with registry(folder) as address:
        failed, counts = run_all(project, nobody, address, engine=False)
    with capsys.disabled():
        print(f"\n{told(counts, 'without an engine')}")
    assert failed == []
    assert counts["run"] > 15


def test_with_an_engine(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On the images that the pages name: minutes, ROOM of disk, an index and Debian's archive."""
    need_to_be_root()
    need_tools("dockerd", "docker")
    if shutil.disk_usage(folder).free < ROOM:
        missing(f"{folder} has less than {ROOM // 10**9} GB free")
    project = copy_checkout(folder / "real", images=True)
    cache = load_settings({"project": str(PROJECT)}).cache_dir
    with registry(folder) as address:
        ours = environment(folder / "docker-home", cache)
        failed, counts = run_all(project, ours, address, engine=True)
    with capsys.disabled():
        print(f"\n{told(counts, 'with an engine')}")
    assert failed == []
    assert counts["engine"] == 0
