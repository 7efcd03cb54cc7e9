"""What is concluded from nvidia-smi, where NVML's binding is not installed: a script stands for it.

Its words are those of nvidia-smi as bug reports quote them; no GPU was asked.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from wheelyard.selfcheck.gpu import smi
from wheelyard.selfcheck.gpu.driver import (
    BrokenDriverError,
    Driver,
    Gpu,
    NoDriverError,
    free_memory,
    read_driver,
)
from wheelyard.selfcheck.gpu.judge import judge_devices, judge_driver, judge_framework

OLD = """case "$1" in *compute_cap*)
  echo 'Field "compute_cap" is not a valid field to query.'; exit 2;; esac
echo "470.182.03, 0, Tesla V100-SXM2-16GB, 16160, 15900"
"""
SLICE = """echo "550.127.08, 0, NVIDIA A100-SXM4-80GB, [Insufficient Permissions], \
[Insufficient Permissions], 8.0, Enabled, [Insufficient Permissions], Enabled, Enabled, [N/A]"
"""


def install(script: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `script` be the machine's nvidia-smi, and pynvml not be installed."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "pynvml" else find(name)
    )


def test_a_driver_that_does_not_know_capabilities_is_still_told_too_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(OLD, tmp_path, monkeypatch)
    driver = read_driver()
    assert driver.gpus == (Gpu("Tesla V100-SXM2-16GB", 16160, "", 15900),)
    outcome = judge_driver(driver, "12.1")
    assert outcome.status == "fail"
    assert (outcome.reason or "").startswith("driver 470.182.03 is older than 525.60.13")
    assert judge_framework("pytorch", driver, 1, ["sm_70"], None).status == "pass"


def test_a_slice_of_a_gpu_may_not_say_its_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(SLICE, tmp_path, monkeypatch)
    driver = read_driver()
    assert (driver.gpus[0].memory, driver.gpus[0].mig, driver.gpus[0].ecc) == (None, True, True)
    assert judge_devices(driver).reason == "GPU 0 in MIG mode: programs get a slice"
    assert free_memory() is None


@pytest.mark.parametrize(
    ("script", "advice"),
    [
        ("echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18", "restart"),
        (
            "echo \"NVIDIA-SMI has failed because it couldn't communicate with the "
            'NVIDIA driver."; '
            "exit 9",
            "modprobe nvidia",
        ),
        ("echo '550.54.14, 0, [GPU is lost], [GPU is lost]'", "Xid"),
        ("echo 'Unknown Error'; exit 255", "run nvidia-smi on the host"),
        ("sleep 5", "did not answer within"),
    ],
)
def test_a_broken_driver_is_a_failure_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, advice: str
) -> None:
    install(script, tmp_path, monkeypatch)
    monkeypatch.setattr(smi, "TIMEOUT", 1 if script.startswith("sleep") else 60)
    with pytest.raises(BrokenDriverError, match=advice):
        read_driver()


def test_no_gpu_is_no_broken_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install("echo 'No devices were found'; exit 6", tmp_path, monkeypatch)
    with pytest.raises(NoDriverError, match="lists no GPU") as caught:
        read_driver()
    assert not isinstance(caught.value, BrokenDriverError)
    assert judge_devices(caught.value).status == "skip"


def test_a_gpu_that_programs_do_not_see_need_not_fit() -> None:
    """CUDA_VISIBLE_DEVICES may leave out the old card of two."""
    old, new = Gpu("Quadro K600", 1024, "3.0"), Gpu("NVIDIA A30", 24576, "8.0")
    driver = Driver("550.54.14", (old, new), "nvml")
    assert judge_framework("pytorch", driver, 1, ["sm_80"], "1").status == "pass"
    both = judge_framework("pytorch", driver, 2, ["sm_80"], None)
    assert (both.status, both.reason) == (
        "pass",
        "pytorch's wheel has no code for Quadro K600: leave it out with CUDA_VISIBLE_DEVICES",
    )
    assert judge_framework("pytorch", driver, 2, ["sm_90"], None).status == "fail"
    assert judge_framework("pytorch", driver, 2, ["sm_80"], "0,1").status == "fail"


GOOD = "550.54.14, 0, NVIDIA A30, 24576, 24000, 8.0, Enabled, 0, Disabled, Enabled, GPU-1"
WARNING = "WARNING: infoROM is corrupted at gpu 0000:01:00.0"


@pytest.mark.parametrize("lines", [(GOOD, WARNING), (WARNING, GOOD), ("", WARNING, "", GOOD, "")])
def test_a_line_about_one_gpu_is_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: tuple[str, ...]
) -> None:
    """NVIDIA/gpu-operator#20, NVIDIA/dcgm-exporter#604."""
    install("".join(f"echo '{line}'\n" for line in lines), tmp_path, monkeypatch)
    driver = read_driver()
    assert [gpu.name for gpu in driver.gpus] == ["NVIDIA A30"]
    assert driver.remarks == (WARNING,)
    outcome = judge_devices(driver)
    assert (outcome.status, outcome.reason) == ("pass", f"nvidia-smi says: {WARNING}")


def test_the_warning_is_quoted_and_not_the_healthy_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(f"echo '{GOOD}'; echo '{WARNING}'; exit 14", tmp_path, monkeypatch)
    with pytest.raises(BrokenDriverError, match="infoROM is corrupted") as caught:
        read_driver()
    assert "A30" not in str(caught.value)


def test_what_jetson_does_not_say_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """dusty-nv/jetson-containers#1403."""
    row = "[N/A], 0, Orin (nvgpu), [N/A], [N/A], [N/A], [N/A], [N/A], [N/A], [N/A], [N/A]"
    install(f"echo '{row}'", tmp_path, monkeypatch)
    driver = read_driver()
    assert (driver.version, driver.gpus) == ("", (Gpu("Orin (nvgpu)", None, ""),))
    outcome = judge_driver(driver, "12.1")
    assert (outcome.status, "does not say its version" in (outcome.reason or "")) == ("skip", True)
