"""Pulls an image from a registry into this machine's container runtime."""

from __future__ import annotations

from pathlib import Path

from wheelyard.console.tasks import Reporter
from wheelyard.errors import EngineError
from wheelyard.oci.address import pinned
from wheelyard.settings import Settings
from wheelyard.system.subprocesses import run


def pull_image(
    image: str, digest: str | None, runtime: str, settings: Settings, reporter: Reporter
) -> str:
    """Pull `image` and return its id there; raise EngineError.

    apptainer and enroot fetch images themselves when they start them.
    """
    if runtime == "podman":
        return _with_podman(image, digest, settings)
    if not runtime.startswith("docker"):
        return image if digest is None else pinned(image, digest)
    from wheelyard.engines.docker import connect, pull

    client = connect()
    if client is None:
        raise EngineError("no Docker Engine answers; start one, or choose another with --runtime")
    return pull(client, image, digest, reporter)


def copy_into_podman(layout: Path, tag: str, name: str) -> None:
    """Copy an image of a layout into podman, which calls it `name`; raise EngineError."""
    what, source = "copying the image into podman", f"oci:{layout}:{tag}"
    taken = run(["podman", "pull", "--quiet", source], error=EngineError, what=what)
    run(["podman", "tag", taken.stdout.split()[-1], name], error=EngineError, what=what)


def _with_podman(image: str, digest: str | None, settings: Settings) -> str:
    plain = settings.registry is not None and settings.registry.scheme == "http"
    result = run(_pull_argv(image, digest, plain=plain), error=EngineError, what="podman pull")
    identity = result.stdout.split()[-1]
    if digest is not None:
        run(["podman", "tag", identity, image], error=EngineError, what="podman tag")
    return identity


def _pull_argv(image: str, digest: str | None, *, plain: bool) -> list[str]:
    """Return the command that pulls an image, by its digest if it is known."""
    name = image if digest is None else pinned(image, digest)
    trust = ["--tls-verify=false"] if plain else []
    return ["podman", "pull", "--quiet", *trust, name]
