"""Runs one command in a new container."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
from docker.errors import DockerException

from wheelyard.engines.docker import engine_errors
from wheelyard.system.threads import Helper

if TYPE_CHECKING:
    from docker import DockerClient

_SHM_SIZE = "1g"  # loader processes and NCCL; an engine's default is 64 MiB
_LINE_LENGTH = 1 << 16
_TAIL_LINES = 40
_LONGEST = 24 * 3600  # seconds of a build
_GPUS: list[Any] = [{"Driver": "nvidia", "Count": -1, "Capabilities": [["gpu"]]}]


def passes_gpus(client: DockerClient) -> bool:
    """Tell whether the engine is set up for NVIDIA's GPUs: by its runtime, or by CDI."""
    facts = client.info()
    devices = facts.get("DiscoveredDevices") or []  # CDI, Docker 28.3 and later
    cdi = any(str(device.get("ID", "")).startswith("nvidia.com/gpu") for device in devices)
    return "nvidia" in facts.get("Runtimes", {}) or cdi


def run_once(
    client: DockerClient,
    image: str,
    argv: Sequence[str],
    *,
    gpus: bool,
    timeout: float,
    on_error_line: Callable[[str], None],
) -> tuple[int, str, str]:
    """Return exit code, output and errors of a container without network, which is removed.

    `on_error_line` is given each line of its errors as it arrives. Raises EngineError if
    the engine refuses, or after `timeout` seconds.
    """
    options = {"command": list(argv), "device_requests": _GPUS if gpus else []}
    with _container(client, image, argv, options) as container:
        Helper(lambda: _follow(container, on_error_line), "container's errors").start()
        code = int(container.wait(timeout=timeout)["StatusCode"])
        return code, _log(container, stdout=True), _log(container, stdout=False)


def run_contained(
    client: DockerClient,
    image: str,
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    folder: Path,
    place: str,
    ids: tuple[int, int],
) -> tuple[int, str]:
    """Run a program that is not trusted in a container without network or privileges.

    It sees `folder` of this machine at `place`, and nothing else. Returns its exit code and the end
    of its output; raises EngineError if the engine refuses.
    """
    with engine_errors("the engine does not report its security options"):
        rootless = "name=rootless" in (client.info().get("SecurityOptions") or ())
    options = {
        "command": list(argv[1:]),
        "entrypoint": list(argv[:1]),
        "environment": dict(env),
        "user": "0:0" if rootless else f"{ids[0]}:{ids[1]}",
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "volumes": {str(folder): {"bind": place, "mode": "rw"}},
    }
    with _container(client, image, argv, options) as container:
        code = int(container.wait(timeout=_LONGEST)["StatusCode"])
        content: bytes = container.logs(tail=_TAIL_LINES)
        return code, content.decode("utf-8", "replace")[-_LINE_LENGTH:]


@contextmanager
def _container(
    client: DockerClient, image: str, argv: Sequence[str], options: Mapping[str, Any]
) -> Iterator[Any]:
    """Start a container without network; remove it at the end of the block."""
    with engine_errors(f"the engine could not create a container of {image}"):
        container: Any = client.containers.create(
            image, network_mode="none", shm_size=_SHM_SIZE, **options
        )
    try:
        with engine_errors(f"{' '.join(argv[:3])} in a container"):
            container.start()
            yield container
    finally:
        container.remove(force=True)


def _follow(container: Any, on_line: Callable[[str], None]) -> None:
    """Pass on the lines of the container's errors until it ends; the rest does not need them."""
    with suppress(DockerException, requests.RequestException, OSError, ValueError):
        for line in _lines(container.logs(stdout=False, stderr=True, stream=True, follow=True)):
            on_line(line)


def _lines(chunks: Iterator[bytes]) -> Iterator[str]:
    """Split a stream at its line ends; of a line without one, the last part is kept."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        rest = rest[-_LINE_LENGTH:]
        yield from (line.decode("utf-8", "replace") for line in whole)


def _log(container: Any, *, stdout: bool) -> str:
    content: bytes = container.logs(stdout=stdout, stderr=not stdout)
    return content.decode("utf-8", "replace")
