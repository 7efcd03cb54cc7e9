"""What selfcheck concludes from a driver's answers; NVML is simulated, the decisions are real."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from functools import partial
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from nvml import simulated

from wheelyard.selfcheck.gpu import driver as drivers
from wheelyard.selfcheck.gpu import repeating
from wheelyard.selfcheck.gpu.compare import (
    TOLERANCES,
    MovedError,
    compare,
    each,
    judge_graph,
    no_kernel,
)
from wheelyard.selfcheck.gpu.driver import (
    BrokenDriverError,
    Driver,
    Gpu,
    NoDriverError,
    read_driver,
)
from wheelyard.selfcheck.gpu.judge import judge_devices, judge_driver, judge_framework, judge_trace
from wheelyard.selfcheck.gpu.kernel import check_nvcc, compile_command
from wheelyard.selfcheck.gpu.xplane import kernels_in
from wheelyard.selfcheck.result import Options, Outcome, passed, run_check
from wheelyard.selfcheck.training.peaks import stated_peak

TORCH_23 = ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]


@pytest.fixture
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The simulated NVML named by the test's parameter is the one that is installed."""
    name, changes = request.param if isinstance(request.param, tuple) else (request.param, None)
    monkeypatch.setitem(sys.modules, "pynvml", simulated(name, changes))
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: ModuleSpec(name, None) if name == "pynvml" else find(name),
    )
    return str(request.param)


def asked() -> Driver | NoDriverError:
    try:
        return read_driver()
    except NoDriverError as error:
        return error


@pytest.mark.parametrize("machine", ["h100"], indirect=True)
def test_a_good_machine_passes_and_everything_about_it_is_told(machine: str) -> None:
    driver = asked()
    assert isinstance(driver, Driver)
    assert (driver.version, driver.cuda, driver.source) == ("580.159.04", "13.0", "nvml")
    (gpu,) = driver.gpus
    assert (gpu.name, gpu.memory, gpu.capability) == ("NVIDIA H100 80GB HBM3", 81559, "9.0")
    assert (gpu.ecc, gpu.mig, gpu.persistence, gpu.nvlinks) == (True, False, True, 18)
    assert judge_driver(driver, "12.1").status == "pass"
    devices = judge_devices(driver)
    assert (devices.status, devices.reason) == ("pass", None)
    assert judge_framework("pytorch", driver, 1, TORCH_23, None).status == "pass"


@pytest.mark.parametrize("machine", ["driver-too-old"], indirect=True)
def test_an_old_driver_fails_with_what_to_do(machine: str) -> None:
    outcome = judge_driver(asked(), "12.1")
    assert outcome.status == "fail"
    assert outcome.reason == (
        "driver 515.65.01 is older than 525.60.13, which CUDA 12.1 needs: "
        "update the host's driver, or take an image with an older CUDA"
    )
    assert judge_driver(asked(), "11.8").status == "pass"
    assert "persistence mode is off" in (judge_devices(asked()).reason or "")


@pytest.mark.parametrize("machine", ["mig-on"], indirect=True)
def test_mig_is_told_and_a_missing_slice_fails(machine: str) -> None:
    driver = asked()
    assert isinstance(driver, Driver)
    assert (driver.gpus[0].mig, driver.gpus[0].mig_devices) == (True, 2)
    devices = judge_devices(driver)
    assert (devices.status, devices.reason) == ("pass", "GPU 0 in MIG mode: programs get a slice")
    assert judge_framework("pytorch", driver, 1, TORCH_23, None).status == "pass"
    blind = judge_framework("pytorch", driver, 0, TORCH_23, None)
    assert blind.status == "fail"
    assert "MIG is on and no slice was given" in (blind.reason or "")


@pytest.mark.parametrize("machine", ["mig-container"], indirect=True)
def test_a_container_with_a_slice_is_no_broken_driver(machine: str) -> None:
    """NVML lets nobody in there ask about the whole GPU's memory; the slice's is told."""
    driver = asked()
    assert isinstance(driver, Driver)
    assert (driver.gpus[0].memory, driver.gpus[0].free) == (9920, 9884)
    assert driver.gpus[0].mig_devices == 1
    assert judge_devices(driver).status == "pass"
    assert drivers.free_memory() == "GPU 0: 9884 of 9920 MiB free"


@pytest.mark.parametrize("machine", ["eight-gpus"], indirect=True)
def test_eight_gpus_are_all_wanted_and_their_links_are_told(machine: str) -> None:
    driver = asked()
    assert isinstance(driver, Driver)
    assert len(driver.gpus) == 8
    assert len(driver.links) == 28
    assert driver.links[0] == "0-1 one PCIe switch"
    assert driver.links[-1] == "6-7 one PCIe switch"
    assert "3-4 across NUMA nodes" in driver.links
    assert judge_framework("pytorch", driver, 8, TORCH_23, None).status == "pass"
    seven = judge_framework("pytorch", driver, 7, TORCH_23, None)
    assert (seven.status, "the driver shows 8 GPUs, pytorch sees 7" in (seven.reason or "")) == (
        "fail",
        True,
    )
    assert judge_framework("pytorch", driver, 2, TORCH_23, "0,1").status == "pass"


@pytest.mark.parametrize("machine", ["geforce"], indirect=True)
def test_what_a_card_does_not_say_is_unknown(machine: str) -> None:
    driver = asked()
    assert isinstance(driver, Driver)
    (gpu,) = driver.gpus
    assert (gpu.ecc, gpu.memory_errors, gpu.mig, gpu.mig_devices) == (None, None, None, None)
    assert judge_devices(driver).status == "pass"
    hidden = judge_framework("tensorflow", driver, 0, ["sm_86"], "-1")
    assert hidden.reason == "tensorflow sees no GPU: CUDA_VISIBLE_DEVICES is '-1'"
    assert (hidden.status, hidden.wants_gpu) == ("skip", True)  # somebody wanted it so
    assert judge_framework("tensorflow", driver, 0, ["sm_86"], "").status == "skip"
    assert judge_framework("tensorflow", driver, 0, ["sm_86"], "7").status == "fail"
    unfit = judge_framework("tensorflow", driver, 1, ["sm_90"], None)
    assert unfit.reason == "tensorflow's wheel has no code for NVIDIA GeForce RTX 3090"


@pytest.mark.parametrize("machine", ["memory-errors"], indirect=True)
def test_memory_errors_fail(machine: str) -> None:
    outcome = judge_devices(asked())
    assert outcome.status == "fail"
    assert "has 3 uncorrected memory errors: reset it" in (outcome.reason or "")


@pytest.mark.parametrize("machine", ["no-gpu", "no-driver"], indirect=True)
def test_without_a_gpu_everything_is_skipped_and_on_demand_failed(machine: str) -> None:
    outcomes = judge_devices(asked()), judge_framework("pytorch", asked(), 0, TORCH_23, None)
    for outcome in outcomes:
        assert (outcome.status, outcome.wants_gpu) == ("skip", True)
        assert "--gpus all" in (outcome.reason or "")
        result = run_check(("gpu.x", partial(_same, outcome)), Options(None, require_gpu=True))
        assert result.status == "fail"


@pytest.mark.parametrize(
    ("machine", "advice"),
    [
        ("module-not-loaded", "modprobe nvidia"),
        ("version-mismatch", "restart the host"),
        ("gpu-lost", "Xid"),
    ],
    indirect=["machine"],
)
def test_a_broken_driver_is_a_failure_and_no_skip(machine: str, advice: str) -> None:
    driver = asked()
    assert isinstance(driver, BrokenDriverError)
    for outcome in (
        judge_driver(driver, "12.1"),
        judge_devices(driver),
        judge_framework("pytorch", driver, 0, TORCH_23, None),
    ):
        assert outcome.status == "fail"
        assert advice in (outcome.reason or "")


@pytest.mark.parametrize("machine", ["h100"], indirect=True)
def test_free_memory_is_told_for_messages(machine: str) -> None:
    assert drivers.free_memory() == "GPU 0: 81008 of 81559 MiB free"


def _same(outcome: Outcome) -> Outcome:
    return outcome


class Side:
    """Computations that are as wrong as they are told to be."""

    def __init__(self, **wrong: float) -> None:
        self.wrong = wrong

    def kinds(self, what: str, device: str) -> tuple[str, ...]:
        return tuple(self.wrong)

    def difference(self, what: str, kind: str, device: str) -> float:
        return self.wrong[kind]


def test_computations_are_held_to_the_tolerance_of_their_type() -> None:
    assert compare(Side(float32=5e-5, tf32=4e-3, float16=5e-3), "matmul", "cuda").status == "pass"
    for kind, tolerance in TOLERANCES.items():
        wrong = compare(Side(**{kind: tolerance * 1.01}), "matmul", "cuda")
        assert (wrong.status, wrong.reason) == (
            "fail",
            f"matmul in {kind} differs from the CPU's",
        )
    assert compare(Side(float32=float("nan")), "matmul", "cuda").status == "fail"


def test_every_gpu_computes_and_the_wrong_one_is_named() -> None:
    class Second(Side):
        def difference(self, what: str, kind: str, device: str) -> float:
            return float("nan") if device == "cuda:1" else 1e-6

    assert each(Second(), 1).status == "pass"
    wrong = each(Second(), 3)
    assert (wrong.status, wrong.reason) == (
        "fail", "a matrix product differs from the CPU's on cuda:1",
    )  # fmt: skip
    assert list(wrong.seen) == ["cuda:0", "cuda:1", "cuda:2"]


def test_what_a_framework_moved_to_the_cpu_proves_nothing() -> None:
    """TensorFlow does so where a type has no GPU kernel; float32 has one always."""

    class Moving(Side):
        def difference(self, what: str, kind: str, device: str) -> float:
            if self.wrong[kind] < 0:
                raise MovedError(f"{what} in {kind} ran on CPU:0")
            return self.wrong[kind]

    outcome = compare(Moving(float32=1e-6, bfloat16=-1), "matmul", "cuda")
    assert (outcome.status, outcome.seen) == ("pass", {"float32": 1e-6})
    assert outcome.reason == "matmul in bfloat16 ran on CPU:0"
    with pytest.raises(MovedError):
        compare(Moving(float32=-1), "matmul", "cuda")


def test_a_compiler_compiles_for_the_gpu_that_is_here() -> None:
    with_gpu = compile_command(Path("nvcc"), Path("out"), "9.0")
    assert with_gpu[1:3] == ["-cubin", "-arch=sm_90"]
    assert compile_command(Path("nvcc"), Path("out"), None)[1] == "-ptx"


def test_without_a_compiler_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    outcome: Outcome = check_nvcc(NoDriverError("none"))
    assert outcome.status == "skip"


@pytest.mark.parametrize(
    ("device", "kind", "rate"),
    [
        ("NVIDIA H100 80GB HBM3", "bfloat16", 989.4),
        ("NVIDIA H100 PCIe", "tf32", 378),
        ("NVIDIA H100 NVL", "float16", 835.5),
        ("NVIDIA L40S", "float16", 362),
        ("NVIDIA L4", "float16", 121),
        ("Tesla V100-SXM2-16GB", "tf32", 15.7),
        ("Tesla V100S-PCIE-32GB", "float16", 130),
        ("NVIDIA A100-SXM4-80GB", "bfloat16", 312),
        ("NVIDIA A100 80GB PCIe", "bfloat16", 312),
        ("NVIDIA GH200 480GB", "float16", 989.4),
        ("NVIDIA A10G", "float16", 70),
        ("NVIDIA B200", "tf32", 1125),
        ("NVIDIA B300 SXM6 AC", "bfloat16", 2250),
        ("NVIDIA GB200", "bfloat16", 2500),
        ("NVIDIA H200 NVL", "bfloat16", 835.5),
        ("NVIDIA H800", "float16", 989.4),
        ("NVIDIA H800 PCIe", "float16", 756),
        ("NVIDIA H20", "bfloat16", 148),
        ("NVIDIA A800-SXM4-80GB", "bfloat16", 312),
        ("NVIDIA L20", "float16", 119.5),
        ("NVIDIA GeForce RTX 4090 D", "tf32", 73.5),
        ("NVIDIA GeForce RTX 5090", "bfloat16", 209.5),
        ("NVIDIA RTX 6000 Ada Generation", "float16", 364.2),
        ("NVIDIA GeForce RTX 4090", "tf32", 82.6),
    ],
)
def test_a_devices_stated_rate_is_found_by_its_name(device: str, kind: str, rate: float) -> None:
    peak = stated_peak(device, kind)
    assert peak is not None
    assert peak.rate == rate
    assert "NVIDIA" in peak.source


def test_no_rate_is_guessed() -> None:
    assert stated_peak("AMD EPYC", "float32") is None
    assert stated_peak("Tesla T4", "bfloat16") is None
    assert stated_peak("Tesla T4", "float8") is None


@pytest.mark.parametrize(
    "device",
    [
        "NVIDIA A100-SXM4-40GB MIG 1g.5gb",
        "GRID A100-10C",
        "NVIDIA A100-SXM-64GB",
        "NVIDIA H100 80GB HBM2e",
        "NVIDIA T400 4GB",
        "NVIDIA GeForce RTX 3090 Ti",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA L40G",
        "NVIDIA GeForce RTX 5090 D",
        "NVIDIA GeForce RTX 5090 Laptop GPU",
        "NVIDIA GB10",
        "NVIDIA H20-3e",
        "NVIDIA RTX PRO 6000 Blackwell Server Edition",
    ],
)
def test_another_chip_or_a_part_of_one_has_no_rate(device: str) -> None:
    """Its name holds that of a listed one, its speed is another."""
    assert stated_peak(device, "float16") is None


@pytest.mark.parametrize("machine", [("eight-gpus", {"refused": (0, 2, 3, 4, 5, 6, 7)})],
                         indirect=True)  # fmt: skip
def test_a_job_may_ask_about_its_own_gpus_alone(machine: str) -> None:
    """Slurm's control groups, Apptainer without --nvccli: NVML counts eight and shows one."""
    driver = asked()
    assert isinstance(driver, Driver)
    assert (len(driver.gpus), driver.withheld) == (1, 7)
    outcome = judge_devices(driver)
    assert (outcome.status, outcome.reason) == ("pass", "7 GPUs of this machine are not this job's")
    assert judge_framework("pytorch", driver, 1, TORCH_23, None).status == "pass"


@pytest.mark.parametrize("machine", [("eight-gpus", {"refused": range(8)})], indirect=True)
def test_a_user_who_may_ask_about_none_is_told_so(machine: str) -> None:
    driver = asked()
    assert isinstance(driver, BrokenDriverError)
    assert "rights" in str(driver)


@pytest.mark.parametrize(
    ("machine", "status", "reason"),
    [
        (("h100", {"RemappedRows": [3, 0, 0, 0]}), "pass", None),
        (("h100", {"RemappedRows": [0, 1, 0, 1]}), "fail", "replace the GPU"),
        (("h100", {"RemappedRows": [0, 1, 1, 0]}), "fail", "next reset"),
        (("h100", {"RetiredPagesPendingStatus": 1}), "fail", "next reset"),
        (("h100", {"RetiredPagesPendingStatus": 0}), "pass", None),
        (("h100", {"nvlinks": [1] * 17 + [0]}), "pass", "GPU 0: 1 NVLinks are down, 17 up"),
        (("h100", {"nvlinks": [0] * 18}), "pass", None),  # a PCIe card without a bridge
        (("h100", {"ComputeMode": 3}), "pass", "GPU 0 takes one process at a time"),
        (("h100", {"CurrentClocksThrottleReasons": 0x81}), "pass", "power brake"),
        (("h100", {"CurrentClocksThrottleReasons": 0x05}), "pass", None),  # idle, power cap
        (("h100", {"CurrPcieLinkGeneration": 1, "MaxPcieLinkGeneration": 5,
                   "CurrPcieLinkWidth": 8, "MaxPcieLinkWidth": 16}), "pass", "x8 of x16"),
        (("h100", {"CurrPcieLinkGeneration": 1, "MaxPcieLinkGeneration": 5,
                   "CurrPcieLinkWidth": 16, "MaxPcieLinkWidth": 16}), "pass", None),  # idle
    ],
    indirect=["machine"],
)  # fmt: skip
def test_what_ails_a_gpu_is_told(machine: str, status: str, reason: str | None) -> None:
    outcome = judge_devices(asked())
    assert outcome.status == status
    assert (reason in (outcome.reason or "")) if reason else outcome.reason is None


@pytest.mark.parametrize("machine", ["h100"], indirect=True)
def test_ptx_takes_a_driver_as_new_as_its_cuda(machine: str) -> None:
    """A driver of CUDA 12.4 does not compile the PTX of 12.8, minor-version compatibility or no."""
    driver = asked()
    assert isinstance(driver, Driver)
    old = replace(driver, cuda="12.4")
    ptx = ["sm_80", "compute_80"]
    outcome = judge_framework("pytorch", old, 1, ptx, None, "12.8")
    assert outcome.status == "fail"
    assert "PTX of CUDA 12.8" in (outcome.reason or "")
    for fine in (
        judge_framework("pytorch", old, 1, ptx, None, "12.4"),
        judge_framework("pytorch", replace(driver, cuda="13.0"), 1, ptx, None, "12.8"),
        judge_framework("pytorch", old, 1, [*ptx, "sm_90"], None, "12.8"),
        judge_framework("pytorch", replace(driver, cuda=None), 1, ptx, None, "12.8"),
    ):
        assert fine.status == "pass"


@pytest.mark.parametrize("machine", ["eight-gpus"], indirect=True)
def test_gpus_behind_nvswitches_may_wait_for_the_fabric_manager(machine: str) -> None:
    blind = judge_framework("pytorch", asked(), 0, TORCH_23, None)
    assert "nvidia-fabricmanager" in (blind.reason or "")


@pytest.mark.parametrize(
    ("device", "release", "status"),
    [
        ("NVIDIA H100 80GB HBM3", "6.1.0", "fail"),
        ("NVIDIA H100 80GB HBM3", "5.15.90.1-microsoft-standard-WSL2", "skip"),
        ("GRID A100-10C", "6.1.0", "skip"),
        ("NVIDIA L40S-8Q", "6.1.0", "skip"),
        ("NVIDIA A100-SXM4-80GB", "6.1.0", "fail"),
    ],
)
def test_a_profiler_without_counters_is_no_fault(device: str, release: str, status: str) -> None:
    assert no_kernel(device, {"kernels": 0}, release).status == status


@pytest.mark.parametrize(
    "machine",
    [("driver-too-old", {"cuda": 12010}), ("driver-too-old", {"cuda": 12040})],
    indirect=True,
)
def test_a_forward_compatibility_package_makes_an_old_driver_do(machine: str) -> None:
    """libcuda.so.1 is the package's: NVML says its CUDA beside the kernel's driver."""
    outcome = judge_driver(asked(), "12.1")
    assert outcome.status == "pass"
    assert "cuda-compat" in (outcome.reason or "")
    newer = judge_driver(asked(), "12.8")
    assert (newer.status, "update the host's driver" in (newer.reason or "")) == ("fail", True)


def sliced(*slices: int | None) -> Driver:
    """A machine of one GPU for each: None is a whole one, else the number of its slices."""
    gpus = tuple(
        Gpu("NVIDIA H100 80GB HBM3", 81559, "9.0", mig=count is not None, mig_devices=count)
        for count in slices
    )
    return Driver("550.54.14", gpus, "nvml", "12.4")


@pytest.mark.parametrize(
    ("driver", "usable", "status"),
    [
        (sliced(7, 7), 1, "pass"),  # CUDA lists one slice, however many there are
        (sliced(7, None, None), 1, "pass"),  # and no whole GPU beside it
        (sliced(0, None, None), 2, "pass"),  # MIG mode without slices: the whole ones
        (sliced(0, None, None), 1, "fail"),
        (sliced(0, 0), 0, "fail"),
        (sliced(None, None), 1, "fail"),
    ],
)
def test_of_slices_a_process_sees_one(driver: Driver, usable: int, status: str) -> None:
    assert judge_framework("pytorch", driver, usable, TORCH_23, None).status == status
    told = judge_devices(driver).reason or ""
    assert ("one a process, and no GPU beside it" in told) == any(gpu.mig for gpu in driver.gpus)


@pytest.mark.parametrize(
    ("machine", "advice"),
    [
        (("eight-gpus", {"fabric": 1}), "nvidia-fabricmanager of the driver's very version"),
        (("eight-gpus", {"fabric": 2}), "0 (in progress), 1 (in progress)"),
        (("h100", {"confidential": 1, "ready": 0}), "nvidia-smi conf-compute -srs 1"),
    ],
    indirect=["machine"],
)
def test_error_802_has_the_advice_of_its_cause(machine: str, advice: str) -> None:
    """What CUDA says is the same; NVML tells which it is, also before the framework is asked."""
    driver = asked()
    blind = judge_framework("pytorch", driver, 0, TORCH_23, None)
    assert (blind.status, advice in (blind.reason or "")) == ("fail", True)
    assert advice in (judge_devices(driver).reason or "")


@pytest.mark.parametrize(
    "machine",
    [("eight-gpus", {"fabric": 3}), ("eight-gpus", {"fabric": 0}),
     ("h100", {"confidential": 0, "ready": 0})],
    indirect=True,
)  # fmt: skip
def test_a_machine_that_is_ready_gets_no_such_advice(machine: str) -> None:
    driver = asked()
    assert isinstance(driver, Driver)
    assert judge_devices(driver).reason is None
    blind = judge_framework("pytorch", driver, 0, TORCH_23, None)
    assert "run nvidia-smi in the container" in (blind.reason or "")


@pytest.mark.parametrize("machine", [("h100", {"confidential": 1, "ready": 1})], indirect=True)
def test_confidential_computing_is_told_and_hides_kernels(machine: str) -> None:
    driver = asked()
    told = judge_devices(driver)
    assert (told.status, "copies to and from the GPU are encrypted" in (told.reason or "")) == (
        "pass", True,
    )  # fmt: skip
    unseen = no_kernel("NVIDIA H100 80GB HBM3", {"kernels": 0}, "6.1.0")
    assert judge_trace(unseen, driver).status == "skip"
    assert judge_trace(unseen, sliced(None)) == unseen
    assert judge_trace(passed(), driver).status == "pass"


def message(field: int, content: bytes) -> bytes:
    return bytes((field << 3 | 2, len(content))) + content


def test_a_trace_is_counted_by_its_kernels_and_not_by_its_planes() -> None:
    event = message(4, b"\x08\x01")
    host = message(1, b"\x08\x01" + message(2, b"/host:CPU") + message(3, event))
    empty = message(1, message(2, b"/device:GPU:0") + message(3, message(2, b"Stream")))
    busy = message(1, message(2, b"/device:GPU:0") + message(3, event * 2 + b"\x11" + bytes(8)))
    assert kernels_in(host + empty) == 0
    assert kernels_in(host + empty + busy) == 2
    for damaged in (busy[:-3], b"\xff" * 20, message(1, b"")[:-1] + b"\x7f"):
        with pytest.raises(ValueError, match="damaged"):
            kernels_in(damaged)


@pytest.mark.parametrize(
    ("replayed", "calls", "reason"),
    [
        ([2.3, 2.1, 1.9], 3, "ran again instead of being replayed"),
        ([2.3, 2.1, 1.8], 0, "computes something else"),
        ([2.3, 2.1, float("nan")], 0, "computes something else"),
    ],
)
def test_a_replayed_graph_runs_no_python_and_is_the_eager_step(
    replayed: list[float], calls: int, reason: str
) -> None:
    eager = [2.3, 2.1, 1.9]
    assert judge_graph(eager, [2.3, 2.1, 1.9002], 0).status == "pass"
    outcome = judge_graph(eager, replayed, calls)
    assert (outcome.status, reason in (outcome.reason or "")) == ("fail", True)
    assert judge_graph([2.3, 2.3], [2.3, 2.3], 0).reason == "a replayed CUDA graph changes nothing"


def test_nothing_computed_proves_nothing() -> None:
    class Nothing:
        def kinds(self, what: str, device: str) -> tuple[str, ...]:
            return ()

        def difference(self, what: str, kind: str, device: str) -> float:
            return 0.0

    outcome = compare(Nothing(), "matmul", "cuda")
    assert (outcome.status, outcome.reason) == ("fail", "matmul was computed in no type")
    assert repeating.judge([1.5, 1.25], [1.5, 1.25]).status == "pass"
    for first, second in (([], []), ([1.5, float("nan")], [1.5, float("nan")]), ([1.5], [1.25])):
        assert repeating.judge(first, second).status == "fail"
