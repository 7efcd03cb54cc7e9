"""Options that several suites share."""

from __future__ import annotations

import signal

import pytest


def pytest_configure() -> None:
    """Let Ctrl-C reach what tests start: a shell's background job ignores it, and hands that on."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("wheelyard", "built images, and where to test them")
    group.addoption(
        "--layout", help="image layout with build.json (default: $WHEELYARD_DIST or dist)"
    )
    group.addoption(
        "--images", default="all", metavar="SELECTOR", help="which built images to test"
    )
    group.addoption(
        "--backend",
        action="append",
        choices=("docker", "podman", "chroot"),
        help="only this way to run them; may be repeated (default: every way that is there)",
    )
    group.addoption("--unpack-dir", help="folder with room for an unpacked image and an engine")
    group.addoption("--scratch", help="folder with room for some 15 GB (default: a new one)")
    group.addoption("--require-gpu", action="store_true", help="treat a missing GPU as a failure")
