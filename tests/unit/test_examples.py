"""The examples for clusters name images of the plan and say the same thing everywhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import planning
import pytest
import yaml

from wheelyard.contract.paths import GID, UID
from wheelyard.selfcheck.distributed import TORCH

PROJECT = Path(__file__).parents[2]
WORKER = TORCH.removeprefix("wheelyard.")  # its name in an image
EXAMPLES = PROJECT / "docs" / "examples"


@cache
def tags() -> set[str]:
    return {tag for cell in planning.committed_plan().cells for tag in cell.tags}


@cache
def objects() -> dict[str, Any]:
    text = (EXAMPLES / "kubernetes-job.yaml").read_text()
    return {item["kind"]: item for item in yaml.safe_load_all(text)}


def pod() -> Any:
    return objects()["Job"]["spec"]["template"]["spec"]


def options(words: list[str]) -> dict[str, str]:
    pairs = (word.removeprefix("--").partition("=") for word in words if word.startswith("--"))
    return {name: value for name, _, value in pairs}


def test_the_jobs_pods_find_each_other() -> None:
    service, job = objects()["Service"], objects()["Job"]
    assert (service["apiVersion"], job["apiVersion"]) == ("v1", "batch/v1")
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert pod()["subdomain"] == service["metadata"]["name"]
    (container,) = pod()["containers"]
    given = options(container["command"])
    spec = job["spec"]
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"] == int(given["nnodes"])
    assert given["master-addr"] == f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    assert given["node-rank"] == "$(JOB_COMPLETION_INDEX)"
    assert "JOB_COMPLETION_INDEX" in {entry["name"] for entry in container["env"]}


def test_the_jobs_container_is_one_of_ours() -> None:
    (container,) = pod()["containers"]
    assert container["image"].rpartition("/")[2] in tags()
    assert (
        int(options(container["command"])["nproc-per-node"])
        == (container["resources"]["limits"]["nvidia.com/gpu"])
    )
    context = pod()["securityContext"]
    assert (context["runAsUser"], context["supplementalGroups"]) == (UID, [GID])
    (mount,), (volume,) = container["volumeMounts"], pod()["volumes"]
    assert (mount["name"], mount["mountPath"]) == (volume["name"], "/dev/shm")
    assert volume["emptyDir"]["medium"] == "Memory"
    assert container["command"][-3:] == ["-m", WORKER, "nccl"]


def test_the_batch_script_is_sound() -> None:
    path = EXAMPLES / "slurm.sbatch"
    text = path.read_text()
    given = dict(re.findall(r"^#SBATCH --([a-z-]+)=(\S+)$", text, re.MULTILINE))
    assert {"nodes", "ntasks-per-node", "gpus-per-node", "time"} <= set(given)
    assert given["ntasks-per-node"] == "1"  # torchrun starts the processes of a node
    image = re.search(r"^IMAGE=\$\{IMAGE:-\S+/(\S+)\}$", text, re.MULTILINE)
    assert image is not None
    assert image.group(1) in tags()
    assert f"-m {WORKER} $BACKEND" in text
    shellcheck = shutil.which("shellcheck", path=str(Path(sys.executable).parent))
    if shellcheck is None:
        pytest.skip("shellcheck is not installed beside this Python")
    done = subprocess.run([shellcheck, str(path)], capture_output=True, text=True, check=False)
    assert done.stdout == ""


def run_batch(folder: Path, **settings: str) -> list[str]:
    """Run the script with stand-ins for Slurm and containers; the words of what node 1 starts.

    tests/engines/test_nodes.py runs it with a real Slurm and a real podman.
    """
    stand_ins = {
        "scontrol": 'printf "node7\\nnode8\\n"',
        "srun": 'case $1 in --*) echo "$1"; shift ;; esac; SLURM_NODEID=1 "$@"',
        **{name: f'echo {name} "$@"' for name in ("apptainer", "podman", "env")},
    }
    for name, line in stand_ins.items():
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)
    environment = {
        "PATH": f"{folder}:/usr/bin:/bin", "SLURM_JOB_NODELIST": "node[7-8]", "SLURM_NNODES": "2",
        "SLURM_JOB_ID": "41", "SLURM_GPUS_ON_NODE": "4", **settings,
    }  # fmt: skip
    command = ["bash", str(EXAMPLES / "slurm.sbatch")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize("container", ["apptainer", "podman", "pyxis"])
def test_the_batch_script_tells_torchrun_where_it_is(tmp_path: Path, container: str) -> None:
    words = run_batch(tmp_path, CONTAINER=container)
    given = options([word for word in words if "=" in word and word.startswith("--")])
    assert (given["nnodes"], given["nproc-per-node"], given["node-rank"]) == ("2", "4", "1")
    assert (given["master-addr"], given["master-port"]) == ("node7", "20041")
    assert words[-3:] == ["-m", WORKER, "nccl"]
    assert words[words.index("torchrun") - 1] == "PYTHONPATH=/opt/wheelyard"


def test_each_container_gets_the_gpus_and_the_image(tmp_path: Path) -> None:
    name = "registry.example/pytorch:2.3.1-cuda12.1-cudnn8.9-py3.11"
    apptainer = run_batch(tmp_path)
    assert apptainer[:5] == ["apptainer", "exec", "--nv", "--containall", f"docker://{name}"]
    podman = run_batch(tmp_path, CONTAINER="podman")
    assert podman[:3] == ["podman", "run", "--rm"]
    assert "--device=nvidia.com/gpu=all" in podman[: podman.index(name)]
    alone = run_batch(tmp_path, CONTAINER="podman", BACKEND="gloo", IMAGE="x")
    assert not any("nvidia" in word for word in alone)
    assert (alone[alone.index("env") - 1], alone[-1]) == ("x", "gloo")
    pyxis = run_batch(tmp_path, CONTAINER="pyxis")
    assert pyxis[:2] == [f"--container-image={name.replace('/', '#')}", "env"]


def test_the_batch_script_refuses_another_container(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run_batch(tmp_path, CONTAINER="docker")
    assert caught.value.returncode == 2
    assert "docker: not apptainer, podman or pyxis" in caught.value.stderr
