"""The guard of conftest.py: what a unit test may not do raises."""

from __future__ import annotations

import socket
import subprocess
import threading

import pytest


def test_other_hosts_are_out_of_reach() -> None:
    with socket.socket() as client, pytest.raises(RuntimeError, match="reached for the host"):
        client.connect(("192.0.2.1", 80))


def test_names_are_not_looked_up() -> None:
    with pytest.raises(RuntimeError, match="reached for the host"):
        socket.getaddrinfo("example.org", 443)


def test_loopback_is_allowed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()


def test_engine_socket_is_out_of_reach() -> None:
    with socket.socket(socket.AF_UNIX) as client, pytest.raises(RuntimeError, match="engine"):
        client.connect("/var/run/docker.sock")


def test_engine_commands_do_not_start() -> None:
    with pytest.raises(RuntimeError, match="started 'docker'"):
        subprocess.run(["docker", "version"], check=False)


def test_threads_are_guarded_too() -> None:
    seen: list[BaseException] = []

    def reach_out() -> None:
        try:
            socket.create_connection(("192.0.2.1", 80))
        except RuntimeError as error:
            seen.append(error)

    thread = threading.Thread(target=reach_out)
    thread.start()
    thread.join()
    assert "reached for the host" in str(seen[0])
