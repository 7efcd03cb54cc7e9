"""What a burn concludes; the load is a processor's, and NVML is simulated."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.machinery import ModuleSpec
from types import SimpleNamespace

import pytest
from nvml import simulated

from wheelyard.selfcheck import burn, cli
from wheelyard.selfcheck.gpu import sampling
from wheelyard.selfcheck.gpu.burning import (
    POWER_CAP,
    TIMES,
    Limits,
    Products,
    Sample,
    judge_memory,
    judge_products,
)
from wheelyard.selfcheck.gpu.driver import Driver, Gpu
from wheelyard.selfcheck.result import Check, Group, Options, passed

H100 = "NVIDIA H100 80GB HBM3"
FOUND = {"float32": Products(100, 0, 50.0), "bfloat16": Products(100, 0, 700.0)}
BUSY = Sample(1755, 690.0, 66, POWER_CAP)
LIMITS = Limits(1980, 700.0, 87)


def test_a_gpu_at_its_power_limit_passes_and_says_so() -> None:
    outcome = judge_products(H100, FOUND, [BUSY] * 60, LIMITS)
    assert outcome.status == "pass"
    assert outcome.reason == "its power limit holds its clocks down, as it should be"
    assert outcome.seen["power"] == [690.0, 690.0, 690.0]
    unknown = judge_products("unlisted", FOUND, [Sample()] * 60, Limits())
    assert unknown.status == "pass"
    assert unknown.reason == "clocks, power and temperature are not known here"


@pytest.mark.parametrize(
    ("products", "sample", "reason"),
    [
        (Products(100, 1, 700.0), BUSY, "came out differently in bfloat16"),
        (Products(100, 0, 290.0), BUSY, "290.0 TFLOP/s in bfloat16 are 29% of what is stated"),
        (Products(100, 0, float("nan")), BUSY, "TFLOP/s in bfloat16"),
        (Products(100, 0, 9000.0), BUSY, "in bfloat16 are more than can be"),
        (Products(100, 0, 700.0), replace(BUSY, clock=690), "its clock was 690 of 1980 MHz"),
        (Products(100, 0, 700.0), replace(BUSY, power=270.0), "it drew 270 of 700 W"),
        (Products(100, 0, 700.0), replace(BUSY, reasons=0x80), "100% of the samples: power brake"),
        (Products(100, 0, 700.0), replace(BUSY, reasons=0x40), "too hot (hardware)"),
        (Products(100, 0, 700.0), replace(BUSY, temperature=87), "87 degrees are as hot as"),
    ],
)
def test_what_is_wrong_under_load_fails(products: Products, sample: Sample, reason: str) -> None:
    found = {**FOUND, "bfloat16": products}
    outcome = judge_products(H100, found, [sample] * 60, LIMITS)
    assert (outcome.status, reason in (outcome.reason or "")) == ("fail", True), outcome.reason


def test_a_moment_of_being_held_down_is_none_of_a_tenth() -> None:
    samples = [BUSY] * 55 + [replace(BUSY, reasons=0x80)] * 5
    assert judge_products(H100, FOUND, samples, LIMITS).status == "pass"
    assert judge_products(H100, FOUND, samples[45:], LIMITS).status == "fail"


def test_nothing_computed_and_no_memory_prove_nothing() -> None:
    assert judge_products(H100, {}, [BUSY], LIMITS).status == "fail"
    assert judge_memory(0, {"places": 0}).status == "fail"
    assert judge_memory(1 << 30, {}).status == "fail"
    assert judge_memory(1 << 30, {"places": 0}).status == "pass"
    assert judge_memory(1 << 30, {"places": 1}).status == "fail"


class Fire:
    """Products of whole numbers; the one of type "bad" comes out otherwise each tenth time."""

    def kinds(self, device: str) -> tuple[str, ...]:
        return ("good", "bad")

    def product(self, kind: str, device: str, size: int) -> Callable[[], int]:
        calls = iter(range(1 << 30))

        def work() -> int:
            time.sleep(0.001)
            return int(kind == "bad" and next(calls) % 10 == 9)

        return work


def test_every_type_is_loaded_in_turn_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(burn, "WINDOW", 0.02)
    found = burn.multiplied(Fire(), "cpu", 0.1)  # type: ignore[arg-type]
    assert all(each.count >= TIMES and each.count % TIMES == 0 for each in found.values())
    assert found["good"].different == 0
    assert found["bad"].different == found["bad"].count // TIMES // 10
    at_most = 2 * burn.SIZES["cpu"] ** 3 * TIMES / 0.001 / 1e12
    assert 0 < found["good"].tflops < at_most
    assert set(burn.multiplied(Fire(), "cpu", 0.001)) == {"good", "bad"}  # type: ignore[arg-type]


def test_the_gpu_that_computes_is_the_one_that_is_watched() -> None:
    one, two = (Gpu(H100, 81559, "9.0", uuid=f"GPU-{at}") for at in "ab")
    pair = Driver("550.54.14", (one, two), "nvml")
    other = Driver("550.54.14", (one, replace(two, name="NVIDIA T400")), "nvml")
    place_of = sampling.place_of
    assert place_of(pair, 0, "b", None) == place_of(pair, 0, "GPU-b", "1") == 1
    assert place_of(pair, 1, None, None) == 1
    assert place_of(pair, 1, None, "1,0") is None
    assert place_of(other, 1, None, None) is None
    assert place_of(Driver("550.54.14", (one,), "nvml"), 0, None, "0") == 0


def test_samples_are_taken_while_it_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"clock": 1755, "max_clock": 1980, "power": 690000, "power_limit": 700000,
            "temperature": 66, "slowdown": 87, "CurrentClocksThrottleReasons": 4}  # fmt: skip
    monkeypatch.setitem(sys.modules, "pynvml", simulated("h100", told))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: ModuleSpec(name, None))
    monkeypatch.setattr(sampling, "EVERY", 0.01)
    with sampling.sampled(0) as (samples, limits):
        time.sleep(0.2)
    assert limits == LIMITS
    assert len(samples) >= 3
    assert set(samples) == {BUSY}
    with sampling.sampled(None) as (samples, limits):
        pass
    assert (samples, limits) == ([], Limits())


def test_a_burn_is_only_made_where_it_is_asked_for() -> None:
    assert list(cli.run(["burn"], Options(None), "medium")) == []
    for minutes in ("0", "-1", "nan", "20000"):
        with pytest.raises(SystemExit):
            cli.make_parser().parse_args(["burn", "--minutes", minutes])


ALL = {
    "versions": ("versions.python",),
    "gpu": ("gpu.devices", "gpu.matmul.pytorch", "gpu.each.pytorch"),
    "train": ("train.mlp.pytorch",),
    "burn": ("burn.products.cpu.pytorch",),
}


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups that pass wherever they are asked; a framework is here."""

    def group(names: tuple[str, ...]) -> Group:
        def listed(_options: Options) -> Iterator[Check]:
            return ((name, passed) for name in names)

        return listed

    monkeypatch.setattr(cli, "GROUPS", {name: group(names) for name, names in ALL.items()})
    monkeypatch.setattr(cli, "missing_framework", lambda _options: None)


@pytest.mark.parametrize(
    ("level", "names"),
    [
        ("quick", ["versions.python", "gpu.devices", "gpu.each.pytorch"]),
        ("medium", [name for group in ALL if group != "burn" for name in ALL[group]]),
        ("burn", [name for group in ALL.values() for name in group]),
    ],
)
@pytest.mark.usefixtures("groups")
def test_a_level_asks_what_it_says(level: str, names: list[str]) -> None:
    assert [result.name for result in cli.run(list(ALL), Options(None), level)] == names


@pytest.mark.usefixtures("groups")
def test_burn_by_its_name_burns(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["burn"]) == cli.PASSED
    assert "burn.products.cpu.pytorch" in capsys.readouterr().out
    assert cli.main([]) == cli.PASSED
    assert "burn.products" not in capsys.readouterr().out


def test_minutes_are_those_that_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds: list[float] = []

    def multiplied(_fire: object, _device: str, asked: float) -> dict[str, Products]:
        seconds.append(asked)
        return FOUND

    monkeypatch.setattr(burn, "_side", lambda _framework: SimpleNamespace(name=lambda _: "abacus"))
    monkeypatch.setattr(burn, "multiplied", multiplied)
    options = Options(None, device="cpu", minutes=3.0)
    assert burn.check_products("pytorch", "cpu", options).status == "pass"
    assert seconds == [180.0]
    unasked = burn.check_products("pytorch", "cpu", replace(options, device="auto"))
    assert (unasked.status, unasked.wants_gpu, seconds) == ("skip", True, [180.0])


def test_every_gpu_burns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(burn, "pick_device", lambda *_: "cuda")
    monkeypatch.setattr(burn, "gpu_count", lambda _framework: 3)
    monkeypatch.setattr(burn, "usable_frameworks", lambda _options: ("jax", "pytorch"))
    assert list(burn.devices("pytorch", Options(None))) == ["cuda:0", "cuda:1", "cuda:2"]
    assert [name for name, _work in burn.checks(Options(None))] == [
        f"burn.{what}.gpu{at}.jax" for at in range(3) for what in ("products", "memory")
    ]
