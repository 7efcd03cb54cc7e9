"""Train on several processes: the loss must be that of one process with the same global batch."""

from __future__ import annotations

import json
import math
import socket
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache, partial
from typing import Any

from .. import child
from ..cell import CPU_ONLY
from ..frameworks import gpu_count, usable_frameworks
from ..result import Check, Options, Outcome, failed, passed, skipped
from .share import BATCH

PROCESSES = 2
TOLERANCE = 1e-3  # relative: sums in another order, over STEPS optimizer steps
NO_LOOPBACK = "the loopback interface is down here: ip link set lo up"
REDUCE = f"{__package__}.torch_reduce"
TORCH, TENSORFLOW, JAX = (f"{__package__}.{name}_worker" for name in ("torch", "tensorflow", "jax"))
# Everything happens on this machine: no name has to be looked up, no interface to be found.
LOCAL = {
    "GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3", "TF_FORCE_GPU_ALLOW_GROWTH": "true",
}  # fmt: skip


def checks(options: Options) -> Iterator[Check]:
    """List checks of DDP, tf.distribute and JAX's processes, or of torchrun's own group."""
    names = usable_frameworks(options)
    if "pytorch" in names and child.STARTED in child.launched():
        yield "distributed.nodes.pytorch", partial(check_nodes, options)
        return
    if "pytorch" in names:
        yield "distributed.gloo.pytorch", check_gloo
        yield "distributed.nccl.pytorch", partial(check_nccl, options)
        yield "distributed.elastic.pytorch", check_elastic
    if "tensorflow" in names:
        yield "distributed.mirrored.tensorflow", partial(check_mirrored, options)
        yield "distributed.workers.tensorflow", check_workers
    if "jax" in names:
        yield "distributed.processes.jax", check_processes


def check_gloo() -> Outcome:
    """Train in two processes on the CPU, started by torchrun."""
    if not loopback():
        return skipped(NO_LOOPBACK)
    together = _torchrun(PROCESSES, "gloo")
    return judge(_alone(TORCH, "alone", "cpu"), together, PROCESSES)


def check_nccl(options: Options) -> Outcome:
    """Train in a process a GPU, at most two, started by torchrun."""
    if options.cpu_only:
        return skipped(CPU_ONLY, wants_gpu=True)
    gpus = min(PROCESSES, gpu_count("pytorch"))
    if not gpus:
        return skipped("torch sees no GPU", wants_gpu=True)
    outcome = judge(_alone(TORCH, "alone", "cuda"), _torchrun(gpus, "nccl"), gpus)
    return remarked(outcome, "one GPU: nothing went between GPUs" if gpus == 1 else None)


def check_elastic() -> Outcome:
    """Train in two processes on the CPU and kill one of them: torchrun must restart both."""
    if not loopback():
        return skipped(NO_LOOPBACK)
    with tempfile.TemporaryDirectory(prefix="selfcheck-") as folder:
        together = _torchrun(PROCESSES, "elastic", folder, restarts=1)
    return judge_elastic(_alone(TORCH, "alone", "cpu"), together)


def judge_elastic(alone: dict[str, Any], together: dict[str, Any]) -> Outcome:
    """Compare the losses; there was one restart, and it went on from a checkpoint."""
    outcome = judge(alone, together, PROCESSES)
    told = {name: together[name] for name in ("restarts", "resumed")}
    outcome = replace(outcome, seen={**outcome.seen, **told})
    if outcome.status == "pass" and told["restarts"] != 1:
        return replace(outcome, status="fail", reason="torchrun did not start the processes again")
    if outcome.status == "pass" and not told["resumed"]:
        return replace(outcome, status="fail", reason="the restarted processes found no checkpoint")
    return outcome


def check_nodes(options: Options) -> Outcome:
    """Take part in the group that torchrun started, on one machine or several."""
    launched = child.launched()
    world, nodes = int(launched["WORLD_SIZE"]), launched.get("GROUP_WORLD_SIZE", "1")
    if BATCH % world:
        return skipped(f"{world} processes cannot share a batch of {BATCH} evenly")
    on_gpus = options.device != "cpu" and not options.cpu_only and gpu_count("pytorch") > 0
    backend, device = ("nccl", "cuda") if on_gpus else ("gloo", "cpu")
    command = child.module(TORCH, backend, "all")
    together = child.last_json(child.run(command, {"OMP_NUM_THREADS": "1", **launched}))
    outcome = judge(_alone(TORCH, "alone", device), together, world)
    return remarked(outcome, f"{world} processes on {nodes} nodes over {backend}")


def check_mirrored(options: Options) -> Outcome:
    """Train one process with two replicas: on two GPUs, else on two halves of the processor."""
    on_gpus = options.device != "cpu" and gpu_count("tensorflow") >= PROCESSES
    device = "cuda" if on_gpus else "cpu"
    together = _alone(TENSORFLOW, "mirrored", device)
    outcome = judge(_alone(TENSORFLOW, "alone", device), together, PROCESSES)
    count = 0 if device == "cuda" or options.cpu_only else gpu_count("tensorflow")
    reason = f"on two halves of the processor: {count} GPU is too few to mirror" if count else None
    return remarked(outcome, reason)


def remarked(outcome: Outcome, reason: str | None) -> Outcome:
    """Give a pass that proves less than its name the reason why."""
    return replace(outcome, reason=reason) if reason and outcome.status == "pass" else outcome


def check_workers() -> Outcome:
    """Train in two processes, one worker each."""
    if not loopback():
        return skipped(NO_LOOPBACK)
    ports = [free_port() for _ in range(PROCESSES)]
    settings = [tf_config(ports, index) for index in range(PROCESSES)]
    command = child.module(TENSORFLOW, "workers", "cpu")
    with ThreadPoolExecutor(PROCESSES) as pool:
        outputs = list(pool.map(lambda extra: child.run(command, {**LOCAL, **extra}), settings))
    return judge(_alone(TENSORFLOW, "alone", "cpu"), child.last_json(outputs[0]), PROCESSES)


def check_processes() -> Outcome:
    """Train in two processes of JAX on the CPU, which share every batch."""
    if not loopback():
        return skipped(NO_LOOPBACK)
    port = str(free_port())
    commands = [child.module(JAX, port, str(PROCESSES), str(rank)) for rank in range(PROCESSES)]
    with ThreadPoolExecutor(PROCESSES) as pool:
        outputs = list(pool.map(lambda command: child.run(command, LOCAL), commands))
    alone = child.last_json(child.run(child.module(JAX, port, "1", "0"), LOCAL))
    return judge(alone, child.last_json(outputs[0]), PROCESSES)


def judge(alone: dict[str, Any], together: dict[str, Any], processes: int) -> Outcome:
    """Compare the loss of every step."""
    seen = {"alone": alone["losses"], "together": together["losses"], "world": together["world"]}
    wanted = {"world": processes, "relative_difference": TOLERANCE}
    if together["world"] != processes:
        return failed(f"{together['world']} took part instead of {processes}", seen, wanted)
    if not alone["losses"]:
        return failed("no step was taken, so there is nothing to compare", seen, wanted)
    pairs = zip(alone["losses"], together["losses"], strict=True)
    if not all(math.isclose(left, right, rel_tol=TOLERANCE) for left, right in pairs):
        return failed("several processes compute another loss than one", seen, wanted)
    return passed(seen, wanted)


def _torchrun(processes: int, *words: str, restarts: int = 0) -> dict[str, Any]:
    command = torchrun_command(processes, free_port(), *words, restarts=restarts)
    result: dict[str, Any] = child.last_json(child.run(command, LOCAL))
    return result


def reduced(processes: int, backend: str, size: int) -> dict[str, Any]:
    """Time an all-reduce of so many bytes in processes of this machine."""
    command = torchrun_command(processes, free_port(), backend, str(size), worker=REDUCE)
    result: dict[str, Any] = child.last_json(child.run(command, LOCAL))
    return result


def torchrun_command(
    processes: int, port: int, *words: str, restarts: int = 0, worker: str = TORCH
) -> list[str]:
    """Return the command that starts torchrun as a module: its script may not be on PATH."""
    return child.module(
        "torch.distributed.run", f"--nproc-per-node={processes}", "--nnodes=1",
        "--master-addr=127.0.0.1", f"--master-port={port}", f"--max-restarts={restarts}",
        "--monitor-interval=0.2", "-m", worker, *words,
    )  # fmt: skip


def tf_config(ports: Sequence[int], index: int) -> dict[str, str]:
    """Return the environment of worker `index`, with TF_CONFIG and without any GPU."""
    workers = [f"127.0.0.1:{port}" for port in ports]
    value = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
    return {"TF_CONFIG": json.dumps(value), "CUDA_VISIBLE_DEVICES": "-1"}


@cache
def _alone(worker: str, mode: str, device: str) -> dict[str, Any]:
    result: dict[str, Any] = child.last_json(child.run(child.module(worker, mode, device), LOCAL))
    return result


def loopback() -> bool:
    """Say whether processes of this machine can reach each other over 127.0.0.1."""
    with socket.socket() as listener, socket.socket() as caller:
        try:
            listener.bind(("127.0.0.1", 0))
            listener.listen(1)
            caller.settimeout(5)
            caller.connect(listener.getsockname())
        except OSError:
            return False
    return True


def free_port() -> int:
    """Find a port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
