"""A registry behind nginx: what a site needs works, and what an attacker wants does not."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tiny import Tiny

from tests.peers.nginx import Site, nginx
from tests.peers.pushed import RUNTIME, layout_digest
from tests.peers.registries import PASSWORD, USER
from wheelyard.cli import main
from wheelyard.console.progress import QuietReporter
from wheelyard.errors import RegistryError
from wheelyard.fetching.patience import Patience
from wheelyard.oci.address import parse_address
from wheelyard.oci.layout import MANIFEST_TYPE, Layout
from wheelyard.registry.client import Registry, get_content, open_registry
from wheelyard.settings import load_settings

pytestmark = pytest.mark.usefixtures("at_nobodys_home", "registry_tools")
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
LOGIN = 'auth_basic "here"; auth_basic_user_file {passwords};'


def to_registry(address: str) -> str:
    forwarded = "proxy_set_header X-Forwarded-Proto $scheme; proxy_request_buffering off;"
    return f"proxy_pass http://{address}; proxy_set_header Host $http_host; {forwarded}"


@pytest.fixture(scope="module", autouse=True)
def nginx_there(need: Callable[..., None]) -> None:
    need("nginx")


@pytest.fixture
def login(tmp_path: Path) -> Callable[[str], None]:
    """Log in to a server, as `docker login` would."""

    def write(host: str) -> None:
        path = tmp_path / ".docker" / "config.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"auths": {host: {"username": USER, "password": PASSWORD}}}))

    return write


@contextmanager
def client(site: Site, timeout: float = 10) -> Iterator[Registry]:
    given = load_settings({
        "project": str(Path(__file__).parents[2]), "ca_bundle": str(site.ca), "timeout": timeout,
    })  # fmt: skip
    patience = Patience(attempts=2, first_wait=0)
    address = parse_address(site.host("front"))
    with open_registry(address, given, QuietReporter(None), patience) as registry:
        yield registry


def push(tiny: Tiny, dist: Path, site: Site, cache: Path) -> int:
    words = ["push", "all", "--project", tiny.folder, "--output", dist, "--timeout", 20]
    words += ["--registry", site.host("front"), "--ca-bundle", site.ca, "--cache-dir", cache]
    return main(list(map(str, words)))


def test_a_login_tls_and_a_storage_elsewhere(
    tiny: Tiny, tiny_dist: Path, address: str, tmp_path: Path, login: Callable[[str], None]
) -> None:
    """Blobs are redirected to another origin, as registries do that keep them in a bucket."""
    servers = {
        "front": f"location / {{ {LOGIN} {to_registry(address)} }} "
        "location ~ ^/v2/.+/blobs/sha256: { " + LOGIN + " if ($request_method = GET) "
        "{ return 307 https://localhost:{bucket}$request_uri; } " + to_registry(address) + " }",
        "bucket": f"location / {{ {to_registry(address)} proxy_set_header Authorization ''; }}",
    }
    with nginx(tmp_path / "nginx", servers) as site:
        login(site.host("front"))
        assert push(tiny, tiny_dist, site, tmp_path / "cache") == 0
        digest = layout_digest(tiny_dist)
        config = Layout(tiny_dist).read_json(digest)["config"]["digest"]
        name, _, tag = RUNTIME.partition(":")
        with client(site) as registry:
            assert get_content(registry, name, "manifests", tag, MANIFEST_TYPE)
            assert json.loads(get_content(registry, name, "blobs", config))["rootfs"]
        assert site.logins("front")
        assert all(line.endswith(BASIC) for line in site.logins("front"))
        assert any(line.startswith("GET") and config in line for line in site.seen("bucket"))
        assert site.logins("bucket") == []


def test_a_bucket_that_asks_for_a_login_gets_none(
    address: str, tmp_path: Path, login: Callable[[str], None]
) -> None:
    servers = {
        "front": f"location / {{ {LOGIN} return 307 https://localhost:{{thief}}$request_uri; }}",
        "thief": f"location / {{ {LOGIN} {to_registry(address)} }}",
    }
    with nginx(tmp_path / "nginx", servers) as site, client(site) as registry:
        login(site.host("front"))
        with pytest.raises(RegistryError, match="401"):
            get_content(registry, "x", "manifests", "latest")
        assert site.seen("thief")
        assert site.logins("thief") == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_way_leads_from_tls_to_none(address: str, tmp_path: Path, status: int) -> None:
    servers = {
        "front": f"location / {{ return {status} http://localhost:{{plain}}$request_uri; }}",
        "plain": f"location / {{ {to_registry(address)} }}",
    }
    with nginx(tmp_path / "nginx", servers, plain=("plain",)) as site, client(site) as registry:
        with pytest.raises(RegistryError, match="without TLS"):
            get_content(registry, "x", "manifests", "latest")
        assert site.seen("plain") == []


def test_a_server_that_dawdles_is_given_up(tmp_path: Path) -> None:
    big = tmp_path / "www"
    (big / "v2/x/manifests").mkdir(parents=True)
    (big / "v2/x/manifests/latest").write_bytes(b" " * 100_000)
    servers = {"front": f"root {big}; gzip off; limit_rate 300;"}
    with nginx(tmp_path / "nginx", servers) as site, client(site, timeout=2) as registry:
        with pytest.raises(RegistryError, match="too slow"):
            get_content(registry, "x", "manifests", "latest")
        assert len(site.folder.joinpath("front.log").read_text().splitlines()) <= 2


def test_too_much_is_not_read(tmp_path: Path) -> None:
    www = tmp_path / "www/v2/x/manifests"
    www.mkdir(parents=True)
    with (www / "latest").open("wb") as file:
        file.truncate(1 << 40)
    servers = {"front": f"root {tmp_path}/www; gzip off;"}
    with (
        nginx(tmp_path / "nginx", servers) as site,
        client(site) as registry,
        pytest.raises(RegistryError, match="sends more than"),
    ):
        get_content(registry, "x", "manifests", "latest")


def test_gzip_that_nobody_asked_for(tmp_path: Path) -> None:
    www = tmp_path / "www/v2/x/manifests"
    www.mkdir(parents=True)
    (www / "latest").write_bytes(b"{}")
    servers = {"front": f"root {tmp_path}/www; add_header Content-Encoding gzip;"}
    with (
        nginx(tmp_path / "nginx", servers) as site,
        client(site) as registry,
        pytest.raises(RegistryError, match="compressed its reply"),
    ):
        get_content(registry, "x", "manifests", "latest")
