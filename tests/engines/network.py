"""A network of an engine's own: a bridge for its containers, and what is asked for of the outside.

Nothing of it is seen from elsewhere, and it ends with the test: an engine may there do what it does
to the network of a machine. What talks to the engine's containers has to be started there too.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.needs import need_to_be_root, need_tools
from tests.peers.island import Island, interfaces, island

ADDRESS = "10.83.19.7"  # of the place itself, for its containers too: their loopback is another
WAY_OUT = "tap0"
START_SECONDS = 20


@contextmanager
def engine_network(*, way_out: bool = False) -> Iterator[Island]:
    """A network with `ADDRESS`; with a way out, its programs reach what this machine reaches."""
    need_to_be_root()
    need_tools("ip", "iptables", *(["slirp4netns"] if way_out else []))
    with island() as place:
        place.call(lambda: subprocess.run(add_address(), check=True))
        if not way_out:
            yield place
            return
        namespace = place.call(
            lambda: f"/proc/{os.getpid()}/task/{threading.get_native_id()}/ns/net"
        )
        with subprocess.Popen(slirp(namespace), stdout=subprocess.DEVNULL) as slirping:
            try:
                _wait_for_way_out(place, slirping)
                yield place
            finally:
                slirping.terminate()


def add_address() -> list[str]:
    """The command that gives the place its address."""
    return ["ip", "address", "add", f"{ADDRESS}/32", "dev", "lo"]


def slirp(namespace: str) -> list[str]:
    """The program that connects a network namespace as an ordinary user of this machine would."""
    options = ["--configure", "--mtu=65520", "--netns-type=path"]
    return ["setpriv", "--pdeathsig=KILL", "slirp4netns", *options, namespace, WAY_OUT]


def _wait_for_way_out(place: Island, slirping: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while WAY_OUT not in place.call(interfaces):
        if slirping.poll() is not None or time.monotonic() > deadline:
            pytest.fail("slirp4netns made no way out of the engine's network")
        time.sleep(0.05)
