"""What follows from measured rates of memory, PCIe and collectives. Pure: nothing is asked here."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ..result import Outcome, failed, passed
from ..training.peaks import POSSIBLE, stated_memory

# Of the stated rate of memory. A T4 copies at 75 % of its own (CUDA samples, bandwidthTest).
MEMORY = 0.5
# Of the link's rate. Copies from pinned memory reach 60 to 90 %, also inside virtual machines and
# from the other socket's memory a third; those from pageable memory stay below a quarter.
LINK = 0.3
# GB/s of one lane in one direction, by generation (PCI-SIG; after 8b/10b, then 128b/130b, 6: FLIT).
LANES = {1: 0.25, 2: 0.5, 3: 0.985, 4: 1.969, 5: 3.938, 6: 7.563}
_PCIE = re.compile(r"(\d+) of (\d+), x(\d+) of x(\d+)")


def bus_bandwidth(size: int, seconds: float, ranks: int) -> float:
    """Compute GB/s of an all-reduce as nccl-tests define it: 2 (n - 1) / n times size by time.

    By this factor the rate is that of the links and does not depend on how many take part.
    """
    return size / seconds / 1e9 * 2 * (ranks - 1) / ranks


def link_rate(pcie: str | None) -> float | None:
    """Compute GB/s of a GPU's link, one way, from NVML's `4 of 4, x8 of x16`; None: not known.

    Its best generation counts, since a link at rest uses a lower one, and the lanes it has now.
    """
    match = _PCIE.fullmatch(pcie or "")
    if match is None or int(match[2]) not in LANES:
        return None
    return LANES[int(match[2])] * int(match[3])


def judge_memory_rates(names: Mapping[str, str], runs: Mapping[str, Sequence[float]]) -> Outcome:
    """Hold copies in each device's memory to what its maker states; GB/s read and written."""
    rates = {device: stated_memory(name) for device, name in names.items()}
    seen = _seen(", ".join(sorted(set(names.values()))), runs, rates)
    return _held(seen, runs, rates, MEMORY, "does another process use it?")


def judge_links(
    device: str, runs: Mapping[str, Sequence[float]], links: Mapping[str, float | None]
) -> Outcome:
    """Hold copies from and to pinned memory to the GPU's link; both go by names in `runs`."""
    seen = _seen(device, runs, links)
    advice = "look at its slot, at the generation in the firmware's setup, and at NUMA nodes"
    return _held(seen, runs, links, LINK, advice)


def judge_peers(device: str, runs: Mapping[str, Sequence[float]], direct: Sequence[str]) -> Outcome:
    """Report copies between GPUs, whose content was compared; no rate is stated for them."""
    seen = {**_seen(device, runs, {}), "direct": list(direct)}
    through = [name for name in runs if name not in direct]
    reason = f"not peer to peer, but through the host: {', '.join(through)}" if through else None
    outcome = _held(seen, runs, {}, 0.0, "")
    return passed(seen, reason=reason) if outcome.status == "pass" else outcome


def judge_reduce(told: Mapping[str, Any], ranks: int, device: str) -> Outcome:
    """Compare the sums of an all-reduce, and report its bus bandwidth."""
    runs = [bus_bandwidth(told["bytes"], seconds, ranks) for seconds in told["seconds"]]
    seen = {
        "device": device, "ranks": told["world"], "mebibytes": told["bytes"] >> 20,
        "sums": told["sums"], "bus": shown(runs, None),
    }  # fmt: skip
    wanted = [ranks * (ranks + 1) / 2] * 2
    if told["world"] != ranks:
        return failed(f"{told['world']} took part instead of {ranks}", seen, wanted)
    if told["sums"] != wanted:
        return failed("the sum over all processes is wrong", seen, wanted)
    return _held(seen, {"bus": runs}, {}, 0.0, "")


def judge_disk(folder: str, size: int, runs: Mapping[str, Sequence[float]]) -> Outcome:
    """Report how fast a checkpoint was written and read; nobody states a rate for a folder."""
    return _held({**_seen(folder, runs, {}), "mebibytes": size >> 20}, runs, {}, 0.0, "")


def _seen(
    device: str, runs: Mapping[str, Sequence[float]], rates: Mapping[str, float | None]
) -> dict[str, Any]:
    return {"device": device, **{name: shown(runs[name], rates.get(name)) for name in runs}}


def shown(runs: Sequence[float], rate: float | None) -> dict[str, Any]:
    """Show one measurement as the report has it, the median of its windows."""
    middle = statistics.median(runs)
    return {
        "gigabytes_per_second": round(middle, 2),
        "of_stated": round(middle / rate, 3) if rate else None,
        "runs": [round(value, 3) for value in runs],
    }


def _held(
    seen: dict[str, Any],
    runs: Mapping[str, Sequence[float]],
    rates: Mapping[str, float | None],
    least: float,
    advice: str,
) -> Outcome:
    """Fail what was not measured, and what is below its floor."""
    if not runs or not all(
        math.isfinite(value) and value > 0 for v in runs.values() for value in v
    ):
        return failed("nothing was measured", seen)
    for name, values in runs.items():
        if (rate := rates.get(name)) and statistics.median(values) > POSSIBLE * rate:
            return failed(f"{name}: more than can be; not all of it was copied", seen)
    slow = [
        f"{name}: {statistics.median(values):.1f} GB/s are "
        f"{statistics.median(values) / rate:.0%} of {rate:.0f}"
        for name, values in runs.items()
        if (rate := rates.get(name)) and not statistics.median(values) >= least * rate
    ]
    if slow:
        return failed(f"{'; '.join(slow)}, and {least:.0%} is the least: {advice}", seen)
    return passed(seen)
