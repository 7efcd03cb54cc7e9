"""What a test needs of this machine: skipped with the reason, or failed where all must be there."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

from wheelyard.system.tools import find_tool

REQUIRED = "WHEELYARD_REQUIRE_PEERS"
PACKAGES = {
    "dockerd": "docker.io",
    "docker": "docker.io",
    "ctr-remote": "stargz-snapshotter",
    "docker-registry": "docker-registry",
    "go": "golang-go",
    "ip": "iproute2",
    "losetup": "mount",
    "mkfs.ext4": "e2fsprogs",
    "newuidmap": "uidmap",
    "nginx": "nginx-light",
    "systemd-analyze": "systemd",
    "unshare": "util-linux",
    "munged": "munge",
    "nsenter": "util-linux",
    "sbatch": "slurm-wlm",
    "setpriv": "util-linux",
    "slurmctld": "slurm-wlm",
    "slurmd": "slurm-wlm",
}


def missing(reason: str) -> NoReturn:
    """Skip with the reason; a failure where everything is said to be installed."""
    if os.environ.get(REQUIRED):
        pytest.fail(f"{reason} ({REQUIRED} is set)")
    pytest.skip(reason)


def need_tools(*tools: str) -> None:
    """Go on only with these programs."""
    for tool in tools:
        if find_tool(tool) is None:
            missing(f"{tool} is not installed (package {PACKAGES.get(tool, tool)})")


def need_to_be_root() -> None:
    """Go on only as root."""
    if os.geteuid() != 0:
        missing("needs root")
