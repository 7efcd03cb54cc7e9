"""How TensorFlow uses the GPUs: its memory, NCCL between them, the profiler."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from ..gpu.compare import ONE_GPU, no_kernel
from ..gpu.xplane import kernels_in
from ..result import Outcome, failed, passed

BLOCK = 16 << 20  # bytes


def memory() -> Outcome:
    """Check that freed memory comes back, and that the gaps are used again."""
    gc.collect()
    before = _used()
    tf.config.experimental.reset_memory_stats("GPU:0")
    blocks = [_block() for _ in range(32)]
    del blocks[::2]
    blocks += [_block() for _ in range(16)]
    peak = tf.config.experimental.get_memory_info("GPU:0")["peak"] - before
    del blocks
    seen = {"peak_mib": peak / 2**20, "left_mib": (_used() - before) / 2**20}
    wanted = {"peak_mib": "512 to 544", "left_mib": "below 1"}
    if not 512 <= seen["peak_mib"] <= 544 or seen["left_mib"] >= 1:
        return failed("GPU memory is not handed out and taken back as it should be", seen, wanted)
    return passed(seen, wanted)


def _block() -> Any:
    with tf.device("/GPU:0"):
        return tf.zeros(BLOCK // 4, tf.float32)


def _used() -> int:
    return int(tf.config.experimental.get_memory_info("GPU:0")["current"])


def allreduce() -> Outcome:
    """Add up a tensor over all GPUs by NCCL; one GPU is enough to run it."""
    gpus = [f"/GPU:{at}" for at in range(len(tf.config.list_physical_devices("GPU")))]
    parts = nccl_sums(gpus)()
    wanted = len(gpus) * (len(gpus) + 1) / 2
    sums = [[float(tf.reduce_min(part)), float(tf.reduce_max(part))] for part in parts]
    seen = {"gpus": len(gpus), "sums": sums}
    if any(pair != [wanted, wanted] for pair in sums):
        return failed("NCCL's sum over the GPUs is wrong", seen, wanted)
    return passed(seen, wanted, ONE_GPU if len(gpus) == 1 else None)


def nccl_sums(gpus: Sequence[str]) -> Any:
    """Make a graph that adds up 1, 2, ... over the GPUs; all of them take part at once.

    NCCL's operation itself: tf.distribute copies instead of asking NCCL when there is one GPU.
    """

    @tf.function  # type: ignore[untyped-decorator]
    def work() -> list[Any]:
        sums = []
        for at, gpu in enumerate(gpus):
            with tf.device(gpu):
                part = tf.fill((1 << 20,), float(at + 1))
                sums.append(
                    tf.raw_ops.NcclAllReduce(
                        input=part, reduction="sum", num_devices=len(gpus), shared_name="selfcheck"
                    )
                )
        return sums

    return work


def trace() -> Outcome:
    """Check that the profiler sees kernels of a computation, which takes CUPTI."""
    values = tf.random.uniform((256, 256))
    with tempfile.TemporaryDirectory(prefix="selfcheck-") as folder:
        tf.profiler.experimental.start(folder)
        float(tf.reduce_sum(tf.matmul(values, values)))
        tf.profiler.experimental.stop()
        files = list(Path(folder).rglob("*.xplane.pb"))
        contents = [path.read_bytes() for path in files]
    seen = {"files": len(files), "kernels": sum(map(kernels_in, contents))}
    (gpu, *_rest) = tf.config.list_physical_devices("GPU")
    name = str(tf.config.experimental.get_device_details(gpu).get("device_name", "GPU"))
    if not seen["kernels"]:
        return no_kernel(name, seen)
    return passed(seen)
