"""Debian's nginx in front of a registry, as sites have it: TLS, logins, a storage elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import trustme

from tests.peers.registries import PASSWORD, USER, free_port, serving

_CONFIG = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr;
events {{}}
http {{
  log_format seen '$request_method $request_uri $http_authorization';
  client_max_body_size 0; client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2;
  fastcgi_temp_path {folder}/t3; uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  gzip on; gzip_types *; gzip_proxied any; gzip_min_length 1;
  server {{ listen 127.0.0.1:{barrier}; access_log off; return 204; }}
  ssl_certificate {folder}/chain.pem; ssl_certificate_key {folder}/key.pem;
{servers}
}}
"""


@dataclass(frozen=True)
class Site:
    """Servers by name; what each was asked, with the login that came along."""

    folder: Path
    ports: Mapping[str, int]
    ca: Path
    barrier: int  # port of a server whose answer comes after the log lines of earlier answers

    def host(self, name: str) -> str:
        return f"localhost:{self.ports[name]}"

    def seen(self, name: str) -> list[str]:
        """Lines of `METHOD PATH LOGIN`; `-` for none.

        nginx writes a line after it has answered. One process serves all ports, so what it answers
        next on `barrier` comes after that line.
        """
        connection = HTTPConnection("127.0.0.1", self.barrier, timeout=20)
        connection.request("GET", "/")
        assert connection.getresponse().status == 204
        connection.close()
        log = self.folder / f"{name}.log"
        return log.read_text().splitlines() if log.exists() else []

    def logins(self, name: str) -> list[str]:
        return [line for line in self.seen(name) if not line.endswith(" -")]


@contextmanager
def nginx(
    folder: Path, servers: Mapping[str, str], *, plain: tuple[str, ...] = ()
) -> Iterator[Site]:
    """Serve; `servers` are bodies of server blocks, in which `{NAME}` is the port of that one."""
    folder.mkdir()
    ports = {name: free_port() for name in servers}
    ca = trustme.CA()
    issued = ca.issue_cert("localhost", "127.0.0.1")
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    for blob in issued.cert_chain_pems:
        blob.write_to_path(str(folder / "chain.pem"), append=True)
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    (folder / "passwords").write_text(f"{USER}:{{PLAIN}}{PASSWORD}\n")
    blocks = []
    for name, body in servers.items():
        for other, port in ports.items():
            body = body.replace(f"{{{other}}}", str(port))
        body = body.replace("{passwords}", f"{folder}/passwords")
        tls = "" if name in plain else " ssl"
        listen = f"listen 127.0.0.1:{ports[name]}{tls};"
        blocks.append(f"server {{ {listen} access_log {folder}/{name}.log seen; {body} }}")
    config = folder / "nginx.conf"
    barrier = free_port()
    config.write_text(_CONFIG.format(folder=folder, barrier=barrier, servers="\n".join(blocks)))
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin") or "nginx"
    first = next(iter(ports.values()))
    command = [program, "-e", "stderr", "-p", str(folder), "-c", str(config)]
    with serving(command, f"127.0.0.1:{first}", folder / "nginx.out"):
        yield Site(folder, ports, folder / "ca.pem", barrier)
