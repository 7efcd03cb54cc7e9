"""`wheelyard init`: what is found in a folder, and the table that is written."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from wheelyard.cli import main
from wheelyard.errors import MachineError, ProjectError, SelectionError, UsageError
from wheelyard.planning.catalogue import CatalogueEntry
from wheelyard.projects.init import draft
from wheelyard.projects.look import look
from wheelyard.projects.requirements import read_requirements
from wheelyard.projects.table import read_project
from wheelyard.servers.pick import Host


def entry(
    version: str, cuda: str, python: str = "3.11", flavour: str = "runtime"
) -> CatalogueEntry:
    suffix = "" if flavour == "runtime" else f"-{flavour}"
    words = f"{version}-cuda{cuda}-py{python}"
    name = f"pytorch-{words}-{flavour}"
    tag = f"pytorch:{words}{suffix}"
    return CatalogueEntry(name, (tag,), "pytorch", version, cuda, "9.1", python, flavour, ())


ENTRIES = (
    entry("2.3.1", "12.1"),
    entry("2.3.1", "12.1", flavour="devel"),
    entry("2.4.1", "12.1"),
    entry("2.4.1", "12.4"),
    entry("2.10.0", "12.8"),
    entry("2.10.0", "12.8", python="3.13"),
    entry("2.14.1", "13.0"),
)
OLD, ANY = Host("535.104.05"), Host(None)


def chosen(folder: Path, files: dict[str, str], host: Host = ANY, image: str | None = None) -> str:
    for name, text in files.items():
        (folder / name).write_text(text)
    return draft(folder, ENTRIES, host, image).image


@pytest.mark.parametrize(
    ("files", "host", "image"),
    [
        ({}, ANY, "pytorch:2.14.1-cuda13.0-py3.11"),
        ({}, OLD, "pytorch:2.10.0-cuda12.8-py3.13"),
        ({"requirements.txt": "torch==2.3.1+cu121\n"}, ANY, "pytorch:2.3.1-cuda12.1-py3.11"),
        ({"requirements.txt": "pytorch==2.3.1\n"}, ANY, "pytorch:2.3.1-cuda12.1-py3.11"),
        ({"requirements.txt": "torch>=2.0,<2.5\n"}, ANY, "pytorch:2.4.1-cuda12.4-py3.11"),
        ({"Dockerfile": "FROM pytorch/pytorch:2.4.1-cuda12.1-cudnn9-devel\n"}, ANY,
         "pytorch:2.4.1-cuda12.1-py3.11"),
        ({"Dockerfile": "FROM nvidia/cuda:12.4.1-cudnn-runtime-ubuntu22.04\n"}, ANY,
         "pytorch:2.4.1-cuda12.4-py3.11"),
        ({"Dockerfile": "FROM nvcr.io/nvidia/pytorch:24.05-py3\n"}, ANY,
         "pytorch:2.14.1-cuda13.0-py3.11"),
        ({"pyproject.toml": '[project]\nname = "a"\nrequires-python = ">=3.12"\n'}, ANY,
         "pytorch:2.10.0-cuda12.8-py3.13"),
        ({"uv.lock": '[[package]]\nname = "torch"\nversion = "2.3.1+cu121"\n'}, ANY,
         "pytorch:2.3.1-cuda12.1-py3.11"),
        ({"environment.yml": "dependencies: [python=3.11, pytorch=2.3, {pip: [einops]}]\n"}, ANY,
         "pytorch:2.3.1-cuda12.1-py3.11"),
    ],
)  # fmt: skip
def test_the_image_is_what_the_files_ask_for_and_the_machine_runs(
    tmp_path: Path, files: dict[str, str], host: Host, image: str
) -> None:
    assert chosen(tmp_path, files, host) == image


def test_an_image_can_be_named(tmp_path: Path) -> None:
    assert chosen(tmp_path, {}, image="pytorch-2.3") == "pytorch:2.3.1-cuda12.1-py3.11"
    with pytest.raises(ProjectError, match="means several images"):
        chosen(tmp_path, {}, image="pytorch")
    with pytest.raises((ProjectError, SelectionError), match="nearest: pytorch:2"):
        chosen(tmp_path, {}, image="pytorch:9")


@pytest.mark.parametrize(
    ("text", "said"),
    [("torch==1.13.1\n", "no image of the set has torch==1.13.1"), ("tensorflow\n", "tensorflow")],
)
def test_a_framework_that_the_set_lacks_is_said(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ProjectError, match=said):
        chosen(tmp_path, {"requirements.txt": text})


def test_condas_python_is_a_wish_and_that_of_a_project_is_not(tmp_path: Path) -> None:
    """Old environments name the Python that conda then installed, such as 3.8."""
    text = "dependencies: [python=3.8.10, pytorch=2.3, {pip: [einops]}]\n"
    (tmp_path / "environment.yml").write_text(text)
    made = draft(tmp_path, ENTRIES, ANY, None)
    assert made.image == "pytorch:2.3.1-cuda12.1-py3.11"
    said = "environment.yml asks for Python ==3.8.*, with which there is no such image"
    assert said in made.reasons
    project = '[project]\nname = "a"\nrequires-python = "<3.9"\ndependencies = ["torch==2.3.1"]\n'
    (tmp_path / "pyproject.toml").write_text(project)
    with pytest.raises(ProjectError, match=r"<3.9 \(pytorch:2.3.1-\S+ has it with another Python"):
        draft(tmp_path, ENTRIES, ANY, None)


def test_extras_are_offered(tmp_path: Path) -> None:
    lists = '[project.optional-dependencies]\nserve = ["fastapi"]\nlog = []\n'
    (tmp_path / "pyproject.toml").write_text(f'[project]\nname = "a"\n{lists}')
    table = draft(tmp_path, ENTRIES, ANY, None).table
    assert '# extras = ["serve", "log"]  # pyproject.toml\'s; keep what is needed\n' in table


def test_without_a_gpu_here_the_driver_that_servers_need_is_said(tmp_path: Path) -> None:
    made = draft(tmp_path, ENTRIES, ANY, None)
    assert "where it runs, the NVIDIA driver must be 580" in made.reasons[-1]
    assert "runs here" in draft(tmp_path, ENTRIES, OLD, None).reasons[-1]


def test_a_machine_that_runs_none_of_them_is_said(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="needs driver"):
        chosen(tmp_path, {"requirements.txt": "torch==2.14.1\n"}, OLD)


def test_the_rest_of_pyproject_stays_byte_for_byte(tmp_path: Path) -> None:
    before = (
        '[project]\r\nname = "a"  # mine\r\ndependencies = ["torch==2.3.1"]\r\n[tool.x]\r\ny = 1'
    )
    (tmp_path / "pyproject.toml").write_bytes(before.encode())
    made = draft(tmp_path, ENTRIES, ANY, None)
    assert made.path == tmp_path / "pyproject.toml"
    assert made.text.startswith(before)
    assert "\n" not in made.text.replace("\r\n", "")
    made.path.write_bytes(made.text.encode())
    project = read_project(tmp_path)
    assert project is not None
    assert project.table.image == "pytorch:2.3.1-cuda12.1-py3.11"
    assert tomllib.loads(made.text)["tool"]["x"] == {"y": 1}
    with pytest.raises(UsageError, match="has a table already"):
        draft(tmp_path, ENTRIES, ANY, None)


def test_a_pyproject_that_cannot_be_added_to_gets_a_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("tool = {x = {y = 1}}\n")
    assert draft(tmp_path, ENTRIES, ANY, None).path == tmp_path / "wheelyard.toml"


def test_a_name_of_old_is_read_as_the_framework_it_means(tmp_path: Path) -> None:
    """Each is a distribution on PyPI that only fails."""
    (tmp_path / "requirements.txt").write_text("tensorflow-gpu>=2.15\n")
    seen = look(tmp_path)
    assert {name: str(spec) for name, spec in seen.wanted.items()} == {"tensorflow": ">=2.15"}
    assert any("write tensorflow instead" in reason for reason in seen.reasons)


def test_files_for_developers_are_left_out(tmp_path: Path) -> None:
    for name in ("requirements-dev.txt", "requirements-gpu.txt", "requirements_test.txt"):
        (tmp_path / name).write_text("six\n")
    made = draft(tmp_path, ENTRIES, ANY, None)
    assert tomllib.loads(made.table)["requirements"] == ["requirements-gpu.txt"]
    assert any("left out: requirements-dev.txt" in reason for reason in made.reasons)


def test_command_ports_and_packages_of_a_dockerfile(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        "FROM pytorch/pytorch:2.3.1-cuda12.1-cudnn8-runtime\n"
        "RUN apt-get update && apt-get install -y --no-install-recommends \\\n"
        "    ffmpeg libgl1 && rm -rf /var/lib/apt/lists/*\n"
        "EXPOSE 7860/tcp\n"
        'CMD ["python", "app.py"]\n'
    )
    made = draft(tmp_path, ENTRIES, ANY, None)
    assert '# packages = ["ffmpeg", "libgl1"]' in made.table
    table = tomllib.loads(made.table)
    assert (table["command"], table["ports"]) == (["python", "app.py"], [7860])


def test_the_pip_part_of_an_environment_becomes_a_requirements_file(tmp_path: Path) -> None:
    text = "dependencies:\n- conda-forge::ffmpeg=6\n- pip\n- pip:\n  - einops==0.8.0\n  - timm\n"
    (tmp_path / "environment.yml").write_text(text)
    made = draft(tmp_path, ENTRIES, ANY, None)
    assert made.more == ((tmp_path / "requirements.txt", "einops==0.8.0\ntimm\n"),)
    assert any("conda's ffmpeg are not taken" in reason for reason in made.reasons)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"setup.py": "x", "setup.cfg": "[options]\n"}, "setup.py, setup.cfg cannot be read"),
        ({"Pipfile": "[packages]\nsix = '*'\n"}, "NO dependencies are taken: Pipfile cannot"),
        ({"requirements/base.txt": "six\n"}, "requirements/base.txt cannot be read; write"),
        ({"pyproject.toml": "[tool.poetry]\nname = 'x'\n"}, "[tool.poetry] in pyproject.toml"),
        (
            {"pyproject.toml": "[project]\nname='x'\ndynamic=['version', 'dependencies']\n"},
            "pyproject.toml's dynamic dependencies",
        ),
        ({"pixi.toml": "", "train.py": ""}, "NO dependencies are taken: pixi.toml"),
        ({"train.py": ""}, "no dependencies were found: the image adds the code alone"),
    ],
)
def test_dependencies_that_are_not_read_are_named(
    tmp_path: Path, files: dict[str, str], said: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    reasons = draft(tmp_path, ENTRIES, ANY, None).reasons
    assert any(said in reason for reason in reasons), reasons
    (tmp_path / "requirements.txt").write_text("six\n")
    reasons = draft(tmp_path, ENTRIES, ANY, None).reasons
    assert not any("ependencies are taken" in x or "no dep" in x for x in reasons), reasons


def test_a_requirements_in_is_taken_where_there_is_no_other(tmp_path: Path) -> None:
    (tmp_path / "requirements.in").write_text("torch==2.3.1\n")
    made = draft(tmp_path, ENTRIES, ANY, None)
    assert tomllib.loads(made.table)["requirements"] == ["requirements.in"]
    (tmp_path / "requirements.txt").write_text("torch==2.3.1\n")
    assert tomllib.loads(draft(tmp_path, ENTRIES, ANY, None).table)["requirements"] == [
        "requirements.txt"
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [("environment.yml", "a: [\n"), ("pyproject.toml", "[project\n"), ("uv.lock", "x = \n")],
)
def test_a_malformed_file_is_an_error(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(ProjectError, match=name):
        chosen(tmp_path, {name: text})


def test_the_command_writes_only_without_print(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WHEELYARD_REGISTRY", raising=False)
    (tmp_path / "requirements.txt").write_text("torch==2.3.1\neinops\n")
    assert main(["init", "--print"]) == 0
    shown = capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [tmp_path / "requirements.txt"]
    assert main(["init", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    written = (tmp_path / "wheelyard.toml").read_text()
    assert written == found["table"] == shown
    assert found["image"].startswith("pytorch:2.3.1-cuda12.1-")
    assert "requirements.txt asks for torch==2.3.1" in found["reasons"]
    assert main(["init"]) == 2
    assert read_requirements(tmp_path / "requirements.txt", "") == "torch==2.3.1\neinops\n"
