"""A token server as docker-registry trusts it: basic login in, signed JSON web tokens out.

Source: "Token Authentication Specification" and its JWT part, distribution 2.8.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import trustme
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509 import load_pem_x509_certificate

LIFE = 60  # seconds, the least that the specification allows
GRACE = 60  # seconds that the registry accepts a token after it has expired


@dataclass
class Tokens:
    """The section for a registry, and which scopes were given."""

    section: dict[str, Any]
    scopes: list[str] = field(default_factory=list)
    refuses: bool = False  # everybody, from now on


@contextmanager
def token_server(folder: Path, user: str, password: str, life: int = LIFE) -> Iterator[Tokens]:
    """Give tokens to `user` for whatever is asked; they expire after `life` seconds and GRACE."""
    certificate = trustme.CA().issue_cert("tokens.example")
    chain = [load_pem_x509_certificate(pem.bytes()) for pem in certificate.cert_chain_pems]
    roots = folder / "token-roots.pem"
    pem = serialization.Encoding.PEM
    roots.write_bytes(b"".join(x.public_bytes(pem) for x in chain))
    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    secret = key  # as the narrowed type, for the handler
    login = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

        def do_POST(self) -> None:
            self.send_error(405)  # OAuth2, which containerd tries first

        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            scopes = query.get("scope", [])
            if tokens.refuses or self.headers.get("Authorization") != login:
                self.send_error(401)
                return
            tokens.scopes.extend(scopes)
            token = _sign(
                secret, chain[0].public_bytes(serialization.Encoding.DER), user, scopes, life
            )
            body = json.dumps({"token": token, "expires_in": LIFE}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    realm = f"http://127.0.0.1:{server.server_port}/token"
    section = {"realm": realm, "service": "here", "issuer": "us", "rootcertbundle": str(roots)}
    tokens = Tokens({"auth": {"token": section}})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield tokens
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _sign(
    key: ec.EllipticCurvePrivateKey, leaf: bytes, user: str, scopes: list[str], life: int
) -> str:
    now = int(time.time())
    access = []
    for scope in scopes:
        kind, name, actions = scope.split(":", 2)
        access.append({"type": kind, "name": name, "actions": actions.split(",")})
    claims = {
        "iss": "us", "sub": user, "aud": "here", "exp": now + life, "nbf": now - 5, "iat": now,
        "jti": str(now), "access": access,
    }  # fmt: skip
    header = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(leaf).decode()]}
    body = ".".join(_base64url(json.dumps(part).encode()) for part in (header, claims))
    r, s = decode_dss_signature(key.sign(body.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{body}.{_base64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
