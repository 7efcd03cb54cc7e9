"""Compute the same on the device and, in float64, on the CPU; measure the difference."""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Sequence
from typing import Protocol

from ..result import Outcome, failed, passed, skipped

# The largest difference allowed, as a part of the largest value. Steps of one type: float64 1e-16,
# float32 6e-8, tf32 and float16 5e-4, bfloat16 4e-3 (half of 2^-52, 2^-23, 2^-10, 2^-7); the rest
# is for sums of some hundred terms in another order.
TOLERANCES = {
    "float64": 1e-12, "float32": 1e-4, "tf32": 5e-3, "float16": 1e-2, "bfloat16": 4e-2,
}  # fmt: skip


NO_KERNEL = (
    "the profiler saw no GPU kernel: CUPTI does not work here; look for CUPTI_ERROR in the log, "
    "for another profiler (DCGM) on this GPU, for NVreg_RestrictProfilingToAdminUsers on the host"
)


REPLAYED = 1e-3  # relative: the same kernels, maybe chosen otherwise for a graph
ONE_GPU = "one GPU: nothing went between GPUs"
# Where a hypervisor, or Windows below WSL, keeps the counters: GRID A100-10C, NVIDIA L40S-8Q.
_SHARED_GPU = re.compile(r"^GRID |-\d+[ABCQ]$")


def no_kernel(device: str, seen: object, release: str | None = None) -> Outcome:
    """Judge that a profiler saw no kernel: a fault, or that there is no CUPTI here."""
    if "microsoft" in (platform.release() if release is None else release).lower():
        return skipped(
            f"no profiler sees kernels here: WSL has no CUPTI by default ({device})", seen
        )
    if _SHARED_GPU.search(device):
        return skipped(f"no profiler sees kernels here: {device} is a part of a GPU (vGPU)", seen)
    return failed(NO_KERNEL, seen)


def judge_graph(eager: Sequence[float], replayed: Sequence[float], calls: int) -> Outcome:
    """Compare the losses of eager and replayed steps; a replay runs no Python."""
    seen = {"eager": list(eager), "replayed": list(replayed), "calls_in_replay": calls}
    if calls:
        return failed("the step ran again instead of being replayed from a CUDA graph", seen)
    pairs = zip(eager, replayed, strict=True)
    if not all(math.isclose(one, other, rel_tol=REPLAYED) for one, other in pairs):
        return failed("a replayed CUDA graph computes something else", seen, REPLAYED)
    if len(set(replayed)) < 2:
        return failed("a replayed CUDA graph changes nothing", seen)
    return passed(seen, REPLAYED)


class Side(Protocol):
    """A framework's computations."""

    def kinds(self, what: str, device: str) -> tuple[str, ...]:
        """Return the types in which this computation exists on this device."""

    def difference(self, what: str, kind: str, device: str) -> float:
        """Return the largest difference, as a part of the largest value."""


class MovedError(RuntimeError):
    """The framework did not compute where it was told to; the message says what ran where."""


def each(side: Side, count: int) -> Outcome:
    """Multiply matrices on every GPU, one after the other: the rest computes on the first."""
    seen = {f"cuda:{at}": side.difference("matmul", "float32", f"cuda:{at}") for at in range(count)}
    wrong = [device for device, value in seen.items() if not value <= TOLERANCES["float32"]]
    if wrong:
        return failed(f"a matrix product differs from the CPU's on {', '.join(wrong)}", seen)
    return passed(seen, TOLERANCES["float32"], f"{count} GPUs" if count > 1 else None)


def compare(side: Side, what: str, device: str) -> Outcome:
    """Hold every type to its tolerance; report a low precision that ran elsewhere uncounted."""
    seen, moved = dict[str, float](), list[str]()
    for kind in side.kinds(what, device):
        try:
            seen[kind] = side.difference(what, kind, device)
        except MovedError as error:
            if kind == "float32":
                raise
            moved.append(str(error))
    if not seen:
        return failed(f"{what} was computed in no type", moved)
    wanted = {kind: TOLERANCES[kind] for kind in seen}
    wrong = [kind for kind in seen if not seen[kind] <= wanted[kind]]  # catches nan
    if wrong:
        return failed(f"{what} in {', '.join(wrong)} differs from the CPU's", seen, wanted)
    return passed(seen, wanted, "; ".join(moved) or None)
