"""What is wrong with a machine: every judgment from a machine that was made up for it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from wheelyard.cli import main
from wheelyard.contract.runtimes import EngineFacts
from wheelyard.selfcheck.gpu.driver import Driver, Gpu
from wheelyard.servers.doctor import TOPICS, Line, Topic, diagnose
from wheelyard.servers.machine import LAZY, Gpus, LocalEngine, Machine, has_cdi, switched_on

H100 = Driver("580.159.04", (Gpu("NVIDIA H100", 81559, "9.0"),), "nvml", "13.0")
DOCKER = EngineFacts("26.1", ("runc", "nvidia"), "/var/lib/docker", cdi=False)
GOOD = Machine(
    kernel="6.1", architecture="x86_64", root=False, overlay=True, user_namespaces=True,
    missing_tools=(), emulates=frozenset({"arm64"}), cache=Path("/c"), cache_free=10**12,
    proxies=("HTTPS_PROXY",),
    ca_problem=None, online=True, index_problem=None, has_registry=True, registry_problem=None,
    programs=frozenset(), lazily=frozenset(), cdi=False,
    engine=LocalEngine(DOCKER, free=10**12), gpus=Gpus(H100),
)  # fmt: skip


def off(machine: Machine, *wanted: Topic) -> dict[str, Line]:
    """The lines that are not as they should be."""
    return {x.name: x for x in diagnose(machine, wanted or TOPICS) if x.state != "ok"}


def test_a_good_machine() -> None:
    assert off(GOOD) == {}
    assert {line.topic for line in diagnose(GOOD, TOPICS)} == set(TOPICS)


@pytest.mark.parametrize(
    ("machine", "index", "registry"),
    [
        (GOOD, "answers", "answers"),
        (replace(GOOD, has_registry=False), "answers", "not set"),
        (replace(GOOD, online=False), "not asked", "not asked"),
    ],
)
def test_only_what_was_asked_answers(machine: Machine, index: str, registry: str) -> None:
    seen = {line.name: line.seen for line in diagnose(machine, ("build",))}
    assert (seen["index"], seen["registry"]) == (index, registry)


@pytest.mark.parametrize("program", ["containerd-stargz-grpc", "k3s"])
def test_a_machine_that_starts_images_unfinished_is_told(program: str) -> None:
    def said(*programs: str, lazily: frozenset[str] = frozenset()) -> list[Line]:
        machine = replace(GOOD, programs=frozenset(programs), lazily=lazily)
        return [line for line in diagnose(machine, ("run",)) if line.name == "lazy pulls"]

    assert said("podman") == []
    (on,) = said(program, "podman", lazily=frozenset({program}))
    assert (on.state, on.seen.partition(":")[0]) == ("ok", program)
    (off,) = said(program, "podman")
    assert (off.state, off.fix) == ("note", f"docs/servers.md; {LAZY[program]}")


def test_a_snapshotter_is_switched_on_where_a_configuration_names_it(tmp_path: Path) -> None:
    one, other = tmp_path / "config.toml", tmp_path / "config.yaml"
    switches = {"containerd-stargz-grpc": (one,), "k3s": (tmp_path / "none", other)}
    assert switched_on(switches) == frozenset()
    one.write_text('[proxy_plugins]\n  [proxy_plugins.stargz]\n    type = "snapshot"\n')
    other.write_bytes(b"# \xff\nsnapshotter: native\n")
    assert switched_on(switches) == {"containerd-stargz-grpc"}
    other.write_bytes(b"# \xff\nsnapshotter: stargz\n")
    assert switched_on(switches) == set(switches)


@pytest.mark.parametrize(
    ("machine", "name", "fix"),
    [
        (replace(GOOD, architecture="riscv64"), "architecture", "x86_64"),
        (replace(GOOD, missing_tools=("mmdebstrap",)), "mmdebstrap", "apt-get install mmdebstrap"),
        (replace(GOOD, cache_free=10**9), "cache /c", "--cache-dir"),
        (replace(GOOD, ca_problem="SSL_CERT_FILE is not there"), "CA", "--ca-bundle"),
        (replace(GOOD, index_problem="HTTP 403"), "index", "--index-url"),
        (replace(GOOD, registry_problem="HTTP 401"), "registry", "wheelyard login"),
        (replace(GOOD, engine=LocalEngine(None, "may not be used")), "Docker", "DOCKER_HOST"),
        (
            replace(GOOD, engine=LocalEngine(DOCKER, free=10**9)),
            "images in /var/lib/docker",
            "prune",
        ),
        (
            replace(GOOD, engine=LocalEngine(replace(DOCKER, runtimes=("runc",)), free=10**12)),
            "GPUs in containers",
            "nvidia-ctk runtime configure",
        ),
        (
            replace(GOOD, engine=LocalEngine(None), programs=frozenset({"podman"})),
            "GPUs in containers",
            "nvidia-ctk cdi generate",
        ),
    ],
)
def test_what_is_wrong_has_a_fix(machine: Machine, name: str, fix: str) -> None:
    line = off(machine)[name]
    assert line.state == "wrong"
    assert fix in str(line.fix)


def test_a_broken_driver_is_wrong_and_a_missing_one_a_note() -> None:
    assert off(replace(GOOD, gpus=Gpus(None, "none", broken=False)))["driver"].state == "note"
    assert off(replace(GOOD, gpus=Gpus(None, "mismatch", broken=True)))["driver"].state == "wrong"


def test_what_was_asked_for_has_to_be_there() -> None:
    absent = replace(GOOD, gpus=Gpus(None, "none"), engine=LocalEngine(None))
    assert off(absent, "gpu")["driver"].state == "wrong"
    assert off(absent, "run")["container runtime"].state == "wrong"
    assert off(absent)["container runtime"].state == "note"


def test_an_older_driver_is_told_what_it_misses() -> None:
    old = replace(H100, version="535.104.05")
    line = off(replace(GOOD, gpus=Gpus(old)))["CUDA 13"]
    assert (line.state, "580.65.06" in str(line.fix)) == ("note", True)


def test_neither_root_nor_namespaces() -> None:
    line = off(replace(GOOD, user_namespaces=False))["privileges"]
    assert line.state == "note"
    assert "unprivileged_userns_clone" in str(line.fix)


def test_a_cdi_specification_is_found(tmp_path: Path) -> None:
    assert not has_cdi([tmp_path, tmp_path / "none"])
    (tmp_path / "other.yaml").write_text("kind: example.com/net\n")
    assert not has_cdi([tmp_path])
    (tmp_path / "nvidia.yaml").write_text("kind: nvidia.com/gpu\n")
    assert has_cdi([tmp_path])


def test_the_command_reads_this_machine(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever this machine is; its engine is not asked here."""
    monkeypatch.setattr("wheelyard.servers.machine.read_engine", lambda: LocalEngine(None))
    monkeypatch.chdir(tmp_path)
    code = main(["doctor", "--offline", "--json", "--cache-dir", str(tmp_path / "cache")])
    lines = json.loads(capsys.readouterr().out)
    assert code == (17 if any(line["state"] == "wrong" for line in lines) else 0)
    assert {"build", "run", "gpu"} == {line["topic"] for line in lines}


def test_what_a_driver_does_not_say_is_unknown() -> None:
    """Jetson's nvidia-smi answers [N/A]."""
    jetson = Driver("", (Gpu("Orin (nvgpu)", None, ""),), "nvidia-smi")
    seen = {line.name: line for line in diagnose(replace(GOOD, gpus=Gpus(jetson)), ("gpu",))}
    assert seen["driver"].seen == "version unknown (CUDA unknown)"
    assert seen["GPU 0"].seen == "Orin (nvgpu), memory unknown, compute capability unknown"


def test_a_gpu_that_its_driver_does_not_know() -> None:
    old = Driver("535.183.06", (Gpu("NVIDIA RTX 5090", 32607, "12.0"),), "nvidia-smi", "12.2")
    line = off(replace(GOOD, gpus=Gpus(old)), "gpu")["GPU 0"]
    assert line.state == "wrong"
    assert "570.26" in (line.fix or "")


def test_a_warning_of_nvidia_smi_is_shown() -> None:
    said = Driver("580.159.04", H100.gpus, "nvidia-smi", "13.0", remarks=("WARNING: infoROM",))
    assert off(replace(GOOD, gpus=Gpus(said)))["nvidia-smi"].seen == "WARNING: infoROM"


def test_bases_of_another_architecture_want_qemu() -> None:
    line = off(replace(GOOD, emulates=frozenset()))["bases for arm64"]
    assert (line.state, line.fix) == ("note", "apt-get install qemu-user-static")


def test_a_foreign_architecture_runs_nothing() -> None:
    assert off(replace(GOOD, architecture="riscv64"), "run")["architecture"].state == "wrong"
    assert "architecture" not in off(replace(GOOD, architecture="aarch64"), "run")
