"""The examples of docs/examples for several nodes, in a real image, on processors."""

from __future__ import annotations

import json
import math
import os
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

from tests.engines.cluster import submit
from tests.engines.conftest import REPOSITORY
from tests.engines.daemons import temporary_folder
from tests.engines.podman import Storage
from tests.engines.pods import play, pods_of
from tests.image.layout import BuiltImage
from tests.needs import need_tools
from wheelyard.cli import main

EXAMPLES = REPOSITORY / "docs/examples"
WORKER = "selfcheck.distributed.torch_worker"
ASKED = (
    "import json, os, torch; print(json.dumps({"
    '"uid": os.getuid(), "group": 900 in os.getgroups(), "shm": os.access("/dev/shm", os.W_OK), '
    '"sum": float(torch.ones(2, 2).sum())}))'
)
WORDS = ("env", "PYTHONPATH=/opt/wheelyard", "python", "-m", WORKER, "alone", "cpu")


@pytest.fixture(scope="module")
def taken(storage: Storage, runtime_image: BuiltImage) -> str:
    """Return the name of the real image, taken from its layout."""
    return storage.take(runtime_image.dist, runtime_image.tags[0])


@pytest.fixture(scope="module")
def alone(taken: str, storage: Storage) -> list[float]:
    """Return the losses of one process, which fall."""
    losses: list[float] = json.loads(storage.run(taken, *WORDS).splitlines()[-1])["losses"]
    assert losses[-1] < losses[0]
    return losses


def test_slurm_trains_on_two_nodes(
    taken: str, alone: list[float], storage: Storage, tmp_path: Path
) -> None:
    need_tools("sbatch", "slurmd", "slurmctld", "munged", "nsenter", "ip")
    command = storage.podman_command(shutil.which("podman") or "podman")
    podman = tmp_path / "podman"  # what the nodes have by this name
    podman.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    podman.chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "CONTAINER": "podman",
        "BACKEND": "gloo",
        "IMAGE": taken,
    }
    with temporary_folder() as folder:
        code, output = submit(EXAMPLES / "slurm.sbatch", folder, environment)
    assert code == 0, output
    assert_alike(alone, output)


def test_the_pods_of_the_job_train_on_one_network(
    taken: str, alone: list[float], storage: Storage, tmp_path: Path
) -> None:
    need_tools("catatonit", "ip", "iptables")
    documents = yaml.safe_load_all((EXAMPLES / "kubernetes-job.yaml").read_text())
    (job,) = [each for each in documents if each["kind"] == "Job"]
    pods = pods_of(job, taken, count=job["spec"]["completions"])
    for pod in pods:
        command = pod["spec"]["containers"][0]["command"]
        assert command[-1] == "nccl"
        command[-1] = "gloo"
    assert_alike(alone, play(pods, storage, tmp_path))


@pytest.mark.parametrize("kind", ["job", "deployment"])
def test_what_deploy_writes_runs_as_a_pod(
    taken: str, storage: Storage, tmp_path: Path, kind: str
) -> None:
    need_tools("catatonit", "ip", "iptables")
    given = ["deploy", "pytorch:2.3.1", "--kind", kind, "--name", "lab", "--quiet"]
    place = ["--output", str(tmp_path), "--project", str(REPOSITORY)]
    assert main([*given, *place, "--command", f"python -c '{ASKED}'"]) == 0
    (document,) = yaml.safe_load_all((tmp_path / f"{kind}.yaml").read_text())
    said = json.loads(play(pods_of(document, taken), storage, tmp_path))
    assert said == {"uid": 1000, "group": True, "shm": True, "sum": 4.0}


def assert_alike(alone: list[float], output: str) -> None:
    """Both nodes took part, and the losses are those of one process."""
    said = json.loads(output.splitlines()[-1])
    assert said["world"] == 2
    pairs = zip(alone, said["losses"], strict=True)
    assert all(math.isclose(one, two, rel_tol=1e-3) for one, two in pairs), output
