"""Which image a machine gets, and the very condition that fails where it gets none."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import planning
import pytest
from nvml import simulated
from referring import referring_registry

from wheelyard.cli import main
from wheelyard.contract.runtimes import EngineFacts, best, find_runtimes, run_line
from wheelyard.errors import MachineError, RegistryError, SelectionError, UsageError
from wheelyard.planning.catalogue import (
    CatalogueEntry,
    merge,
    plan_entries,
    pull_bytes,
    read_catalogue,
    to_json,
)
from wheelyard.planning.facts import load_upstream
from wheelyard.servers.pick import (
    Host,
    Selection,
    at_least,
    check_driver,
    obstacle,
    parse_gpu,
    pick,
    require_known,
    unknown_to_driver,
)

ROOT = Path(__file__).parents[2]
IMAGE = "reg.example:5000/team/pytorch:2.3.1-cuda12.1"


@pytest.fixture(scope="module")
def entries() -> tuple[CatalogueEntry, ...]:
    """The real matrix."""
    _matrix, upstream, plan = planning.committed()
    return plan_entries(plan.cells, upstream, [])


def entry(version: str, cuda: str, *architectures: str, **more: Any) -> CatalogueEntry:
    name = f"pytorch-{version}-cuda{cuda}"
    base = CatalogueEntry(
        id=name, tags=(f"pytorch:{version}-cuda{cuda}",), framework="pytorch",
        framework_version=version, cuda=cuda, cudnn="8.9", python="3.11", flavour="runtime",
        architectures=(architectures or ("sm_80", "sm_90"),),
    )  # fmt: skip
    return replace(base, **more)


class TestTheDriver:
    @pytest.mark.parametrize(
        ("driver", "major"),
        [("535.104", "12"), ("525.60", "12"), ("580.65.06", "13"), ("580.65", "13")],
    )
    def test_decides_on_the_cuda_major(
        self, entries: tuple[CatalogueEntry, ...], driver: str, major: str
    ) -> None:
        chosen = pick(entries, Host(driver, ("9.0",)), Selection())
        assert chosen.entry.cuda.partition(".")[0] == major
        assert driver in chosen.reason

    def test_the_example_of_the_documentation(self, entries: tuple[CatalogueEntry, ...]) -> None:
        reason = pick(entries, Host("525.60", ("8.0",)), Selection()).reason
        assert "driver 525.60 runs CUDA 12.x by minor-version compatibility" in reason
        assert "CUDA 13 needs driver 580.65.06 or newer" in reason

    def test_native_is_said(self) -> None:
        chosen = pick([entry("2.3.1", "12.1")], Host("530.30.02"), Selection())
        assert "runs CUDA 12.1 natively" in chosen.reason

    def test_too_old_for_all(self, entries: tuple[CatalogueEntry, ...]) -> None:
        with pytest.raises(MachineError, match=r"CUDA 12 needs driver 525\.60\.13"):
            pick(entries, Host("470.82.01", ("8.0",)), Selection())

    @pytest.mark.parametrize(
        ("driver", "floor", "will_do"),
        [
            ("525.60", "525.60.13", True),
            ("525.60.11", "525.60.13", False),
            ("525.147.05", "525.60.13", True),
            ("570.26", "570.26", True),
            ("524.99", "525.60.13", False),
        ],
    )
    def test_is_compared_as_far_as_it_is_written(
        self, driver: str, floor: str, will_do: bool
    ) -> None:
        assert at_least(driver, floor) is will_do


class TestTheGpu:
    def test_one_that_cuda_13_dropped_gets_cuda_12(
        self, entries: tuple[CatalogueEntry, ...]
    ) -> None:
        chosen = pick(entries, Host("595.71.05", ("7.0",)), Selection())
        assert chosen.entry.cuda == "12.8"
        assert "no code for sm_70" in chosen.reason

    def test_every_gpu_of_a_machine_counts(self) -> None:
        old, new = entry("2.3.1", "12.1", "sm_70", "sm_90"), entry("2.9.1", "12.8", "sm_90")
        assert pick([old, new], Host("570.26", ("9.0",)), Selection()).entry == new
        assert pick([old, new], Host("570.26", ("9.0", "7.0")), Selection()).entry == old

    def test_a_gpu_too_new_for_all(self) -> None:
        with pytest.raises(MachineError, match=r"no code for sm_120: it was built for sm_80"):
            pick([entry("2.3.1", "12.1")], Host("580.65.06", ("12.0",)), Selection())

    def test_ptx_needs_the_driver_of_its_own_cuda(self) -> None:
        """Outside minor-version compatibility."""
        ptx = entry("2.20.0", "12.5", "sm_80", "compute_90")
        problem = obstacle(ptx, Host("535.104.05", ("9.0",)))
        assert problem is not None
        assert "only PTX for sm_90" in problem
        assert "555.42.02" in problem
        assert obstacle(ptx, Host("555.42.02", ("9.0",))) is None
        assert obstacle(ptx, Host("535.104.05", ("8.6",))) is None

    @pytest.mark.parametrize(
        ("driver", "gpu", "floor"),
        [
            ("535.183.06", "12.0", "570.26"),
            ("560.35.03", "10.0", "570.26"),
            ("570.26", "12.0", None),
            ("570.26", "10.3", "575.51.03"),
            ("535.183.06", "9.0", None),
            (None, "12.0", None),
        ],
    )
    def test_newer_than_its_driver(self, driver: str | None, gpu: str, floor: str | None) -> None:
        """A driver that has never heard of a GPU runs nothing there, PTX or not."""
        problem = unknown_to_driver(gpu, driver)
        assert (problem is None) == (floor is None)
        if floor is not None:
            images = [entry("2.9.1", "12.8", "sm_90", "sm_100", "sm_120", "compute_120")]
            with pytest.raises(MachineError, match=floor):
                pick(images, Host(driver, (gpu,)), Selection())

    @pytest.mark.parametrize("text", ["sm_90", "90", "9.0", "compute_90", "sm_90a"])
    def test_ways_to_write_it(self, text: str) -> None:
        assert parse_gpu(text) == "9.0"

    def test_two_digits_before_the_last(self) -> None:
        assert parse_gpu("sm_120") == "12.0"

    @pytest.mark.parametrize("text", ["h100", "", "9", "sm_9000"])
    def test_what_is_none(self, text: str) -> None:
        with pytest.raises(UsageError, match="sm_90"):
            parse_gpu(text)

    def test_a_driver_that_is_none(self) -> None:
        with pytest.raises(UsageError, match="nvidia-smi"):
            check_driver("latest")


class TestTheArchitecture:
    @pytest.mark.parametrize("name", ["aarch64", "arm64", "ppc64le"])
    def test_a_foreign_one_is_refused_by_name(self, name: str) -> None:
        """NVIDIA's GB10 with a driver that would do."""
        with pytest.raises(MachineError, match=rf"x86_64.*this machine is {name}"):
            pick(
                [entry("2.9.1", "13.0", "sm_120")], Host("595.71.05", ("12.1",), name), Selection()
            )

    @pytest.mark.parametrize("name", ["x86_64", "AMD64", "amd64"])
    def test_ours_has_several_names(self, name: str) -> None:
        assert pick(
            [entry("2.3.1", "12.1")],
            Host("550.54.14", ("9.0",), name),
            Selection(),
        )


class TestTheWish:
    @pytest.mark.parametrize(
        ("framework", "start"),
        [
            (None, "pytorch-2."),
            ("pytorch-2.3", "pytorch-2.3.1-"),
            ("tensorflow", "tensorflow-2."),
            ("pytorch+tensorflow", "pytorch-2."),
        ],
    )
    def test_framework(
        self, entries: tuple[CatalogueEntry, ...], framework: str | None, start: str
    ) -> None:
        chosen = pick(entries, Host("580.65.06", ("8.0",)), Selection(framework)).entry
        assert chosen.id.startswith(start)
        assert chosen.framework == (framework or "pytorch").partition("-")[0]

    def test_flavour_python_and_cuda(self, entries: tuple[CatalogueEntry, ...]) -> None:
        selection = Selection("pytorch", cuda="12.8", python="3.11", flavour="devel")
        chosen = pick(entries, Host("580.65.06"), selection).entry
        assert (chosen.cuda, chosen.python, chosen.flavour) == ("12.8", "3.11", "devel")

    def test_another_cudnn_than_upstreams_is_for_those_who_name_it(
        self, entries: tuple[CatalogueEntry, ...]
    ) -> None:
        chosen = pick(entries, Host("530.30.02"), Selection("pytorch-2.3")).entry
        assert chosen.cudnn == "8.9"

    def test_what_there_is_not(self, entries: tuple[CatalogueEntry, ...]) -> None:
        with pytest.raises(MachineError, match="framework mxnet"):
            pick(entries, Host("580.65.06"), Selection("mxnet"))


class TestTheCatalogue:
    def test_survives_being_published(self, entries: tuple[CatalogueEntry, ...]) -> None:
        found = read_catalogue(json.dumps(to_json(entries, 7)).encode())
        assert (found.entries, found.counter, found.faults) == (entries, 7, ())

    def test_a_newer_version_is_told_apart(self) -> None:
        with pytest.raises(RegistryError, match="another version"):
            read_catalogue(b'{"version": 99, "images": []}')

    def test_a_newer_entry_takes_the_place_of_an_older(self) -> None:
        old, other = entry("2.3.1", "12.1"), entry("2.4.1", "12.1")
        new = replace(old, digest="sha256:1")
        assert merge([old, other], [new]) == (new, other)

    def test_what_a_pull_costs(self) -> None:
        image = entry("2.3.1", "12.1", layers=(("a", 10), ("b", 20), ("c", 5)))
        assert pull_bytes(image, []) == 35
        assert pull_bytes(image, [("a", "b", "x"), ("b", "c")]) == 5
        assert pull_bytes(entry("2.3.1", "12.1"), []) is None


class TestTheRuntime:
    def facts(self, *runtimes: str, cdi: bool = False) -> EngineFacts:
        return EngineFacts("26.1", ("runc", *runtimes), "/var/lib/docker", cdi)

    @pytest.mark.parametrize(
        ("docker", "tools", "cdi", "expected"),
        [
            (("nvidia",), (), False, ("docker", True)),
            ((), ("nvidia-container-runtime-hook",), False, ("docker", True)),
            ((), (), True, ("docker-cdi", True)),
            ((), (), False, ("docker", False)),
            ((), ("apptainer",), False, ("apptainer", True)),
            (None, ("podman",), True, ("podman", True)),
            (None, ("podman", "enroot", "nvidia-container-cli"), False, ("enroot", True)),
            (None, ("podman",), False, ("podman", False)),
        ],
    )
    def test_the_one_that_can_hand_out_gpus(
        self,
        docker: tuple[str, ...] | None,
        tools: tuple[str, ...],
        cdi: bool,
        expected: tuple[str, bool],
    ) -> None:
        facts = None if docker is None else self.facts(*docker, cdi=True)
        found = best(find_runtimes(facts, tools, cdi=cdi))
        assert found is not None
        assert (found.name, found.gpus) == expected
        assert (found.advice is None) == found.gpus

    def test_an_old_engine_reads_no_cdi(self) -> None:
        (found,) = find_runtimes(self.facts(), (), cdi=True)
        assert found == replace(found, name="docker", gpus=False)

    def test_none(self) -> None:
        assert best(find_runtimes(None, (), cdi=True)) is None

    @pytest.mark.parametrize(
        ("runtime", "line"),
        [
            ("docker", f"docker run --rm -it --gpus all --shm-size=8g {IMAGE}"),
            (
                "docker-cdi",
                f"docker run --rm -it --device nvidia.com/gpu=all --shm-size=8g {IMAGE}",
            ),
            ("apptainer", f"apptainer run --nv docker://{IMAGE}"),
            (
                "enroot",
                "enroot import -o pytorch+2.3.1-cuda12.1.sqsh "
                "'docker://reg.example:5000#team/pytorch:2.3.1-cuda12.1' && "
                "enroot start pytorch+2.3.1-cuda12.1.sqsh",
            ),
        ],
    )
    def test_what_to_type(self, runtime: str, line: str) -> None:
        assert run_line(runtime, IMAGE) == line


class TestTheCommand:
    @pytest.fixture(autouse=True)
    def _quiet(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("wheelyard.servers.machine.has_cdi", lambda: False)

    def machine(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        """NVML is simulated; no engine is asked."""
        from wheelyard.servers.machine import LocalEngine

        monkeypatch.setitem(sys.modules, "pynvml", simulated(name))
        monkeypatch.setattr(
            "wheelyard.selfcheck.gpu.driver.importlib.util.find_spec", lambda name: name
        )
        facts = EngineFacts("26.1", ("runc", "nvidia"), "/var/lib/docker", cdi=False)
        monkeypatch.setattr("wheelyard.servers.machine.read_engine", lambda: LocalEngine(facts))

    def test_for_this_machine(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.machine(monkeypatch, "h100")
        assert main(["pick", "--json", "--project", str(ROOT)]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["driver"], found["gpus"]) == ("580.159.04", ["9.0"])
        assert found["cuda"].startswith("13.")
        assert found["run"].endswith(f"--gpus all --shm-size=8g {found['image']}")
        assert found["notes"] == []

    @pytest.mark.parametrize(
        ("program", "line"), [("k3s", "k3s server"), ("containerd-stargz-grpc", "nerdctl")]
    )
    def test_what_starts_an_image_before_it_has_arrived_is_named(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], program: str,
        line: str,
    ) -> None:  # fmt: skip
        self.machine(monkeypatch, "h100")
        entries = plan_entries(planning.committed_plan().cells, load_upstream(), ())
        monkeypatch.setattr("wheelyard.servers.choosing.read_entries", lambda *_: entries)
        words = ["pick", "--json", "--project", str(ROOT), "--registry", "reg.example"]
        for programs, names in ((frozenset[str](), []), (frozenset({program}), [line])):
            monkeypatch.setattr("wheelyard.servers.machine.read_programs", lambda p=programs: p)
            assert main(words) == 0
            notes = json.loads(capsys.readouterr().out)["notes"]
            assert [name for name in names if name in notes[-1]] == names
            assert len(notes) == len(names)
        assert main([*words, "--driver", "580.95", "--gpu", "sm_90"]) == 0
        assert json.loads(capsys.readouterr().out)["notes"] == []  # another machine

    def test_what_is_in_no_registry_and_no_engine_is_to_be_built(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.machine(monkeypatch, "h100")
        assert main(["pick", "--json", "--project", str(ROOT)]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["build"] == f"wheelyard build {found['id']}"
        assert main(["pick", "--project", str(ROOT)]) == 0
        assert f"build   wheelyard build {found['id']}\n" in capsys.readouterr().out

    def test_a_foreign_machine(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.machine(monkeypatch, "h100")
        monkeypatch.setattr("platform.machine", lambda: "riscv64")
        assert main(["pick", "--project", str(ROOT)]) == MachineError.exit_code
        assert "this machine is riscv64" in capsys.readouterr().err

    def test_a_cpu_image_is_advised_only_where_there_is_one(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.machine(monkeypatch, "no-driver")
        assert main(["pick", "--project", str(ROOT)]) == MachineError.exit_code
        said = capsys.readouterr().err
        assert "--cuda cpu" not in said
        assert "without a GPU every image runs" in said

    @pytest.mark.parametrize("name", ["no-driver", "version-mismatch", "gpu-lost"])
    def test_a_machine_whose_driver_does_not_answer(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
    ) -> None:
        self.machine(monkeypatch, name)
        assert main(["pick", "--project", str(ROOT)]) == MachineError.exit_code
        assert "--driver 550.54.14" in capsys.readouterr().err

    def test_for_another_machine(self, capsys: pytest.CaptureFixture[str]) -> None:
        words = ["pick", "--driver", "535.104", "--gpu", "sm_90", "--project", str(ROOT)]
        assert main([*words, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert {"id", "image", "cuda", "reason"} <= set(found)
        assert found["cuda"] == "12.8"
        assert main(words) == 0
        assert capsys.readouterr().out.splitlines()[0].split() == ["image", found["image"]]

    def test_an_empty_registry_offers_nothing(self, capsys: pytest.CaptureFixture[str]) -> None:
        """The matrix's image is not there, so it could not be pulled."""
        with referring_registry("catalogue") as shelf:
            words = ["pick", "--driver", "535.104", "--registry", shelf.url]
            assert main([*words, "--project", str(ROOT)]) == RegistryError.exit_code
        assert "has no catalogue" in capsys.readouterr().err

    def test_anywhere_it_picks_from_the_set_that_came_along(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert main(["pick", "--driver", "535.104"]) == 0
        said = capsys.readouterr()
        assert "these are the images that wheelyard was installed with" in said.err
        assert "pytorch:2.10.0-cuda12.8" in said.out

    def test_which_set_that_is_is_said_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        words = ["init", "--framework", "pytorch", "--output", str(tmp_path)]
        assert main(["devcontainer", *words]) == 0
        assert capsys.readouterr().err.count("wheelyard was installed with") == 1


@pytest.mark.parametrize(
    ("selection", "said"),
    [
        (Selection("torch"), "no image has --framework torch; did you mean pytorch?"),
        (Selection("PyTorch-2.33"), r"no image has --framework pytorch-2.33; there are: pytorch, "),
        (Selection("pytorch-9"), "pytorch-2.9.1, pytorch-2.10.0"),
        (Selection(cuda="11.8"), "no image has --cuda 11.8; there are: 12.1, 12.2"),
        (Selection(python="3.9"), "no image has --python 3.9; there are: 3.11, 3.13"),
        (Selection(flavour="dev"), "no image has --flavour dev; did you mean devel?"),
    ],
)
def test_a_word_that_no_image_has_is_answered_with_those_that_exist(
    entries: tuple[CatalogueEntry, ...], selection: Selection, said: str
) -> None:
    with pytest.raises(SelectionError, match=said.replace("?", r"\?")):
        require_known(entries, selection)


@pytest.mark.parametrize(
    "selection",
    [
        Selection(), Selection("pytorch"), Selection("PyTorch-2.3"), Selection("pytorch-2.3.1"),
        Selection("pytorch+tensorflow"), Selection("pytorch-2.10+tensorflow-2.20"),
        Selection(cuda="12"), Selection(python="3.13", flavour="devel"),
    ],
)  # fmt: skip
def test_a_word_that_some_image_has_is_known(
    entries: tuple[CatalogueEntry, ...], selection: Selection
) -> None:
    require_known(entries, selection)
    require_known((), selection)  # an empty catalogue is said otherwise


@pytest.mark.parametrize(
    "argv",
    [
        ["pick", "--driver", "570.26", "--gpu", "sm_90", "--framework", "torch"],
        ["devcontainer", "init", "--framework", "torch"],
    ],
)
def test_the_commands_say_it_before_they_judge_the_machine(
    argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = [] if argv[0] == "pick" else ["--output", str(tmp_path)]
    assert main([*argv, *output, "--project", str(ROOT)]) == SelectionError.exit_code
    assert "did you mean pytorch?" in capsys.readouterr().err
