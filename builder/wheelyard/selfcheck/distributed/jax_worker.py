"""One process of a JAX training whose batches are shared by several.

`python -m selfcheck.distributed.jax_worker PORT WORLD RANK`, on the CPU. Process 0 prints JSON: the
global batch's loss of every step, and how many took part. A world of one asks nobody.
"""

from __future__ import annotations

import json
import socket
import sys
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ..distributed.share import joint_setup, shares
from ..training.jax_learner import JaxLearner


def train(world: int, rank: int) -> list[float]:
    """Return the loss of every step; XLA adds the gradients up over the processes."""
    setup = joint_setup("cpu")
    learner = JaxLearner(setup)
    mesh = Mesh(np.asarray(jax.devices("cpu")), ("processes",))
    whole, share = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("processes",)))

    def placed(value: Any, sharding: NamedSharding = whole) -> Any:
        return jax.make_array_from_process_local_data(sharding, np.asarray(value))

    random = jax.jit(lambda: jax.random.key(setup.seed), out_shardings=whole)()
    weights, optimizer = jax.tree.map(placed, (learner.model, learner.optimizer))
    state, data = (weights, optimizer, random), tuple(map(placed, learner.train_data))
    step, losses = jax.jit(learner.learn), []
    for rows in shares(setup, world, rank):
        loss, state = step(state, [placed(rows, share)], data)
        losses.append(float(loss))
    return losses


def find_oneself() -> None:
    """Raise OSError where this machine does not know its own name, which JAX's gloo looks up."""
    try:
        socket.getaddrinfo(name := socket.gethostname(), None)
    except OSError as error:
        raise OSError(
            f"{name}, the name of this machine, cannot be looked up here, and JAX's processes "
            f"meet by it: add it to /etc/hosts ({error})"
        ) from error


def main(port: str, world: str, rank: str) -> None:
    """Train, and let process 0 say how it went."""
    jax.config.update("jax_platforms", "cpu")
    if world != "1":
        find_oneself()
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(f"127.0.0.1:{port}", int(world), int(rank))
    losses = train(int(world), int(rank))
    if rank == "0":
        print(json.dumps({"world": jax.process_count(), "losses": losses}), flush=True)
    if world != "1":
        jax.distributed.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
