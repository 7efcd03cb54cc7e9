"""What a registry has of the small images, seen by skopeo."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from wheelyard.oci.layout import Layout

RUNTIME = "pytorch:2.3.1-cuda12.1-cudnn8.9-py3.11"


def digest_there(host: str, name: str, *options: str) -> str | None:
    """What skopeo finds under a tag; None: nothing."""
    command = ["skopeo", "inspect", *(options or ["--tls-verify=false"]), f"docker://{host}/{name}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return json.loads(done.stdout)["Digest"] if done.returncode == 0 else None


def layout_digest(dist: Path, tag: str = RUNTIME) -> str:
    return Layout(dist).references()[tag].digest


def assert_whole(host: str, dist: Path, scratch: Path) -> None:
    """skopeo pulls the image from there, which checks every digest."""
    target = scratch / "pulled"
    command = ["skopeo", "copy", "--src-tls-verify=false", f"docker://{host}/{RUNTIME}"]
    done = subprocess.run([*command, f"oci:{target}:x"], check=False, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert digest_there(host, RUNTIME) == layout_digest(dist)
