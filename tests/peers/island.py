"""A network of its own with nothing but loopback: what is reached from here is on this machine."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol, TypeVar

T = TypeVar("T")

CLONE_NEWNET = 0x40000000  # sched.h
SIOCSIFFLAGS, IFF_UP, IFF_LOOPBACK, IFF_RUNNING = 0x8914, 0x1, 0x8, 0x40  # linux/sockios.h, if.h


class Place(Protocol):
    """A network to open sockets and to start programs in."""

    def call(self, work: Callable[[], T]) -> T:
        """Run `work` there and return its result."""
        ...


class Here:
    """The machine's own network."""

    def call(self, work: Callable[[], T]) -> T:
        return work()


HERE = Here()


class Island:
    """One thread in a network namespace; sockets it opens and programs it starts stay in there."""

    def __init__(self, thread: ThreadPoolExecutor) -> None:
        self._thread = thread

    def call(self, work: Callable[[], T]) -> T:
        """Run `work` there and return its result."""
        return self._thread.submit(work).result()


def can_isolate() -> bool:
    return os.geteuid() == 0


@contextmanager
def island() -> Iterator[Island]:
    """An island for as long as the context lasts; needs root."""
    with ThreadPoolExecutor(1, "island", initializer=leave_the_network) as thread:
        place = Island(thread)
        assert place.call(interfaces) == ["lo"]
        yield place


def leave_the_network() -> None:
    """Put this thread, and what it starts, on an island for good."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("16sh14x", b"lo", IFF_UP | IFF_LOOPBACK | IFF_RUNNING)
        fcntl.ioctl(probe, SIOCSIFFLAGS, request)


def interfaces() -> list[str]:
    """The names of the network's interfaces, for `call`."""
    return [name for _index, name in socket.if_nameindex()]
