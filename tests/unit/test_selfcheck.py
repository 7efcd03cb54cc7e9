"""The `selfcheck` command: what it prints, how it ends, what becomes of a check's outcome."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from wheelyard.selfcheck import cli, machine, report
from wheelyard.selfcheck.cell import Cell, CellError, load_cell
from wheelyard.selfcheck.data import load_digits
from wheelyard.selfcheck.frameworks import installed_frameworks
from wheelyard.selfcheck.gpu.driver import Driver, Gpu, NoDriverError
from wheelyard.selfcheck.result import (
    Options,
    Outcome,
    Result,
    Status,
    compared,
    failed,
    passed,
    run_check,
    skipped,
)

PROJECT = Path(__file__).parents[2]
CELL = {
    "id": "pytorch-2.3.1-cuda12.1-cudnn8.9-py3.11-runtime",
    "framework": "pytorch",
    "framework_version": "2.3.1",
    "cuda": "12.1",
    "cudnn": "8.9",
    "python": "3.11",
    "flavour": "runtime",
    "base": "bookworm",
}


def selfcheck(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wheelyard.selfcheck", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=PROJECT,
    )


def test_json_has_the_agreed_keys_and_nothing_else_on_stdout() -> None:
    done = selfcheck("libraries", "--json")
    checks = json.loads(done.stdout)["checks"]
    assert checks
    for check in checks:
        assert list(check) == ["name", "status", "reason", "seen", "expected", "seconds"]
        assert check["name"].startswith("libraries.")
        assert check["status"] in ("pass", "skip")
        assert check["status"] == "pass" or check["reason"]
    assert done.returncode == cli.PASSED


def test_a_failed_check_is_exit_one(tmp_path: Path) -> None:
    cell = tmp_path / "cell.json"
    cell.write_text(json.dumps(CELL | {"python": "2.7"}))
    done = selfcheck("versions", "--json", "--cell", str(cell))
    python = next(c for c in json.loads(done.stdout)["checks"] if c["name"] == "versions.python")
    assert (python["status"], python["expected"]) == ("fail", "2.7")
    assert "expected 2.7" in python["reason"]
    assert done.returncode == cli.FAILED


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gpuu"], "no such group: gpuu (there are versions, libraries, gpu, train, compile, "),
        (["train", "--model", "resnet"], "invalid choice: 'resnet' (choose from "),
        (["train", "--batch", "0"], "must be at least 1"),
        (["train", "--data", "/no/such/folder"], "/no/such/folder is not a folder"),
        (["--device", "tpu"], "invalid choice"),
        (["--cell", "/no/such/file"], "name a readable file with --cell"),
    ],
)
def test_wrong_use_is_exit_two(arguments: list[str], message: str) -> None:
    done = selfcheck(*arguments)
    assert done.returncode == cli.WRONG_USE
    assert message in done.stderr
    assert done.stdout == ""


def test_groups_run_in_registry_order_once() -> None:
    assert cli.selected(["gpu", "versions", "gpu"]) == ("versions", "gpu")
    assert cli.selected(["all"]) == tuple(cli.GROUPS)


def test_a_check_that_raises_is_a_failure_with_the_error_named() -> None:
    def broken() -> Outcome:
        raise OSError("libcudart.so.12: truncated")

    result = run_check(("libraries.load.x", broken), Options(None))
    assert result.status == "fail"
    assert result.reason == "OSError: libcudart.so.12: truncated"


def test_require_gpu_fails_only_the_skips_that_a_gpu_would_have_answered() -> None:
    demanding = Options(None, require_gpu=True)
    assert run_check(("a", lambda: skipped("no GPU", wants_gpu=True)), demanding).status == "fail"
    assert run_check(("a", lambda: skipped("CPU build")), demanding).status == "skip"
    lenient = run_check(("a", lambda: skipped("no GPU", wants_gpu=True)), Options(None))
    assert lenient.status == "skip"


def test_compared_reports_both_values() -> None:
    assert compared("12.1", None, "CUDA") == passed("12.1")
    assert compared("12.1", "12.1", "CUDA") == passed("12.1", "12.1")
    assert compared("12.4", "12.1", "CUDA") == failed("CUDA is 12.4, expected 12.1", "12.4", "12.1")


def test_cell_is_read_and_its_frameworks_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "cell.json"
    both = CELL | {"framework": "pytorch+tensorflow", "framework_version": "2.9.1+2.20.0"}
    path.write_text(json.dumps(both | {"a later key": "is ignored"}))
    assert load_cell(path) == Cell(**both)
    assert Cell(**both).frameworks == {"pytorch": "2.9.1", "tensorflow": "2.20.0"}


@pytest.mark.parametrize("text", ["", "[]", '{"id": "x"}', "{"])
def test_a_damaged_cell_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "cell.json"
    path.write_text(text)
    with pytest.raises(CellError, match=r"cell\.json is not a cell file"):
        load_cell(path)


def test_digits_are_the_1797_of_the_published_set() -> None:
    pixels, digits = load_digits()
    assert len(pixels) == len(digits) == 1797
    assert {len(row) for row in pixels} == {64}
    assert (min(map(min, pixels)), max(map(max, pixels))) == (0, 16)
    assert [digits.count(digit) for digit in range(10)] == [
        178, 182, 177, 183, 181, 182, 181, 179, 174, 180,
    ]  # fmt: skip


def test_lines_carry_colour_only_where_it_is_wanted() -> None:
    result = Result("versions.cudnn", "fail", "cuDNN is 9.1.0, expected 8.9", "9.1.0", "8.9", 0.1)
    plain = report.line(result, colour=False)
    assert plain.startswith("fail  versions.cudnn")
    assert plain.endswith("cuDNN is 9.1.0, expected 8.9")
    assert report.line(result, colour=True) == plain.replace("fail", "\x1b[31mfail\x1b[0m", 1)
    assert report.summary([result]) == (
        "failed: versions.cudnn\n0 passed, 1 failed, 0 skipped in 0 s"
    )


def test_the_summary_counts_each_and_names_what_was_not_made() -> None:
    def result(name: str, status: Status, reason: str | None = None) -> Result:
        return Result(name, status, reason, None, None, 1.0)

    results = [result("a", "pass"), result("b", "pass"), result("c", "fail", "wrong")]
    results += [result(name, "skip", "no GPU") for name in "def"]
    assert report.summary(results) == (
        "skipped 3: no GPU\nfailed: c\n2 passed, 1 failed, 3 skipped in 6 s"
    )


def test_a_header_has_the_driver_that_answers_and_the_level(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpus = (Gpu("Tesla T4", 15360, "7.5"),) * 2
    for driver, version in (
        (NoDriverError("none"), None),
        (Driver("580.1", gpus, "nvml"), "580.1"),
    ):
        monkeypatch.setattr(report, "find_driver", lambda driver=driver: driver)
        header = report.header(Options(None), "burn")
        assert (header["driver"], header["level"], header["image"]) == (version, "burn", None)
        assert (header["device"] == ["Tesla T4"] * 2) is (version is not None)


TRAINED = {"losses": [2.0, 0.25], "scores": {"accuracy": 0.9123456, "f1": 0.9}, "device": "x"}
SPEED = {"float32": {"samples_per_second": 12345.6}, "mixed": {"not_measured": "no bfloat16"}}


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        (TRAINED, "loss 0.25, accuracy 0.91..."),
        (SPEED, "float32 12,346 samples/s..."),
        ({"gpus": [1, 2], "peak_mib": 512.0}, "peak_mib 512"),
        (["sm_80", "sm_90"], "sm_80, sm_90"),
        ("12.1", "12.1"),
        (None, ""),
    ],
)
def test_a_check_is_one_line_of_80_columns(seen: object, told: str) -> None:
    line = report.line(Result("train.mlp.pytorch", "pass", None, seen, None, 12.34), colour=False)
    assert len(line) <= 80
    assert line == f"pass  train.mlp.pytorch                      12.3 s  {told}".rstrip()


def test_a_long_skip_is_cut_and_a_failure_never() -> None:
    reason = "the driver is too old " * 10
    skip = report.line(Result("gpu.driver", "skip", reason, None, None, 0), colour=False)
    assert (len(skip), skip[-3:]) == (80, "...")
    fail = report.line(Result("gpu.driver", "fail", reason, None, None, 0), colour=False)
    assert " ".join(fail.split()).endswith(reason.strip())
    assert max(map(len, fail.splitlines())) <= 80


def test_a_report_says_where_it_was_made(tmp_path: Path) -> None:
    found = json.loads(selfcheck("libraries", "--json", "--level", "quick").stdout)
    assert list(found) == [
        "date", "host", "cpu", "device", "driver", "selfcheck", "image", "level", "checks",
    ]  # fmt: skip
    assert found["level"] == "quick"
    assert found["date"].endswith("+00:00")
    (tmp_path / "a.py").write_text("1")
    first = report.revision(tmp_path)
    (tmp_path / "a.pyc").write_text("compiled")
    assert report.revision(tmp_path) == first
    (tmp_path / "a.py").write_text("2")
    assert report.revision(tmp_path) != first


def test_the_quick_level_asks_little_and_nothing_that_trains() -> None:
    options = Options(None, device="cpu")
    names = {result.name for result in cli.run(("versions", "gpu", "train"), options, "quick")}
    assert {"gpu.driver", "gpu.devices", "versions.python"} <= names
    assert not [name for name in names if name.startswith(("train.", "gpu.nvcc", "gpu.matmul"))]
    assert selfcheck("train", "--level", "quick").returncode == cli.WRONG_USE


def test_json_has_no_number_that_json_does_not_have() -> None:
    seen = {"losses": [1.0, math.nan], "best": (math.inf, -math.inf), "name": "nan", "ok": True}
    result = Result("train.x", "fail", "the loss is not a finite number", seen, None, 0.1)

    def refuse(word: str) -> None:
        raise AssertionError(word)

    (check,) = json.loads(report.to_json([result], {}), parse_constant=refuse)["checks"]
    assert check["seen"] == {"losses": [1.0, None], "best": [None, None], "name": "nan", "ok": True}


def test_without_a_framework_one_line_says_so_and_nothing_fails() -> None:
    """This environment has no framework."""
    if installed_frameworks():
        pytest.skip("a framework is installed here")
    done = selfcheck("versions", "train", "--json")
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert done.returncode == cli.PASSED
    assert {name for name, check in checks.items() if check["status"] == "fail"} == set()
    assert [name for name in checks if name.startswith("train.")] == ["train.framework"]
    for name in ("versions.framework", "train.framework"):
        reason = "neither torch nor tensorflow nor jax is installed here: pip install one of them"
        assert (checks[name]["status"], checks[name]["reason"]) == ("skip", reason)
    assert selfcheck("train", "--require-gpu").returncode == cli.FAILED


def test_a_framework_that_is_not_here_is_named() -> None:
    if installed_frameworks():
        pytest.skip("a framework is installed here")
    done = selfcheck("train", "--framework", "tensorflow")
    assert "tensorflow is not installed here: pip install tensorflow" in done.stdout


def test_an_image_that_lost_its_framework_fails_once(tmp_path: Path) -> None:
    if installed_frameworks():
        pytest.skip("a framework is installed here")
    cell = tmp_path / "cell.json"
    cell.write_text(json.dumps(CELL | {"python": ".".join(map(str, sys.version_info[:2]))}))
    done = selfcheck("versions", "train", "compile", "--json", "--cell", str(cell))
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert "torch is not installed" in checks["versions.pytorch"]["reason"]
    assert checks["versions.pytorch"]["status"] == "fail"
    assert [name for name in checks if name.startswith(("train.", "compile."))] == [
        "train.framework", "compile.framework",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("files", "membership", "share"),
    [
        ({"cpu.max": "150000 100000"}, "0::/", 1.5),
        ({"cpu.max": "max 100000"}, "0::/", None),
        ({"a/b/cpu.max": "max 100000", "a/cpu.max": "50000 100000"}, "0::/a/b", 0.5),
        ({"cpu.max": "200000 100000"}, "0::/../../other", 2.0),  # a host's name for ours
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"},
         "4:cpu:/\n0::/", 3.0),
        ({"cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
         "4:cpu,cpuacct:/", None),
        ({}, "0::/", None),
        ({"cpu.max": "rubbish"}, "0::/", None),
    ],
)  # fmt: skip
def test_a_containers_share_of_the_processors_counts(
    tmp_path: Path, files: dict[str, str], membership: str, share: float | None
) -> None:
    mounted = tmp_path / "cgroup"
    mounted.mkdir()
    for name, text in files.items():
        (mounted / name).parent.mkdir(parents=True, exist_ok=True)
        (mounted / name).write_text(text + "\n")
    (tmp_path / "self").write_text(membership + "\n")
    assert machine.cpu_quota(mounted, tmp_path / "self") == share
    assert machine.cpu_quota(mounted, tmp_path / "missing") is None
