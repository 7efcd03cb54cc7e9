"""Clients know their registries; no committed file names one."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# In pieces, so that this file names none either.
HOSTS = [
    "py" + "pi.org",
    "python" + "hosted.org",
    "deb.deb" + "ian.org",
    "security.deb" + "ian.org",
]


def test_no_committed_file_names_a_package_registry() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    found = []
    for name in listed.stdout.splitlines():
        path = ROOT / name
        content = path.read_bytes() if path.is_file() else b""
        found += [f"{name}: {host}" for host in HOSTS if host.encode() in content]
    assert not found
