"""Runs one command in a new container."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import requests
from docker.errors import DockerException

from wheelyard.errors import EngineError

if TYPE_CHECKING:
    from docker import DockerClient

_SHM_SIZE = "1g"  # loader processes and NCCL; an engine's default is 64 MiB
_GPUS: list[Any] = [{"Driver": "nvidia", "Count": -1, "Capabilities": [["gpu"]]}]


def passes_gpus(client: DockerClient) -> bool:
    """Tell whether the engine is set up for NVIDIA's GPUs: by its runtime, or by CDI."""
    facts = client.info()
    devices = facts.get("DiscoveredDevices") or []  # CDI, Docker 28.3 and later
    cdi = any(str(device.get("ID", "")).startswith("nvidia.com/gpu") for device in devices)
    return "nvidia" in facts.get("Runtimes", {}) or cdi


def run_once(
    client: DockerClient, image: str, argv: Sequence[str], *, gpus: bool, timeout: float
) -> tuple[int, str, str]:
    """Return exit code, output and errors of a container without network, which is removed.

    Raises EngineError if the engine refuses, or after `timeout` seconds.
    """
    try:
        container: Any = client.containers.create(
            image,
            list(argv),
            network_mode="none",
            shm_size=_SHM_SIZE,
            device_requests=_GPUS if gpus else [],
        )
    except (DockerException, requests.RequestException) as error:
        raise EngineError(
            f"the engine could not create a container of  {image[:19]}: {error}"
        ) from error
    try:
        container.start()
        code = int(container.wait(timeout=timeout)["StatusCode"])
        return code, _log(container, stdout=True), _log(container, stdout=False)
    except (DockerException, requests.RequestException) as error:
        raise EngineError(f"{' '.join(argv[:3])} in a container: {error}") from error
    finally:
        container.remove(force=True)


def _log(container: Any, *, stdout: bool) -> str:
    content: bytes = container.logs(stdout=stdout, stderr=not stdout)
    return content.decode("utf-8", "replace")
