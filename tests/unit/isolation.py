"""Unit tests run without network and engine: here, trying either raises."""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ENGINES = {"docker", "dockerd", "podman", "nerdctl", "buildctl", "buildah", "skopeo"}
ENGINE_SOCKETS = ("docker", "podman", "containerd", "buildkit")

_guarding = False


class OutsideUnitTests(RuntimeError):  # noqa: N818
    """A unit test reached for the network or a container engine."""


def _audit(event: str, args: tuple[object, ...]) -> None:
    if not _guarding:
        return
    if event in ("socket.connect", "socket.sendto"):
        _require_local(args[1])
    elif event == "socket.getaddrinfo":
        _require_loopback(args[0])
    elif event == "subprocess.Popen" and Path(os.fsdecode(args[0])).name in ENGINES:  # type: ignore[arg-type]
        raise OutsideUnitTests(f"a unit test started {args[0]!r}")


def _require_local(address: object) -> None:
    if isinstance(address, tuple):
        _require_loopback(address[0])
    elif any(word in str(address) for word in ENGINE_SOCKETS):
        raise OutsideUnitTests(f"a unit test connected to the engine at {address!r}")


def _require_loopback(host: object) -> None:
    name = host.decode() if isinstance(host, bytes) else host
    if name is None or name in ("", "localhost"):
        return
    try:
        if ipaddress.ip_address(str(name)).is_loopback:
            return
    except ValueError:
        pass
    raise OutsideUnitTests(f"a unit test reached for the host {name!r}")


# An audit hook sees every thread and every library, and nothing can be imported past it.
sys.addaudithook(_audit)


@pytest.fixture(autouse=True)
def isolated(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Switch the guard on, and keep this machine's own settings out of the test."""
    global _guarding
    for name in list(os.environ):
        if name.startswith("WHEELYARD_") or name.lower().endswith("_proxy") or name == "CI":
            monkeypatch.delenv(name)
    home = tmp_path_factory.getbasetemp() / "home"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    _guarding = True
    yield
    _guarding = False
