"""How JAX uses the GPUs: NCCL between them."""

from __future__ import annotations

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ..gpu.compare import ONE_GPU
from ..result import Outcome, failed, passed


def allreduce() -> Outcome:
    """Add up an array over all GPUs; XLA asks NCCL for it."""
    devices = jax.local_devices(backend="gpu")
    count = len(devices)
    mesh = Mesh(np.asarray(devices), ("gpus",))
    share, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("gpus",), ()))
    values = np.repeat(np.arange(1.0, count + 1, dtype=np.float32)[:, None], 1 << 20, axis=1)
    total = jax.jit(lambda parts: parts.sum(0), out_shardings=whole)(jax.device_put(values, share))
    sums = [
        [float(np.min(part.data)), float(np.max(part.data))] for part in total.addressable_shards
    ]
    seen, wanted = {"gpus": count, "sums": sums}, count * (count + 1) / 2
    if any(pair != [wanted, wanted] for pair in sums):
        return failed("the sum over the GPUs is wrong", seen, wanted)
    return passed(seen, wanted, ONE_GPU if count == 1 else None)
