"""Finds out how an engine's containers reach the wheelhouse on this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wheelyard.contract.paths import VENV
from wheelyard.dockerfiles.wheelhouse import LOOPBACK
from wheelyard.engines.readback import run_once
from wheelyard.errors import EngineError

if TYPE_CHECKING:
    from docker import DockerClient

    from wheelyard.context import Context

# Build arguments that every builder knows, and keeps out of history and cache keys.
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
# An engine on this machine, or one in a virtual machine on it: network, address.
_ROUTES = (("host", LOOPBACK), (None, "host-gateway"))
_ASK = """
import socket, sys, urllib.request
name = sys.argv[1]
port, token = name.split("-")[1:]
address = socket.gethostbyname(name)
urllib.request.urlopen(f"http://{address}:{port}/{token}/", timeout=5)
"""


@dataclass(frozen=True, slots=True)
class Route:
    """What RUN steps are given to reach the wheelhouse."""

    network: str | None  # None: the engine's default
    hosts: Mapping[str, str] = field(default_factory=dict)  # lines for /etc/hosts: name -> address

    @property
    def is_shared(self) -> bool:
        """Whether this machine's loopback is the engine's own, which builds can then read from."""
        return self.network == "host" and LOOPBACK in self.hosts.values()

    @property
    def proxies(self) -> dict[str, str]:
        """Build arguments for steps that must use the network themselves."""
        return {} if self.hosts else proxies_of(os.environ)


def find_route(
    client: DockerClient, image: str, name: str, network: str | None, context: Context
) -> Route:
    """Find a route from a container of `image` to the wheelhouse `name`, if there is one.

    `network` is the user's choice. Raises EngineError if settings could not be used then.
    """
    python = f"/{VENV}/bin/python" if image.startswith("wheelyard/") else "python3"
    for usual, address in _ROUTES:
        chosen = network or usual
        try:
            run_once(
                client, image, [python, "-c", _ASK, name],
                network=chosen or "default", hosts={name: address},
            )  # fmt: skip
        except EngineError:
            continue
        return Route(chosen, {name: address})
    _require_plain_settings(context)
    context.reporter.warn(
        "the engine's containers cannot reach this machine: RUN steps fetch everything again, "
        "from the public index and archives"
    )
    return Route(network)


def _require_plain_settings(context: Context) -> None:
    settings = context.settings
    given = {
        "--index-url": settings.index_url,
        "--debian-mirror": settings.debian_mirror,
        "--debian-security-mirror": settings.debian_security_mirror,
        "--ca-bundle": settings.ca_bundle,
    }
    named = [option for option, value in given.items() if value is not None]
    if named:
        raise EngineError(
            f"{', '.join(named)} cannot be handed to this engine's RUN steps without a trace "
            "in the image: its containers do not reach this machine. Use an engine on this "
            "machine, `--engine bake` (which passes them as secrets), or none at all"
        )


def proxies_of(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the proxies of an environment, as build arguments that leave no trace."""
    return {
        name: value
        for name in _PROXIES
        if (value := environ.get(name) or environ.get(name.lower()))
    }
