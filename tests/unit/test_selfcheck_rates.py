"""What measured rates of memory, PCIe and collectives mean; the copies themselves run in images."""

from __future__ import annotations

import math
from typing import Any

import pytest

from wheelyard.selfcheck.gpu.bandwidth import (
    bus_bandwidth,
    judge_disk,
    judge_links,
    judge_memory_rates,
    judge_peers,
    judge_reduce,
    link_rate,
)
from wheelyard.selfcheck.rates import checks
from wheelyard.selfcheck.report import line
from wheelyard.selfcheck.result import Options, Outcome, Result
from wheelyard.selfcheck.training.peaks import stated_memory, stated_peak

H100 = "NVIDIA H100 80GB HBM3"


def told(outcome: Outcome) -> tuple[str, str]:
    return outcome.status, outcome.reason or ""


@pytest.mark.parametrize(
    ("algorithm", "ranks", "bus"),
    [(100.0, 2, 100.0), (100.0, 4, 150.0), (100.0, 8, 175.0), (100.0, 1, 0.0)],
)
def test_bus_bandwidth_is_the_one_of_nccl_tests(algorithm: float, ranks: int, bus: float) -> None:
    """PERFORMANCE.md there: time = S * 2 (n - 1) / (n * B), the algorithm's bandwidth is S / t."""
    size = 1 << 28
    assert bus_bandwidth(size, size / algorithm / 1e9, ranks) == pytest.approx(bus)


@pytest.mark.parametrize(
    ("pcie", "rate"),
    [
        ("4 of 4, x16 of x16", 31.5),
        ("1 of 4, x16 of x16", 31.5),  # at rest
        ("5 of 5, x8 of x16", 31.5),
        ("3 of 3, x16 of x16", 15.76),
        ("6 of 6, x16 of x16", 121.0),
        ("9 of 9, x16 of x16", None),
        ("x16", None),
        (None, None),
    ],
)
def test_a_links_rate_follows_from_its_generation_and_lanes(
    pcie: str | None, rate: float | None
) -> None:
    assert link_rate(pcie) == (None if rate is None else pytest.approx(rate, rel=0.01))


def test_memory_is_held_to_half_of_what_is_stated() -> None:
    names = {"cuda:0": H100, "cuda:1": H100}
    good = judge_memory_rates(names, {"cuda:0": [2900.0] * 5, "cuda:1": [2800.0] * 5})
    assert good.status == "pass"
    assert good.seen["cuda:0"]["of_stated"] == pytest.approx(2900 / 3350, abs=1e-3)
    slow = judge_memory_rates(names, {"cuda:0": [2900.0] * 5, "cuda:1": [1600.0] * 5})
    assert told(slow)[0] == "fail"
    assert "cuda:1: 1600.0 GB/s are 48% of 3350, and 50% is the least" in told(slow)[1]
    absurd = judge_memory_rates(names, {"cuda:0": [2900.0], "cuda:1": [9000.0]})
    assert told(absurd) == ("fail", "cuda:1: more than can be; not all of it was copied")
    unknown = judge_memory_rates({"cuda:0": "unlisted"}, {"cuda:0": [1.0]})
    assert (unknown.status, unknown.seen["cuda:0"]["of_stated"]) == ("pass", None)


@pytest.mark.parametrize("runs", [{}, {"cuda:0": [math.nan, 1.0]}, {"cuda:0": [0.0]}])
def test_nothing_measured_is_no_pass(runs: dict[str, list[float]]) -> None:
    assert judge_memory_rates({"cuda:0": "unlisted"}, runs).reason == "nothing was measured"


def test_pageable_memory_is_below_the_links_floor_and_pinned_is_not() -> None:
    links = {"to cuda:0": 31.5, "from cuda:0": 31.5}
    assert judge_links(H100, {"to cuda:0": [24.0], "from cuda:0": [26.0]}, links).status == "pass"
    slow = judge_links(H100, {"to cuda:0": [24.0], "from cuda:0": [6.0]}, links)
    assert told(slow)[0] == "fail"
    assert "from cuda:0: 6.0 GB/s are 19% of 32" in told(slow)[1]
    unknown = dict.fromkeys(links)
    assert judge_links(H100, {"to cuda:0": [6.0], "from cuda:0": [6.0]}, unknown).status == "pass"


def test_copies_between_gpus_say_which_go_through_the_host() -> None:
    runs = {"0 to 1": [200.0], "1 to 0": [20.0]}
    assert judge_peers(H100, runs, list(runs)).reason is None
    assert judge_peers(H100, runs, ["0 to 1"]).reason == (
        "not peer to peer, but through the host: 1 to 0"
    )
    assert judge_peers(H100, {"0 to 1": [math.inf]}, []).status == "fail"


REDUCED: dict[str, Any] = {
    "world": 4, "bytes": 1 << 28, "sums": [10.0, 10.0], "seconds": [1e-3, 2e-3, 1e-3],
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"world": 2}, "2 took part instead of 4"),
        ({"sums": [9.0, 10.0]}, "the sum over all processes is wrong"),
        ({"sums": [math.nan, math.nan]}, "the sum over all processes is wrong"),
        ({"seconds": [math.inf]}, "nothing was measured"),
    ],
)
def test_an_all_reduce_has_to_sum_up_over_all(change: dict[str, Any], reason: str) -> None:
    good = judge_reduce(REDUCED, 4, H100)
    assert good.status == "pass"
    assert good.seen["bus"]["gigabytes_per_second"] == pytest.approx(402.65, abs=0.01)
    assert told(judge_reduce({**REDUCED, **change}, 4, H100)) == ("fail", reason)


def test_a_report_shows_the_rates() -> None:
    outcome = judge_disk("/tmp", 1 << 26, {"write": [0.4], "read": [2.0]})
    result = Result("bench.checkpoint.pytorch", "pass", None, outcome.seen, None, 1.0)
    assert line(result, colour=False, width=120).endswith("write 0.4 GB/s, read 2.0 GB/s")


def test_pytorch_measures_copies_and_both_write_checkpoints() -> None:
    names = {name: [each[0] for each in checks(name, Options(None))]
             for name in ("pytorch", "tensorflow")}  # fmt: skip
    assert names["tensorflow"] == ["bench.checkpoint.tensorflow"]
    assert names["pytorch"] == [
        f"bench.{what}.pytorch" for what in ("checkpoint", "memory", "pcie", "peers", "allreduce")
    ]


@pytest.mark.parametrize(
    ("device", "bfloat16", "memory"),
    [
        ("NVIDIA GB300", 2500, 8000),
        ("NVIDIA GB200", 2500, 8000),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 503.8, 1792),
        ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", 440.5, 1792),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", None, None),  # nothing is guessed
        ("NVIDIA H200 NVL", 835.5, 4800),
        ("NVIDIA A100-SXM4-80GB", 312, 1555),  # of the slowest board of that name
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None, None),
    ],
)
def test_a_device_has_the_rates_of_its_own_name(
    device: str, bfloat16: float | None, memory: float | None
) -> None:
    peak = stated_peak(device, "bfloat16")
    assert (peak.rate if peak else None, stated_memory(device)) == (bfloat16, memory)
