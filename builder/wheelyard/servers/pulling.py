"""From a registry into the container runtime of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wheelyard.errors import EngineError
from wheelyard.oci.address import pinned
from wheelyard.system.subprocesses import run

if TYPE_CHECKING:
    from wheelyard.console.tasks import Reporter
    from wheelyard.settings import Settings


def pull_image(
    image: str, digest: str | None, runtime: str, settings: Settings, reporter: Reporter
) -> str:
    """Pull `image` and return its id there; raises EngineError.

    apptainer and enroot fetch what they start by themselves.
    """
    if runtime == "podman":
        return _with_podman(image, digest, settings)
    if not runtime.startswith("docker"):
        return image if digest is None else pinned(image, digest)
    from wheelyard.engines.docker import connect, pull

    client = connect()
    if client is None:
        raise EngineError("no Docker Engine answers here; start one, or name --runtime")
    return pull(client, image, digest, reporter)


def _with_podman(image: str, digest: str | None, settings: Settings) -> str:
    plain = settings.registry is not None and settings.registry.scheme == "http"
    result = run(_pull_argv(image, digest, plain=plain), error=EngineError, what="podman pull")
    identity = result.stdout.split()[-1]
    if digest is not None:
        run(["podman", "tag", identity, image], error=EngineError, what="podman tag")
    return identity


def _pull_argv(image: str, digest: str | None, *, plain: bool) -> list[str]:
    """The command that pulls an image, by its digest where that is known."""
    name = image if digest is None else pinned(image, digest)
    trust = ["--tls-verify=false"] if plain else []
    return ["podman", "pull", "--quiet", *trust, name]
