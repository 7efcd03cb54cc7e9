"""Debian's docker-registry, as it is run: open, with a password file, with tokens, with TLS."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

USER, PASSWORD = "anna", "s3cret-word"
# bcrypt of PASSWORD, the one kind that docker-registry takes.
HTPASSWD = f"{USER}:$2b$05$abcdefghijklmnopqrstuuEpHRRKIlpAGo.iP7Bpa.htQEJMAAnRe\n"


@contextmanager
def registry(folder: Path, *, keep: bool = False, **sections: Any) -> Iterator[str]:
    """A registry on loopback; host and port. `sections` go into its configuration.

    Its blobs are removed at the end, unless they are to be kept.
    """
    address = f"127.0.0.1:{free_port()}"
    config = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": f"{folder}/registry"}},
        **sections,
    }
    config["http"] = {"addr": address, **sections.get("http", {})}
    path = folder / "registry.yml"
    path.write_text(json.dumps(config))  # JSON is YAML
    try:
        with serving(["docker-registry", "serve", str(path)], address, folder / "registry.log"):
            yield address
    finally:
        if not keep:
            shutil.rmtree(folder / "registry", ignore_errors=True)


@contextmanager
def serving(argv: Sequence[str], address: str, output: Path) -> Iterator[None]:
    """A program that listens at `address` for as long as the context lasts."""
    with output.open("wb") as log:
        server = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        wait_until_it_listens(address, server)
        yield
    finally:
        server.terminate()
        server.wait(30)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def with_passwords(folder: Path) -> dict[str, Any]:
    """The section for a registry that knows USER."""
    (folder / "htpasswd").write_text(HTPASSWD)
    return {"auth": {"htpasswd": {"realm": "here", "path": f"{folder}/htpasswd"}}}


def with_tls(folder: Path, ca: trustme.CA) -> dict[str, Any]:
    """The section for a registry whose certificate `ca` signed."""
    issued = ca.issue_cert("127.0.0.1", "localhost")
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    for blob in issued.cert_chain_pems:
        blob.write_to_path(str(folder / "cert.pem"), append=True)
    return {"http": {"tls": {"certificate": f"{folder}/cert.pem", "key": f"{folder}/key.pem"}}}


def wait_until_it_listens(address: str, server: subprocess.Popen[bytes]) -> None:
    """Return once a connection is taken; fails the test after half a minute."""
    host, _, port = address.partition(":")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and server.poll() is None:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"no registry listens on {address}")
