"""A redirect takes no login along, and leads nowhere that is less safe (CVE-2020-15157's kind)."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import trustme
from answering import BASIC, Answer, Asked, Origin, answering, bearer, redirect

from wheelyard.console.progress import QuietReporter
from wheelyard.errors import FetchError, RegistryError
from wheelyard.fetching.download import Session, download
from wheelyard.fetching.patience import Patience
from wheelyard.fetching.replies import Refused
from wheelyard.fetching.transport import make_client, read_page
from wheelyard.fetching.wanted import Download
from wheelyard.oci.address import parse_address
from wheelyard.oci.layout import digest_of
from wheelyard.publish.catalogue import fetch_catalogue
from wheelyard.registry.artifact import put_blob
from wheelyard.registry.client import (
    MANIFEST_TYPES,
    Registry,
    get_content,
    has_blob,
    manifest_digest,
    open_registry,
    put_manifest,
)
from wheelyard.registry.referrers import referrers
from wheelyard.settings import Settings, load_settings

DIGEST = digest_of(b"{}")
ONCE = Patience(attempts=1, first_wait=0)
STATUSES = (301, 302, 303, 307, 308)


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Origin, bool], None]:
    """Log in to a server, with a password or with an identity token."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))

    def login(origin: Origin, token: bool) -> None:
        host = origin.url.partition("://")[2]
        entry = {"identitytoken": "refresh-token"} if token else {"username": "u", "password": "p"}
        (tmp_path / "config.json").write_text(json.dumps({"auths": {host: entry}}))

    return login


def settings(ca: Path | None = None) -> Settings:
    return load_settings({"project": str(Path(__file__).parents[2]), "ca_bundle": ca and str(ca)})


@contextmanager
def to(origin: Origin, ca: Path | None = None) -> Iterator[Registry]:
    address = parse_address(origin.url if origin.url.startswith("http:") else origin.url[8:])
    with open_registry(address, settings(ca), QuietReporter(None), ONCE) as registry:
        yield registry


def asks(registry: Registry) -> dict[str, Callable[[], object]]:
    """Every kind of request that is made of a registry."""
    return {
        "manifest": lambda: get_content(registry, "x", "manifests", "latest"),
        "blob": lambda: get_content(registry, "x", "blobs", DIGEST),
        "head": lambda: has_blob(registry, "x", DIGEST, 2),
        "tag": lambda: manifest_digest(registry, "x", "latest"),
        "catalogue": lambda: fetch_catalogue(registry),
        "referrers": lambda: referrers(registry, "x", DIGEST),
        "put": lambda: put_manifest(registry, "x", "latest", b"{}", MANIFEST_TYPES[0]),
        "upload": lambda: put_blob(registry, "x", b"{}"),
    }


KINDS = list(asks(None))  # type: ignore[arg-type]


def thief(asked: Asked) -> Answer:
    """Ask for the login of whoever comes."""
    return BASIC


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", STATUSES)
def test_who_is_redirected_to_gets_no_password(
    at_home: Callable[[Origin, bool], None], kind: str, status: int
) -> None:
    with (
        answering(thief) as other,
        answering(lambda asked: redirect(f"{other.url}{asked.path}", status)) as ours,
    ):
        at_home(ours, False)
        with to(ours) as registry, pytest.raises(RegistryError):
            asks(registry)[kind]()
        assert other.asked
        assert other.secrets() == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("token", [False, True])
def test_nor_by_a_realm_of_its_own(
    at_home: Callable[[Origin, bool], None], kind: str, token: bool
) -> None:
    with (
        answering(lambda _: Answer(body=[b'{"token": "t"}'])) as realm,
        answering(lambda _: bearer(f"{realm.url}/token")) as other,
        answering(lambda asked: redirect(f"{other.url}{asked.path}")) as ours,
    ):
        at_home(ours, token)
        with to(ours) as registry, pytest.raises(RegistryError):
            asks(registry)[kind]()
        assert other.secrets() == []
        assert realm.asked == []


def test_after_the_login_it_is_dropped(at_home: Callable[[Origin, bool], None]) -> None:
    """The first answer asks for it, the second redirects."""
    with answering(lambda _: Answer(body=[b"{}"])) as storage:

        def registry_answer(asked: Asked) -> Answer:
            return redirect(f"{storage.url}/blob") if asked.login else BASIC

        with answering(registry_answer) as ours:
            at_home(ours, False)
            with to(ours) as registry:
                assert get_content(registry, "x", "blobs", DIGEST) == b"{}"
        assert ours.secrets()
        assert storage.secrets() == []


def test_a_redirect_inside_the_registry_keeps_it(at_home: Callable[[Origin, bool], None]) -> None:
    def registry_answer(asked: Asked) -> Answer:
        if not asked.login:
            return BASIC
        return Answer(body=[b"{}"]) if asked.path == "/there" else redirect("/there")

    with answering(registry_answer) as ours:
        at_home(ours, False)
        with to(ours) as registry:
            assert get_content(registry, "x", "blobs", DIGEST) == b"{}"
        assert ours.asked[-1].login


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("token", [False, True])
def test_a_token_server_passes_nothing_on(
    at_home: Callable[[Origin, bool], None], status: int, token: bool
) -> None:
    with (
        answering(lambda _: Answer(body=[b'{"token": "t"}'])) as other,
        answering(lambda _: redirect(f"{other.url}/token", status)) as realm,
        answering(lambda _: bearer(f"{realm.url}/token")) as ours,
    ):
        at_home(ours, token)
        with to(ours) as registry, pytest.raises(RegistryError, match="not sent on"):
            get_content(registry, "x", "blobs", DIGEST)
        assert other.asked == []
        assert realm.secrets()


def test_a_token_server_may_move_inside_itself(at_home: Callable[[Origin, bool], None]) -> None:
    def give(asked: Asked) -> Answer:
        if asked.path.startswith("/token/"):
            return Answer(body=[b'{"token": "t"}'])
        return redirect(asked.path.replace("/token", "/token/"), 308)

    with answering(give) as realm:

        def registry_answer(asked: Asked) -> Answer:
            known = asked.login == "Bearer t"
            return Answer(body=[b"{}"]) if known else bearer(f"{realm.url}/token")

        with answering(registry_answer) as ours:
            at_home(ours, True)
            with to(ours) as registry:
                assert get_content(registry, "x", "blobs", DIGEST) == b"{}"


@pytest.fixture
def tls(tmp_path: Path) -> tuple[ssl.SSLContext, Path]:
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return context, tmp_path / "ca.pem"


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_asked_for_without_tls_where_it_began_with_it(
    tls: tuple[ssl.SSLContext, Path], kind: str
) -> None:
    context, ca = tls
    with (
        answering(lambda _: Answer(body=[b"{}"])) as plain,
        answering(lambda asked: redirect(f"{plain.url}{asked.path}"), context) as ours,
    ):
        with to(ours, ca) as registry, pytest.raises(RegistryError, match="without TLS"):
            asks(registry)[kind]()
        assert plain.asked == []


def test_nor_is_a_page_or_a_file(tls: tuple[ssl.SSLContext, Path], tmp_path: Path) -> None:
    context, ca = tls
    with (
        answering(lambda _: Answer(body=[b"{}"])) as plain,
        answering(lambda asked: redirect(f"{plain.url}{asked.path}"), context) as ours,
        make_client(settings(ca)) as client,
    ):
        with pytest.raises(Refused, match="without TLS"):
            read_page(client, f"{ours.url}/simple/x/", "*/*")
        item = Download(f"{ours.url}/x.whl", "x.whl", DIGEST[7:], 2)
        with pytest.raises(FetchError, match="without TLS"):
            download(item, tmp_path / "files", Session(client, QuietReporter(None), ONCE))
        assert plain.asked == []


def test_nor_is_anything_uploaded(tls: tuple[ssl.SSLContext, Path]) -> None:
    context, ca = tls
    with answering(lambda _: Answer(201)) as plain:

        def registry_answer(asked: Asked) -> Answer:
            if asked.method == "HEAD":
                return Answer(404)
            return Answer(202, {"Location": f"{plain.url}/upload"})

        with (
            answering(registry_answer, context) as ours,
            to(ours, ca) as registry,
            pytest.raises(RegistryError, match="without TLS"),
        ):
            put_blob(registry, "x", b"{}")
        assert plain.asked == []


def test_redirects_end() -> None:
    with answering(lambda asked: redirect(f"{asked.path}x")) as ours, to(ours) as registry:
        with pytest.raises(RegistryError, match="more than 10 redirects"):
            get_content(registry, "x", "blobs", DIGEST)
        assert len(ours.asked) == 11


@pytest.mark.parametrize("where", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://x/"])
def test_only_the_web_is_followed(where: str) -> None:
    with (
        answering(lambda _: redirect(where)) as ours,
        to(ours) as registry,
        pytest.raises(RegistryError),
    ):
        get_content(registry, "x", "blobs", DIGEST)


def test_an_indexs_login_stays_with_it(tmp_path: Path) -> None:
    with answering(lambda _: Answer(body=[b"page"])) as other:
        with answering(lambda asked: redirect(f"{other.url}{asked.path}")) as index:
            url = index.url.replace("://", "://anna:word@")
            given = load_settings({"project": str(Path(__file__).parents[2]), "index_url": url})
            with make_client(given) as client:
                assert read_page(client, f"{index.url}/simple/x/", "*/*")[1] == b"page"
                assert read_page(client, f"{url}/simple/x/", "*/*")[1] == b"page"
        assert len(index.secrets()) == 2
        assert other.secrets() == []


def test_a_urls_own_login_is_used() -> None:
    def page(asked: Asked) -> Answer:
        return Answer(body=[b"page"]) if asked.login == "Basic YTpi" else Answer(403)

    with answering(page) as index, make_client(settings()) as client:
        assert read_page(client, index.url.replace("://", "://a:b@"), "*/*")[1] == b"page"


def test_every_client_follows_by_hand() -> None:
    with make_client(settings()) as client:
        assert client.follow_redirects is False
        assert isinstance(client.auth, httpx.Auth)
