"""The probes' own logic: ELF facts, library lists, version numbers, driver floors."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from wheelyard.selfcheck import cudalib, distributed, frameworks, gpu, libraries, versions
from wheelyard.selfcheck.cell import CPU_ONLY, Cell
from wheelyard.selfcheck.elf import SharedObject, read_shared_object
from wheelyard.selfcheck.frameworks import NoGpuError, pick_device
from wheelyard.selfcheck.gpu.driver import Driver, Gpu, NoDriverError
from wheelyard.selfcheck.gpu.judge import driver_floor, has_code_for, is_older, judge_driver
from wheelyard.selfcheck.gpu.smi import parse_smi
from wheelyard.selfcheck.result import Check, Options, Outcome, passed, run_check


def mapped_library(name: str) -> Path:
    """A shared library that this very process has loaded."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    return next(Path(line.split()[-1]) for line in maps if line.endswith(f"/{name}"))


LIBC = mapped_library("libc.so.6")
LIBM = mapped_library("libm.so.6")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty site-packages that is the only one on `sys.path`."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.setattr(sys, "path", [str(folder)])
    cudalib.shared_objects.cache_clear()
    libraries.load_all.cache_clear()
    yield folder
    cudalib.shared_objects.cache_clear()


def install(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copyfile(source, target))


def test_elf_facts_of_real_libraries() -> None:
    libc, libm = read_shared_object(LIBC), read_shared_object(LIBM)
    assert libc is not None
    assert libm is not None
    assert libc.soname == "libc.so.6"
    assert libm.soname == "libm.so.6"
    assert "libc.so.6" in libm.needed


@pytest.mark.parametrize(
    "content", [b"", b"INPUT(libm.so.6)", b"\x7fELF\x02\x01", b"\x7fELF\x01\x01" + bytes(60)]
)
def test_what_is_not_a_64_bit_elf_file_is_no_library(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "lib.so"
    path.write_bytes(content)
    assert read_shared_object(path) is None


@pytest.mark.parametrize("length", [64, 200, 4096])
def test_a_truncated_elf_file_is_no_library(tmp_path: Path, length: int) -> None:
    path = tmp_path / "libm.so.6"
    path.write_bytes(LIBM.read_bytes()[:length])
    assert read_shared_object(path) is None


def test_stem_drops_version_and_mangling() -> None:
    assert cudalib.stem("libcudnn_ops.so.9") == "libcudnn_ops"
    assert cudalib.stem("libcusparseLt-f80c68d1.so.0") == "libcusparseLt"
    assert cudalib.stem("libnvrtc-builtins.so.12.1") == "libnvrtc-builtins"
    assert cudalib.stem("libnvrtc.alt.so.13") == "libnvrtc.alt"


def test_both_wheel_layouts_are_found_and_stubs_are_not(site: Path) -> None:
    old = install(LIBM, site / "nvidia/cudnn/lib/libcudnn.so.8")
    new = install(LIBM, site / "nvidia/cu13/lib/libcudart.so.13")
    install(LIBM, site / "nvidia/cu13/lib/stubs/libcuda.so")
    install(LIBM, site / "torch/lib/libtorch.so")
    (site / "nvidia/cudnn/lib/libcudnn.so").symlink_to("libcudnn.so.8")
    assert [library.path for library in cudalib.cuda_libraries()] == [new, old]


def test_dependencies_come_first_even_in_a_circle() -> None:
    solver = SharedObject(Path("a"), "libcusolver.so.11", ("libcublas.so.12", "libc.so.6"))
    blas = SharedObject(Path("b"), "libcublas.so.12", ("libcublasLt.so.12",))
    light = SharedObject(Path("c"), "libcublasLt.so.12", ("libcublas.so.12",))
    assert cudalib.by_dependency((solver, blas, light)) == (light, blas, solver)


def test_every_library_is_a_check_and_loads(site: Path) -> None:
    install(LIBM, site / "nvidia/cuda_runtime/lib/libcudart.so.12")
    checks = dict(libraries.checks(Options(None)))
    assert list(checks) == ["libraries.load.libcudart.so.12", "libraries.unique"]
    assert [check().status for check in checks.values()] == ["pass", "pass"]


def test_a_library_that_kills_its_process_is_a_failure_and_the_rest_is_loaded(site: Path) -> None:
    broken = install(LIBM, site / "nvidia/a/lib/libcublas.so.12")
    with broken.open("r+b") as file:
        file.truncate(12_288)  # headers are there; code and data behind them are not
    whole = install(LIBC, site / "nvidia/b/lib/libcufft.so.11")
    results = libraries.load_all((broken, whole))
    error = results[broken]
    assert error is not None
    assert "libcublas.so.12" in error or "ended the process" in error
    assert results[whole] is None


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ("undefined symbol: cublasLtCreate", "fail"),
        ("libcuda.so.1: cannot open shared object file", "skip"),
        ("libmlx5.so.1: cannot open shared object file", "skip"),
        ("libcublasLt.so.12: cannot open shared object file", "fail"),
    ],
)
def test_a_library_that_does_not_load_is_a_failure_that_names_it(
    site: Path, monkeypatch: pytest.MonkeyPatch, error: str, status: str
) -> None:
    path = install(LIBM, site / "nvidia/a/lib/libcublas.so.12")
    monkeypatch.setattr(libraries, "load_all", lambda paths: dict.fromkeys(paths, error))
    outcome = outcomes(libraries.checks(Options(None)))["libraries.load.libcublas.so.12"]
    assert outcome.status == status
    assert status == "skip" or outcome.reason == f"{path}: {error}"


def test_a_crash_names_its_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "dlopen.py"
    program.write_text(
        "import json, os, sys\n"
        "for path in sys.argv[1:]:\n"
        "    if 'bad' in path: os.kill(os.getpid(), 11)\n"
        "    print(json.dumps([path, None]), flush=True)\n"
    )
    monkeypatch.setattr(libraries, "__file__", str(tmp_path / "libraries.py"))
    libraries.load_all.cache_clear()
    results = libraries.load_all((Path("first"), Path("bad"), Path("last")))
    assert results == {
        Path("first"): None,
        Path("bad"): "loading it ended the process (SIGSEGV)",
        Path("last"): None,
    }


def test_two_copies_of_a_library_fail_and_both_are_named(site: Path) -> None:
    first = install(LIBM, site / "nvidia/cublas/lib/libcublas.so.12")
    second = install(LIBM, site / "nvidia/cu13/lib/libcublas.so.13")
    outcome = libraries.check_unique()
    assert outcome.status == "fail"
    assert outcome.reason is not None
    assert str(first) in outcome.reason
    assert str(second) in outcome.reason


def test_a_copy_that_only_its_wheel_loads_is_reported_with_its_reason(site: Path) -> None:
    # A real library under another name of the same length, which NVIDIA might have given it.
    renamed = LIBM.read_bytes().replace(b"libm.so.6\0", b"libnvx.so\0")
    places = ("nvidia/cuda_cupti/lib", "triton/backends/nvidia/lib/cupti", "torch/lib")
    paths = [site / place / "libnvx.so" for place in places]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.write_bytes(renamed)
    outcome = libraries.check_unique()
    assert outcome.status == "fail"
    assert outcome.seen["twice"] == {"libnvx": [str(paths[0]), str(paths[2])]}
    assert outcome.seen["private"] == {str(paths[1]): "only Triton's profiler loads it, by path"}


def test_version_numbers_are_decoded_as_their_headers_say() -> None:
    assert versions.decode_cudart(12010) == (12, 1)
    assert versions.decode_cudart(13000) == (13, 0)
    assert versions.decode_cudnn(8902) == (8, 9, 2)
    assert versions.decode_cudnn(90100) == (9, 1, 0)
    assert versions.decode_nccl(22005) == (2, 20, 5)
    assert versions.decode_nccl(2804) == (2, 8, 4)


def test_a_version_is_compared_as_far_as_the_expected_one_goes() -> None:
    assert versions.compared_version("8.9.2", "8.9", "cuDNN").status == "pass"
    assert versions.compared_version("8.9.2", None, "cuDNN").status == "pass"
    assert versions.compared_version("12.10", "12.1", "CUDA").status == "fail"
    wrong = versions.compared_version("9.1.0", "8.9", "cuDNN")
    assert wrong.reason == "cuDNN is 9.1.0, expected 8.9"


def test_driver_floors_follow_the_major_version() -> None:
    assert driver_floor("11.8") == "450.80.02"
    assert driver_floor("12.1") == "525.60.13"
    assert driver_floor("13.0") == "580.65.06"
    assert driver_floor("99.0") is None


def test_driver_versions_are_compared_as_numbers() -> None:
    assert is_older("525.60.11", "525.60.13")
    assert is_older("525.9", "525.60.13")
    assert not is_older("525.147.05", "525.60.13")
    assert not is_older("525.60.13", "525.60.13")


def test_driver_is_judged_against_the_floor_of_the_images_cuda() -> None:
    card = Gpu("NVIDIA A100-SXM4-40GB", 40960, "8.0")
    assert judge_driver(Driver("535.104.05", (card,), "nvml"), "12.1").status == "pass"
    old = judge_driver(Driver("515.65.01", (card,), "nvml"), "12.1")
    assert old.status == "fail"
    assert old.reason == (
        "driver 515.65.01 is older than 525.60.13, which CUDA 12.1 needs: "
        "update the host's driver, or take an image with an older CUDA"
    )
    none = judge_driver(NoDriverError("no NVIDIA driver here"), "12.1")
    assert (none.status, none.wants_gpu) == ("skip", True)
    assert none.reason == "no NVIDIA driver here (CUDA 12.1 needs driver >= 525.60.13)"


def test_nvidia_smi_lines_become_gpus() -> None:
    text = (
        "550.54.14, 0, NVIDIA H100 80GB HBM3, 81559, 81008, 9.0, Enabled, 0, Disabled, Enabled, "
        "GPU-1\n"
        "550.54.14, 1, Quadro RTX 4000, 8192, 7900, 7.5, [N/A], [N/A], [N/A], Disabled, GPU-2\n"
    )
    hopper = Gpu("NVIDIA H100 80GB HBM3", 81559, "9.0", 81008, True, 0, False, None, True)
    turing = Gpu("Quadro RTX 4000", 8192, "7.5", 7900, None, None, None, None, False)
    gpus = (replace(hopper, uuid="GPU-1"), replace(turing, uuid="GPU-2"))
    assert parse_smi(text) == Driver("550.54.14", gpus, "nvidia-smi")
    with pytest.raises(NoDriverError, match="lists no GPU"):
        parse_smi("\n")


@pytest.mark.parametrize(
    ("capability", "architectures", "fits"),
    [
        ("8.6", ["sm_80"], True),
        ("8.0", ["sm_86"], False),
        ("9.0", ["sm_80", "sm_86"], False),
        ("9.0", ["sm_80", "compute_86"], True),
        ("9.0", ["sm_90a"], True),
        ("10.0", ["sm_90a", "sm_90"], False),
        ("12.0", ["sm_90", "sm_100", "sm_120"], True),
        ("6.1", ["sm_75", "compute_75"], False),
    ],
)
def test_a_gpu_needs_code_of_its_generation_or_older_ptx(
    capability: str, architectures: list[str], fits: bool
) -> None:
    assert has_code_for(capability, architectures) is fits


CPU_CELL = Cell(
    "pytorch-2.3.1-cpu-py3.11-runtime", "pytorch", "2.3.1", "cpu", "none", "3.11", "runtime",
    "bookworm",
)  # fmt: skip
CPU_OPTIONS = Options(CPU_CELL)
CUDA_NAMES = ("cudart", "cudnn", "nccl", *versions.PROPERTY_LIBRARIES)


@pytest.fixture
def cpu_torch(site: Path) -> Iterator[Path]:
    """A PyTorch that is a build without CUDA, as far as selfcheck asks it."""
    code = (
        "import types\n__version__ = '2.3.1+cpu'\nversion = types.SimpleNamespace(cuda=None)\n"
        "_C = types.SimpleNamespace()\n"
        "cuda = types.SimpleNamespace(is_available=lambda: True, device_count=lambda: 1)\n"
    )
    (site / "torch.py").write_text(code)
    known = sys.modules.pop("torch", None)
    yield site
    sys.modules.pop("torch", None)
    if known is not None:
        sys.modules["torch"] = known


def outcomes(checks: Iterator[Check]) -> dict[str, Outcome]:
    return {name: work() for name, work in checks}


def test_a_cpu_image_expects_no_cuda_and_no_driver(cpu_torch: Path) -> None:
    seen = outcomes(versions.checks(replace(CPU_OPTIONS, cell=replace(CPU_CELL, python="3"))))
    assert [name for name, outcome in seen.items() if outcome.status == "fail"] == []
    assert (seen["versions.pytorch"].status, seen["versions.pytorch"].seen) == ("pass", "2.3.1")
    assert (seen["versions.torch-cuda"].status, seen["versions.torch-cuda"].seen) == ("pass", "cpu")
    assert "needs no driver" in (seen["versions.driver"].reason or "")
    assert {seen[f"versions.{name}"].status for name in CUDA_NAMES} == {"skip"}
    assert {f"versions.{name}" for name in CUDA_NAMES} <= set(seen)
    assert seen["versions.cudart"].wants_gpu is False


def test_a_cuda_library_in_a_cpu_image_is_a_failure(cpu_torch: Path) -> None:
    (none,) = outcomes(libraries.checks(CPU_OPTIONS)).values()
    assert (none.status, none.seen) == ("pass", {"libraries": 0})
    stray = install(LIBM, cpu_torch / "nvidia/cudnn/lib/libcudnn.so.8")
    cudalib.shared_objects.cache_clear()
    (found,) = outcomes(libraries.checks(CPU_OPTIONS)).values()
    assert (found.status, found.seen) == ("fail", [str(stray)])
    version = versions.check_absent("libm")  # a library is known by the name it carries
    assert (version.status, version.seen) == ("fail", [str(stray)])


def test_a_cuda_build_in_a_cpu_image_is_a_failure(cpu_torch: Path) -> None:
    code = (cpu_torch / "torch.py").read_text().replace("cuda=None", "cuda='12.1'")
    (cpu_torch / "torch.py").write_text(code)
    outcome = versions.check_built_cuda("pytorch", "cpu")
    assert outcome.status == "fail"
    assert outcome.reason == "pytorch was built for CUDA 12.1, the image is CPU only"


def test_a_cpu_build_in_an_image_with_cuda_is_a_failure(cpu_torch: Path) -> None:
    outcome = versions.check_built_cuda("pytorch", "12.1")
    assert (outcome.status, outcome.reason) == ("fail", "pytorch is a CPU build")
    assert versions.check_built_cuda("pytorch", None).status == "skip"


def test_what_the_image_was_made_with_may_not_be_replaced(tmp_path: Path) -> None:
    pins = tmp_path / "constraint.txt"
    assert versions.check_pins(pins).status == "skip"
    here = importlib.metadata.version("pytest")
    for version, reason in ((here, None), ("1.0", f"pytest is {here}, the image's is 1.0")):
        pins.write_text(f"# by wheelyard\npytest=={version}\n")
        outcome = versions.check_pins(pins)
        assert outcome.status == ("fail" if reason else "pass")
        assert (outcome.reason or "").startswith(reason or "")
    pins.write_text("no-such-package-here==1.0\n")
    assert "no-such-package-here is gone" in (versions.check_pins(pins).reason or "")


def test_an_image_with_cuda_but_no_library_is_a_failure(site: Path) -> None:
    """A CPU build by mistake is not excused because there is nothing to load."""
    cell = replace(CPU_CELL, cuda="12.1", cudnn="8.9")
    assert outcomes(libraries.checks(Options(cell)))["libraries.load"].status == "fail"
    assert outcomes(libraries.checks(Options(None)))["libraries.load"].status == "skip"


def test_gpu_checks_of_a_cpu_image_are_skipped_with_the_reason(cpu_torch: Path) -> None:
    """Even where the machine has a GPU; who insists on one has the wrong image."""
    found = list(gpu.checks(CPU_OPTIONS))
    assert [name for name, _ in found] == [name for name, _ in gpu.checks(Options(cuda_cell()))]
    found += [item for item in distributed.checks(CPU_OPTIONS) if "nccl" in item[0]]
    for check in found:
        result = run_check(check, CPU_OPTIONS)
        assert (result.status, result.reason) == ("skip", CPU_ONLY), result.name
        assert run_check(check, replace(CPU_OPTIONS, require_gpu=True)).status == "fail"


def cuda_cell() -> Cell:
    return replace(CPU_CELL, cuda="12.1", cudnn="8.9")


def test_a_cpu_image_trains_on_the_cpu(cpu_torch: Path) -> None:
    assert pick_device(CPU_OPTIONS, "pytorch") == "cpu"
    for insisting in (replace(CPU_OPTIONS, device="cuda"), replace(CPU_OPTIONS, require_gpu=True)):
        with pytest.raises(NoGpuError, match="take one with CUDA"):
            pick_device(insisting, "pytorch")
    assert pick_device(Options(cuda_cell()), "pytorch") == "cuda"


def test_who_insists_on_a_gpu_gets_no_processor(
    cpu_torch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options(cuda_cell())
    for there in (0, 1):
        monkeypatch.setattr(frameworks, "gpu_count", lambda _name, there=there: there)
        assert pick_device(replace(options, device="cpu"), "pytorch") == "cpu"
        assert pick_device(options, "pytorch") == ("cuda" if there else "cpu")
        insisting = (
            replace(options, device="cuda"),
            replace(options, require_gpu=True),
            replace(options, device="cpu", require_gpu=True),
        )
        for each in insisting:
            if there:
                assert pick_device(each, "pytorch") == "cuda"
                continue
            with pytest.raises(NoGpuError, match="start the container with --gpus all"):
                pick_device(each, "pytorch")


def test_without_a_gpu_its_checks_wait_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, status in ((0, "skip"), (1, "pass")):
        monkeypatch.setattr(gpu, "gpu_count", lambda _name, there=there: there)
        outcome = gpu.on_gpu("pytorch", passed)
        assert (outcome.status, outcome.wants_gpu) == (status, not there)


def test_a_framework_of_the_image_that_is_gone_is_a_failure(site: Path) -> None:
    seen = outcomes(versions.checks(Options(cuda_cell())))
    assert seen["versions.pytorch"].status == "fail"
    assert "the image was made with it" in (seen["versions.pytorch"].reason or "")


def test_a_driver_without_a_cuda_to_judge_by_is_only_told() -> None:
    outcome = judge_driver(Driver("535.104.05", (), "nvml"), None)
    assert (outcome.status, outcome.reason) == ("skip", "a CPU build needs no driver")


@pytest.mark.parametrize(
    ("built", "loaded", "status"),
    [
        ((8, 9, 2), (8, 9, 2), "pass"),
        ((9, 1, 0), (9, 10, 2), "pass"),
        ((9,), (9, 3, 0), "pass"),
        ((9, 10, 2), (9, 1, 0), "fail"),
        ((8, 9, 2), (9, 1, 0), "fail"),
        ((9,), (8, 9, 7), "fail"),
    ],
)
def test_the_cudnn_that_is_loaded_fits_what_the_framework_was_compiled_for(
    built: tuple[int, ...], loaded: tuple[int, ...], status: str
) -> None:
    outcome = versions.judge_cudnn(built, loaded)
    assert outcome.status == status
    newer = loaded != (8, 9, 2) and len(built) == 3
    assert bool(outcome.reason) == (newer or status == "fail")
