"""How each container runtime starts an image with the GPUs. Pure: argument lists."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

SHARED_MEMORY = "--shm-size=8g"  # data loaders pass batches through /dev/shm; the default is 64 MB


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What a Docker Engine reports about itself."""

    version: str
    runtimes: tuple[str, ...]  # "runc", "nvidia"
    root: str  # where it keeps images
    cdi: bool  # reads CDI specifications (from 25 on, where that is switched on)


@dataclass(frozen=True, slots=True)
class Runtime:
    """A container runtime of a machine, and how it passes GPUs to containers."""

    name: str  # a key of COMMANDS
    gpus: bool  # whether it can pass on GPUs in its present setup
    advice: str | None = None  # what to do if it cannot


# Options that pass on the GPUs. SELinux keeps podman's containers from the devices' nodes.
GPU_OPTIONS = {
    "docker": ["--gpus", "all"],
    "docker-cdi": ["--device", "nvidia.com/gpu=all"],
    "podman": ["--device", "nvidia.com/gpu=all", "--security-opt=label=disable"],
}


def _engine(runtime: str, image: str) -> list[list[str]]:
    program = runtime.partition("-")[0]
    return [[program, "run", "--rm", "-it", *GPU_OPTIONS[runtime], SHARED_MEMORY, image]]


def _apptainer(image: str) -> list[list[str]]:
    return [["apptainer", "run", "--nv", f"docker://{image}"]]


def _enroot(image: str) -> list[list[str]]:
    host, slash, path = image.partition("/")
    source = f"docker://{host}#{path}" if slash else f"docker://{image}"
    archive = f"{image.rpartition('/')[2].replace(':', '+')}.sqsh"
    return [["enroot", "import", "-o", archive, source], ["enroot", "start", archive]]


COMMANDS: dict[str, Callable[[str], list[list[str]]]] = {
    **{name: partial(_engine, name) for name in GPU_OPTIONS},
    "apptainer": _apptainer,
    "enroot": _enroot,
}


def run_line(runtime: str, image: str) -> str:
    """Return the commands to type, quoted for a shell."""
    return " && ".join(map(shlex.join, COMMANDS[runtime](image)))


_TOOLKIT = "install the NVIDIA Container Toolkit"
_CDI = "nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"


def find_runtimes(
    docker: EngineFacts | None, tools: Collection[str], *, cdi: bool
) -> tuple[Runtime, ...]:
    """Find what can start containers, Docker first.

    `tools` are the programs on PATH; `cdi` says that a CDI specification names NVIDIA's devices.
    """
    runtimes = []
    if docker is not None:
        runtimes.append(_docker_mode(docker, tools, cdi=cdi))
    if "podman" in tools:
        runtimes.append(Runtime("podman", cdi, None if cdi else f"{_TOOLKIT}, then: {_CDI}"))
    if {"apptainer", "singularity"} & set(tools):
        runtimes.append(Runtime("apptainer", gpus=True))
    if "enroot" in tools:
        hook = "nvidia-container-cli" in tools
        runtimes.append(
            Runtime("enroot", hook, None if hook else f"{_TOOLKIT} (libnvidia-container)")
        )
    return tuple(runtimes)


def _docker_mode(docker: EngineFacts, tools: Collection[str], *, cdi: bool) -> Runtime:
    """Choose `--gpus`, which needs the toolkit's hook, or a CDI device, if the engine reads CDI."""
    if "nvidia" in docker.runtimes or "nvidia-container-runtime-hook" in tools:
        return Runtime("docker", gpus=True)
    if docker.cdi and cdi:
        return Runtime("docker-cdi", gpus=True)
    advice = (
        f"{_TOOLKIT}, then: nvidia-ctk runtime configure --runtime=docker && "
        "systemctl restart docker"
    )
    return Runtime("docker", gpus=False, advice=advice)


def best(runtimes: Sequence[Runtime]) -> Runtime | None:
    """Return the first runtime that can pass GPUs on, else the first."""
    able = [runtime for runtime in runtimes if runtime.gpus]
    return next(iter([*able, *runtimes]), None)
