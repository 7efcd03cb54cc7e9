"""Dev containers: rendered, labelled, written into projects; and what is said where none can be."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import planning
import pytest
from devcontainers import problems, read_config
from locking import devel_cell, runtime_cell
from nvml import simulated

from wheelyard.cli import main
from wheelyard.commands.devcontainer import configuration
from wheelyard.console.progress import QuietReporter
from wheelyard.context import Context
from wheelyard.contract.editor import metadata
from wheelyard.contract.imageconfig import image_config
from wheelyard.contract.users import OF_HOME
from wheelyard.devcontainers.preparing import require_gpu
from wheelyard.errors import MachineError, SelectionError, StorageError
from wheelyard.model import LockedWheel, RequirementsLock
from wheelyard.oci.address import parse_address
from wheelyard.planning.catalogue import plan_entries
from wheelyard.rendering.devcontainers import (
    find_variant,
    render_devcontainer,
    render_devcontainers,
    stale_devcontainers,
    variants,
)
from wheelyard.rendering.published import (
    PUBLISHED,
    find_published,
    load_published,
    published_text,
)
from wheelyard.servers.machine import Gpus, read_gpus
from wheelyard.settings import load_settings
from wheelyard.system.templates import make_environment

ROOT = Path(__file__).parents[2]
NAMES = ["combined", "jax", "pytorch", "tensorflow"]
SHIPPED = sorted(ROOT.glob("devcontainer/*/devcontainer.json"))
SEEN = ROOT / ".devcontainer"
RECURSIVE = re.compile(rb"chown (-[a-zA-Z]*R|--recursive)")


def use_machine(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let NVML answer as that machine's."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: True)
    monkeypatch.setitem(sys.modules, "pynvml", simulated(name))


def config_of(name: str) -> dict[str, Any]:
    return read_config((ROOT / "devcontainer" / name / "devcontainer.json").read_text())


class TestWhatIsShipped:
    def test_each_framework_has_two(self) -> None:
        expected = sorted(name + suffix for name in NAMES for suffix in ("", "-gpu"))
        assert [path.parent.name for path in SHIPPED] == expected
        assert [x.name for x in variants(planning.committed_plan().cells)] == expected

    def test_editors_see_byte_identical_copies(self) -> None:
        copies = sorted(SEEN.glob("*/devcontainer.json"))
        assert [path.parent.name for path in copies] == [path.parent.name for path in SHIPPED]
        for ours, copy in zip(SHIPPED, copies, strict=True):
            assert ours.read_bytes() == copy.read_bytes()

    def test_the_one_for_both_frameworks_is_found_without_its_name(self) -> None:
        default = (SEEN / "devcontainer.json").read_bytes()
        assert default == (ROOT / "devcontainer/combined/devcontainer.json").read_bytes()

    @pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.parent.name))
    def test_the_schema_has_nothing_against_it(self, path: Path) -> None:
        assert problems(read_config(path.read_text())) == []

    def test_titles_differ(self) -> None:
        titles = {read_config(path.read_text())["name"] for path in SHIPPED}
        assert len(titles) == len(SHIPPED)

    @pytest.mark.parametrize("name", NAMES)
    def test_the_image_is_a_devel_image_of_the_plan(self, name: str) -> None:
        cells = {cell.tags[0]: cell for cell in planning.committed_plan().cells}
        plain, required = config_of(name), config_of(f"{name}-gpu")
        cell = cells[plain["image"]]
        assert cell.flavour.name == "devel"
        assert any(tag.endswith(":devel") for tag in cell.tags)
        assert required["image"] == plain["image"]

    @pytest.mark.parametrize("name", NAMES)
    def test_a_gpu_is_taken_where_there_is_one_or_required(self, name: str) -> None:
        plain, required = config_of(name), config_of(f"{name}-gpu")
        assert plain["hostRequirements"] == {"gpu": "optional"}
        assert "--gpus=all" not in plain["runArgs"]
        # Said once: programs that see a GPU would otherwise ask for it a second time.
        assert "hostRequirements" not in required
        assert "--gpus=all" in required["runArgs"]

    @pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.parent.name))
    def test_user_memory_volumes_and_ports(self, path: Path) -> None:
        config = read_config(path.read_text())
        assert config["remoteUser"] == "dev"
        assert config["updateRemoteUserUID"] is True
        assert "--shm-size=8g" in config["runArgs"]
        assert {mount["type"] for mount in config["mounts"]} == {"volume"}
        assert all("${devcontainerId}" in mount["source"] for mount in config["mounts"])
        assert config["forwardPorts"] == [8888, 6006]
        labels = {port: x["label"] for port, x in config["portsAttributes"].items()}
        assert labels == {"8888": "JupyterLab", "6006": "TensorBoard"}
        assert "features" not in config  # what comes from elsewhere would make it slow, and move

    def test_only_a_missing_image_is_made_and_a_required_gpu_is_always_looked_for(self) -> None:
        plain, required = config_of("pytorch"), config_of("pytorch-gpu")
        image = plain["image"]
        look, make, bake = plain["initializeCommand"]["image"].split(" || ")
        assert look == f"docker image inspect --format found {image}"
        assert make == "make devcontainer NAME=pytorch"
        # Without make, Python and root: a target that makes this image, and what it starts from.
        *words, target = bake.split()
        assert words == ["docker", "buildx", "bake", "--load"]
        targets = json.loads((ROOT / "docker-bake.json").read_text())["target"]
        assert image in targets[target]["tags"]
        (inherited,) = targets[target]["inherits"]  # by the machine's processor
        for end, base in (("", "trixie"), ("-arm64", "trixie-arm64")):
            made = targets[inherited.replace("${MACHINE}", end)]
            assert made["platforms"] == ["linux/arm64" if end else "linux/amd64"]
            assert f"target:base-{base}-runtime" in made["contexts"].values()
        assert required["initializeCommand"] == {"image": "make devcontainer NAME=pytorch-gpu"}

    @pytest.mark.parametrize("name", NAMES)
    def test_the_processor_decides_where_there_are_images_for_several(self, name: str) -> None:
        plain = config_of(name)
        target = plain["initializeCommand"]["image"].split()[-1]
        plan = planning.committed_plan()
        (cell,) = [cell for cell in plan.cells if cell.tags[0] == plain["image"]]
        several = [x.architecture for x in plan.cells if x.sibling == cell.id] == ["amd64", "arm64"]
        assert several is (name in ("jax", "pytorch"))
        assert target.endswith("-native") is several

    @pytest.mark.parametrize(
        ("has_image", "has_make", "called"),
        [
            (True, False, ["docker image"]),
            (False, True, ["docker image", "make devcontainer"]),
            (False, False, ["docker image", "docker buildx"]),
        ],
    )
    def test_what_a_machine_lacks_is_made_with_what_it_has(
        self, tmp_path: Path, has_image: bool, has_make: bool, called: list[str]
    ) -> None:
        (tmp_path / "docker").write_text(
            f'#!/bin/sh\necho "docker $1" >> {tmp_path}/called\n'
            f'test "$1" != image || {str(has_image).lower()}\n'
        )
        if has_make:
            (tmp_path / "make").write_text(f'#!/bin/sh\necho "make $1" >> {tmp_path}/called\n')
        for program in tmp_path.iterdir():
            program.chmod(0o755)
        line = config_of("pytorch")["initializeCommand"]["image"]
        done = subprocess.run(["/bin/sh", "-c", line], env={"PATH": str(tmp_path)}, check=True)
        assert done.returncode == 0
        assert (tmp_path / "called").read_text().splitlines() == called

    @pytest.mark.parametrize("name", NAMES)
    def test_what_a_failed_start_left_is_shown_whatever_the_folder_is_called(
        self, name: str
    ) -> None:
        words = config_of(name)["initializeCommand"]["left over"]
        assert isinstance(words, list)  # no shell takes the folder's name apart
        assert "label=devcontainer.local_folder=${localWorkspaceFolder}" in words

    def test_no_ids_are_changed_below_a_folder(self) -> None:
        """A changed owner copies a file into the layer, so nothing may do that for a whole tree."""
        for path in (ROOT / "devcontainer").rglob("*"):
            assert not path.is_file() or not RECURSIVE.search(path.read_bytes()), path

    def test_volumes_lie_on_folders_that_the_image_has(self) -> None:
        targets = [mount["target"] for mount in config_of("pytorch")["mounts"]]
        assert targets == ["/home/dev/.cache", "/home/dev/.vscode-server/extensions"]
        assert {target.removeprefix("/home/dev/") for target in targets} <= set(OF_HOME)


@pytest.mark.parametrize(
    "change",
    [
        {"runArgs": "--init"},
        {"hostRequirements": {"gpu": "maybe"}},
        {"unheardOf": 1},
        {"mounts": [{"type": "volume", "target": "/x", "size": 1}]},
        {"customizations": {"vscode": {"extensions": ["no id"]}}},
        {"customizations": {"vscode": {"extensions": "ms-python.python"}}},
    ],
)
def test_the_check_sees_what_is_wrong(change: dict[str, Any]) -> None:
    assert problems(config_of("pytorch") | change)


class TestTheLabel:
    def test_is_a_list_of_metadata_that_the_schema_knows(self) -> None:
        wheel = LockedWheel("numpy", "1.26.4", "numpy-1.26.4-py3-none-any.whl", "a" * 64, 7)
        lock = RequirementsLock(devel_cell().id, "f" * 64, (wheel,))
        label = dict(image_config(devel_cell(), lock).labels)["devcontainer.metadata"]
        (entry,) = json.loads(label)
        assert problems({"image": "x", **entry}) == []
        assert (entry["remoteUser"], entry["updateRemoteUserUID"]) == ("dev", True)
        editor = entry["customizations"]["vscode"]
        assert editor["settings"]["python.defaultInterpreterPath"] == "/opt/venv/bin/python"
        wanted = {"ms-python.python", "ms-toolsai.jupyter", "charliermarsh.ruff"}
        assert wanted <= set(editor["extensions"])

    def test_says_nothing_that_has_no_effect_there(self) -> None:
        (entry,) = metadata("devel")
        assert not {"runArgs", "build", "image", "workspaceFolder", "hostRequirements"} & set(entry)

    def test_an_image_for_running_names_the_user_alone(self) -> None:
        assert metadata(runtime_cell().flavour.name) == [{"remoteUser": "dev"}]

    def test_and_the_configuration_do_not_run_one_thing_twice(self) -> None:
        """Programs run the label's commands and the configuration's, one after the other."""
        (entry,) = metadata("devel")
        assert not [name for name in entry if name.endswith("Command")]


class TestFindingOne:
    def test_by_name(self) -> None:
        cells = planning.committed_plan().cells
        assert find_variant(cells, "tensorflow-gpu").requires_gpu
        with pytest.raises(SelectionError, match=r"'mxnet'; there are combined, combined-gpu, jax"):
            find_variant(cells, "mxnet")

    def test_what_was_rendered_once_is_stale_and_what_somebody_wrote_is_not(
        self, tmp_path: Path
    ) -> None:
        for name, text in (("old", SHIPPED[0].read_text()), ("mine", "{}")):
            path = tmp_path / ".devcontainer" / name / "devcontainer.json"
            path.parent.mkdir(parents=True)
            path.write_text(text)
        found = list(stale_devcontainers(tmp_path, []))
        assert found == [PurePosixPath(".devcontainer/old/devcontainer.json")]
        assert list(stale_devcontainers(tmp_path, found)) == []


def test_where_no_gpu_answers_the_other_variant_is_named() -> None:
    with pytest.raises(MachineError, match=r"'pytorch-gpu' requires .*no driver.*use 'pytorch'"):
        require_gpu("pytorch-gpu", Gpus(None, "no driver"))


def test_a_gpu_that_answers_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    use_machine(monkeypatch, "h100")
    require_gpu("pytorch-gpu", read_gpus())


class TestInit:
    @pytest.fixture(autouse=True)
    def _no_gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        use_machine(monkeypatch, "no-driver")

    def init(self, folder: Path, *options: str) -> int:
        command = ["devcontainer", "init", "--output", str(folder), "--project", str(ROOT)]
        return main([*command, *options])

    def written(self, folder: Path) -> dict[str, Any]:
        text = (folder / ".devcontainer/devcontainer.json").read_text()
        assert "Do not edit" not in text
        config = read_config(text)
        assert problems(config) == []
        return config

    def test_writes_what_was_asked_for(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.init(tmp_path, "--framework", "pytorch-2.3", "--cuda", "12.1") == 0
        config = self.written(tmp_path)
        assert config["image"] == "pytorch:2.3.1-cuda12.1-cudnn8.9-py3.11-devel"
        assert config["hostRequirements"] == {"gpu": "optional"}
        assert "make build MATRIX=pytorch-2.3.1-" in config["initializeCommand"]["image"]
        told = capsys.readouterr().out.partition("next ")[2]
        assert "`wheelyard build pytorch-2.3.1-cuda12.1-cudnn8.9-py3.11-devel`, then open" in told

    def test_the_machine_decides_where_it_has_a_gpu(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        use_machine(monkeypatch, "h100")
        seen = read_gpus()
        assert seen.driver is not None
        assert self.init(tmp_path) == 0
        assert seen.driver.version in capsys.readouterr().out
        major = "13" if int(seen.driver.version.partition(".")[0]) >= 580 else "12"
        assert f"-cuda{major}." in self.written(tmp_path)["image"]

    def test_one_that_requires_a_gpu(self, tmp_path: Path) -> None:
        assert self.init(tmp_path, "--framework", "tensorflow", "--require-gpu") == 0
        assert "--gpus=all" in self.written(tmp_path)["runArgs"]

    def test_what_is_there_stays_unless_it_is_to_be_replaced(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / ".devcontainer").mkdir()
        mine = tmp_path / ".devcontainer" / "devcontainer.json"
        mine.write_text("{}")
        assert self.init(tmp_path) == 2
        assert "--force replaces it" in capsys.readouterr().err
        assert mine.read_text() == "{}"
        assert self.init(tmp_path, "--force") == 0
        assert "image" in self.written(tmp_path)

    @pytest.mark.parametrize(
        ("options", "code", "said"),
        [
            (["--framework", "mxnet"], 4, "no image has --framework mxnet"),
            (["--cuda", "9.0"], 4, "no image has --cuda 9.0; there are: 12.1"),
            (
                ["--framework", "pytorch-2.3", "--cuda", "13.0"],
                17,
                "framework pytorch-2.3, CUDA 13",
            ),
        ],
    )
    def test_what_cannot_be(
        self,
        tmp_path: Path,
        options: list[str],
        code: int,
        said: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        assert self.init(tmp_path, *options) == code
        assert said in capsys.readouterr().err
        assert not (tmp_path / ".devcontainer").exists()

    def test_a_folder_that_is_none(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "file").touch()
        assert self.init(tmp_path / "file") == 2
        assert "is not a folder" in capsys.readouterr().err


def test_a_published_image_is_named_by_tag_and_digest() -> None:
    """And no line is run before: the engine pulls it."""
    settings = load_settings({"registry": "reg.example:5000/team", "project": str(ROOT)})
    entries = plan_entries(*_planned())
    entry = replace(next(x for x in entries if x.flavour == "devel"), digest="sha256:" + "a" * 64)
    context = Context(settings, QuietReporter(None))
    config = configuration(entry, argparse.Namespace(require_gpu=False), context)
    assert config.image == f"reg.example:5000/team/{entry.tags[0]}@sha256:{'a' * 64}"
    text = render_devcontainer(make_environment(ROOT / "templates"), config, written=False)
    read = read_config(text)
    assert problems(read) == []
    assert list(read["initializeCommand"]) == ["left over"]


class TestPublished:
    """The image of this repository's own configurations, in a registry."""

    @pytest.fixture
    def project(self, tmp_path: Path) -> Path:
        for name in ("templates", "devcontainer"):
            shutil.copytree(ROOT / name, tmp_path / name)
        return tmp_path

    def rendered(self, project: Path) -> dict[str, dict[str, Any]]:
        environment = make_environment(project / "templates")
        cells = planning.committed_plan().cells
        files = render_devcontainers(cells, environment, load_published(project))
        return {str(path.parent): read_config(text) for path, text in files.items()}

    def publish(self, project: Path, name: str) -> str:
        found = [x for x in variants(planning.committed_plan().cells) if x.name == name]
        digests = {found[0].cell.id: "sha256:" + "a" * 64}
        images = find_published(found, digests, parse_address("reg.example/team"))
        (project / PUBLISHED).write_text(published_text(images))
        return f"reg.example/team/{found[0].cell.tags[0]}@sha256:{'a' * 64}"

    def test_is_named_by_tag_and_digest_and_nothing_is_made(self, project: Path) -> None:
        image = self.publish(project, "pytorch")
        configs = self.rendered(project)
        for folder in ("devcontainer/pytorch", ".devcontainer/pytorch"):
            assert configs[folder]["image"] == image
            assert list(configs[folder]["initializeCommand"]) == ["left over"]
            assert problems(configs[folder]) == []
        template = configs["devcontainer/template/.devcontainer"]
        assert template["image"] == image
        assert list(template["initializeCommand"]) == ["left over"]

    def test_one_that_requires_a_gpu_still_looks_for_it(self, project: Path) -> None:
        image = self.publish(project, "pytorch")
        config = self.rendered(project)["devcontainer/pytorch-gpu"]
        assert config["image"] == image
        assert config["initializeCommand"] == {"image": "make devcontainer NAME=pytorch-gpu"}

    def test_what_is_not_published_is_made_here(self, project: Path) -> None:
        self.publish(project, "pytorch")
        config = self.rendered(project)["devcontainer/tensorflow"]
        assert config == config_of("tensorflow")

    def test_a_file_that_is_none_is_named(self, project: Path) -> None:
        (project / PUBLISHED).write_text("[]")
        with pytest.raises(StorageError, match=r"published\.json cannot be read.*`unpin`"):
            load_published(project)

    def test_pin_takes_one_name(self, capsys: pytest.CaptureFixture[str]) -> None:
        where = ["--registry", "http://127.0.0.1:9", "--project", str(ROOT)]
        assert main(["devcontainer", "pin", "pytroch", *where]) != 0
        assert "there is no dev container 'pytroch'" in capsys.readouterr().err

    def test_pin_needs_to_know_where(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["devcontainer", "pin", "--project", str(ROOT)]) == 2
        assert "--registry HOST/PREFIX" in capsys.readouterr().err


def _planned() -> tuple[Any, Any, list[Any]]:
    _matrix, upstream, plan = planning.committed()
    return plan.cells, upstream, []


class TestTheFeature:
    def test_is_written_whole(self, tmp_path: Path) -> None:
        command = ["devcontainer", "feature", "--output", str(tmp_path), "--project", str(ROOT)]
        assert main(command) == 0
        folder = tmp_path / ".devcontainer" / "wheelyard"
        facts = json.loads((folder / "devcontainer-feature.json").read_text())
        assert facts["id"] == folder.name
        assert (folder / "install.sh").stat().st_mode & 0o111
        assert (folder / "selfcheck" / "cli.py").is_file()
        assert not list(folder.rglob("__pycache__"))
        assert main(command) == 2
        assert main([*command, "--force"]) == 0


class TestTheTemplate:
    folder = ROOT / "devcontainer" / "template"

    def test_its_configuration_is_of_the_matrix(self) -> None:
        config = read_config((self.folder / ".devcontainer/devcontainer.json").read_text())
        assert problems(config) == []
        assert config["image"] == config_of("pytorch")["image"]
        # Which makes the image for the engine's processor under that name.
        assert "make devcontainer NAME=pytorch'" in config["initializeCommand"]["image"]

    def test_its_tasks_name_what_is_there(self) -> None:
        tasks = json.loads((self.folder / ".vscode/tasks.json").read_text())["tasks"]
        assert {task["label"] for task in tasks} >= {"Train", "Test"}
        launch = json.loads((self.folder / ".vscode/launch.json").read_text())
        assert (self.folder / launch["configurations"][0]["program"]).is_file()


@pytest.mark.parametrize("address", [None, "registry.example/team"])
def test_a_project_opens_its_own_image_with_its_folder_over_the_code(
    tmp_path: Path, address: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    table = '[tool.wheelyard]\nimage = "pytorch:2.3.1"\nname = "my-model"\nworkdir = "/srv/app"\n'
    (tmp_path / "pyproject.toml").write_text(f'[project]\nname = "my-model"\n{table}')
    words = ["devcontainer", "init", "--output", str(tmp_path), "--project", str(ROOT)]
    assert main([*words, *(["--registry", address] if address else [])]) == 0
    told = capsys.readouterr().out.partition("next ")[2]
    assert ("`wheelyard build`, then open" in told) == (address is None)
    assert f"open {tmp_path} in VS Code" in " ".join(told.split())
    config = read_config((tmp_path / ".devcontainer/devcontainer.json").read_text())
    assert problems(config) == []
    assert config["image"] == (
        "my-model:latest" if address is None else f"{address}/my-model:latest"
    )
    assert config["workspaceFolder"] == "/srv/app"
    assert config["workspaceMount"].endswith("target=/srv/app,type=bind")
    assert ("wheelyard build" in str(config["initializeCommand"])) == (address is None)
    if address is None:  # what is asked for is chosen, as anywhere
        assert main([*words, "--force", "--framework", "tensorflow"]) == 0
        config = read_config((tmp_path / ".devcontainer/devcontainer.json").read_text())
        assert config["image"].startswith("tensorflow:")
        assert "workspaceMount" not in config


def test_init_makes_the_folder(tmp_path: Path) -> None:
    mine = tmp_path / "new" / "mine"
    assert main(["devcontainer", "init", "--output", str(mine), "--project", str(ROOT)]) == 0
    assert (mine / ".devcontainer" / "devcontainer.json").is_file()


@pytest.mark.parametrize(
    ("machine", "wish", "image"),
    [
        ("arm64", (), "pytorch:2.15.0-cuda13.2-cudnn9.26-py3.13-devel-arm64"),
        ("AMD64", (), "pytorch:2.15.0-cuda13.2-cudnn9.26-py3.13-devel"),
        ("arm64", ("--framework", "tensorflow-2.20"), "tensorflow:2.20.0-cuda12.5"),
    ],
)
def test_init_goes_by_the_processor_where_there_is_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    machine: str, wish: tuple[str, ...], image: str,
) -> None:  # fmt: skip
    """As macOS and Windows call it; what an arm64 machine has no image for is emulated there."""
    monkeypatch.setattr("platform.machine", lambda: machine)
    words = ["devcontainer", "init", "--output", str(tmp_path), "--project", str(ROOT), *wish]
    assert main(words) == 0
    told = capsys.readouterr()
    (line,) = [line for line in told.out.splitlines() if line.startswith("image")]
    assert line.split()[1].startswith(image)
    assert line.endswith("-arm64") == image.endswith("-arm64")
    assert ("for amd64, emulated" in told.err) == bool(wish)


def test_init_takes_a_folder_and_no_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devcontainer", "init", "pytorch", "--project", str(ROOT)]) == 2
    assert "--output pytorch" in capsys.readouterr().err


def test_prepare_wants_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devcontainer", "prepare", "--project", str(ROOT)]) == 2
    assert "such as pytorch" in capsys.readouterr().err


def test_prepare_without_an_engine_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    assert main(["devcontainer", "prepare", "pytorch", "--project", str(ROOT)]) == 12
    assert "is not running: start it" in capsys.readouterr().err
