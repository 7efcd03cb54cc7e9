"""The command `docker buildx`: whether it exists, its builder, and its arguments."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wheelyard.dockerfiles.docker_engine import need_engine
from wheelyard.errors import EngineError, ToolMissingError
from wheelyard.system.subprocesses import failure, run

if TYPE_CHECKING:
    from wheelyard.dockerfiles.batch import EngineBuild

_BUILDX = ("docker", "buildx")
_NO_BUILDX = (
    "`docker buildx` is missing: install the buildx plug-in (Debian 13: docker-buildx; Docker's "
    "own packages: docker-buildx-plugin), or use --engine docker, or no engine at all"
)
_CHOOSE = "`docker buildx ls` lists builders; BUILDX_BUILDER and `docker buildx use` choose one"
HOST_NETWORK = "network.host"  # the entitlement's name
_DRIVER = re.compile(r"^Driver:[ \t]*(\S*)", re.MULTILINE)


def bake_argv(files: Sequence[Path], targets: Sequence[str], *options: str) -> tuple[str, ...]:
    """Return the command that builds `targets` of the merged `files`."""
    named = (word for file in files for word in ("--file", str(file)))
    return (*_BUILDX, "bake", *named, "--progress=plain", *options, *targets)


def build_argv(
    job: EngineBuild, override: Mapping[str, Any], network: str, *options: str
) -> tuple[str, ...]:
    """Return the command that builds one image: bake before buildx 0.17 has no networks.

    The Dockerfile has every stage, and BuildKit recognises a step that it ran by its content.
    """
    secrets = (word for secret in override["secret"] for word in ("--secret", secret))
    contexts = {
        name: source
        for name, source in override.get("contexts", {}).items()
        if not source.startswith("target:")
    }
    named = (f"--build-context={name}={source}" for name, source in contexts.items())
    allowed = (f"--allow={HOST_NETWORK}",) if network == "host" else ()
    return (
        *(
            *_BUILDX,
            "build",
            "--progress=plain",
            f"--platform=linux/{job.cell.architecture}",
            f"--network={network}",
        ),
        *(*allowed, *secrets, *named, *options, f"--tag={unchecked(job)}"),
        str(job.folder),
    )


def parse_driver(inspected: str) -> str:
    """Return the driver that `docker buildx inspect` names; "docker" is the engine's BuildKit.

    Empty if the builder is an engine that does not answer.
    """
    match = _DRIVER.search(inspected)
    return match[1] if match else "docker"


def knows_networks() -> bool:
    """Tell whether this buildx supports a network for bake."""
    return "--allow" in run((*_BUILDX, "bake", "--help"), error=None).stdout


def require_buildx() -> str:
    """Return the driver of the builder in use (BUILDX_BUILDER, or buildx's current one).

    Raises EngineError if buildx is missing or its builder cannot be used.
    """
    try:
        if run((*_BUILDX, "version"), error=None).returncode != 0:
            raise EngineError(_NO_BUILDX)
    except ToolMissingError as missing:
        raise EngineError(_NO_BUILDX) from missing
    named = os.environ.get("BUILDX_BUILDER")
    inspected = run((*_BUILDX, "inspect", "--bootstrap"), error=None)
    driver = parse_driver(inspected.stdout)
    if inspected.returncode != 0 or not driver:
        if not named:
            need_engine()  # if that is the reason, its message is better
        asked = f"the builder {named}" if named else "the current builder"
        raise EngineError(failure(inspected, f"asking {asked}", _CHOOSE))
    return driver


def unchecked(job: EngineBuild) -> str:
    """Return the tag of an image that was not read back yet."""
    return f"wheelyard/unchecked:{job.cell.id}"
