"""How fast memory, PCIe and the links between GPUs are, and a checkpoint is written and read."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterator
from functools import partial
from os import environ
from typing import Any

from .distributed import NO_LOOPBACK, PROCESSES, loopback, reduced, remarked
from .frameworks import gpu_count, import_framework, pick_device
from .gpu import find_driver
from .gpu.bandwidth import judge_links, judge_memory_rates, judge_peers, judge_reduce, link_rate
from .gpu.driver import Driver
from .gpu.sampling import place_of
from .machine import processor
from .result import Check, Options, Outcome, skipped
from .training.checkpointing import check_checkpoint

REDUCED = {"cpu": 8 << 20, "cuda": 256 << 20}  # bytes, summed up over all processes


def checks(framework: str, options: Options) -> Iterator[Check]:
    """List a checkpoint's rates, and those of copies, which PyTorch measures."""
    yield f"bench.checkpoint.{framework}", partial(_checkpointed, framework, options)
    if framework == "pytorch":
        yield "bench.memory.pytorch", partial(check_memory, options)
        yield "bench.pcie.pytorch", partial(check_pcie, options)
        yield "bench.peers.pytorch", partial(check_peers, options)
        yield "bench.allreduce.pytorch", partial(check_reduce, options)


def check_memory(options: Options) -> Outcome:
    """Copy in every device's memory."""
    names, side = _devices(options), _copies()
    return judge_memory_rates(names, {device: side.inside(device) for device in names})


def check_pcie(options: Options) -> Outcome:
    """Copy from pinned memory to every GPU, and back."""
    if pick_device(options, "pytorch") == "cpu":
        return skipped("no GPU to copy to", wants_gpu=True)
    names, side = _devices(options), _copies()
    runs, links = {}, {}
    for at, device in enumerate(names):
        rate = _link(at, side.uuid(device))
        for way, values in side.up_and_down(device).items():
            runs[f"{way} {device}"], links[f"{way} {device}"] = values, rate
    return judge_links(_kinds(names), runs, links)


def _link(at: int, uuid: str | None) -> float | None:
    """Return GB/s of a GPU's link; None where it is not known, or copies are encrypted."""
    driver = find_driver()
    if not isinstance(driver, Driver) or driver.confidential:
        return None
    place = place_of(driver, at, uuid, environ.get("CUDA_VISIBLE_DEVICES"))
    return None if place is None else link_rate(driver.gpus[place].pcie)


def check_peers(options: Options) -> Outcome:
    """Copy between any two GPUs, both ways."""
    names, side = _devices(options), _copies()
    if len(names) < 2:
        return skipped("fewer than two GPUs: nothing goes between them", wants_gpu="cpu" in names)
    pairs = list(itertools.permutations(range(len(names)), 2))
    runs = {f"{one} to {two}": side.between(f"cuda:{one}", f"cuda:{two}") for one, two in pairs}
    direct = [f"{one} to {two}" for one, two in pairs if side.direct(one, two)]
    return judge_peers(_kinds(names), runs, direct)


def check_reduce(options: Options) -> Outcome:
    """Sum up over all GPUs by NCCL; without two of them, over two processes by gloo."""
    if not loopback():
        return skipped(NO_LOOPBACK)
    names = _devices(options)
    if len(names) > 1:
        told = reduced(len(names), "nccl", REDUCED["cuda"])
        return judge_reduce(told, len(names), _kinds(names))
    outcome = judge_reduce(reduced(PROCESSES, "gloo", REDUCED["cpu"]), PROCESSES, processor())
    there = "no GPU" if "cpu" in names else "one GPU"
    return remarked(outcome, f"{there}: gloo between processes, which says nothing about NCCL")


def _devices(options: Options) -> dict[str, str]:
    """Return every GPU's name, or the processor's."""
    side = _copies()
    if pick_device(options, "pytorch") == "cpu":
        return {"cpu": side.name("cpu")}
    return {at: side.name(at) for at in (f"cuda:{n}" for n in range(gpu_count("pytorch")))}


def _kinds(names: dict[str, str]) -> str:
    return ", ".join(sorted(set(names.values())))


def _copies() -> Any:
    import_framework("pytorch")
    return importlib.import_module(f"{__package__}.gpu.torch_bandwidth")


def _checkpointed(framework: str, options: Options) -> Outcome:
    return check_checkpoint(framework, pick_device(options, framework), options.log)
