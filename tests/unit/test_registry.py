"""Where registries are, who we are there, and what their refusals mean."""

from __future__ import annotations

import base64
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from answering import Answer, Asked, answering, bearer

from wheelyard.console.progress import QuietReporter
from wheelyard.errors import RegistryError, SettingsError, ToolMissingError
from wheelyard.fetching.patience import Patience
from wheelyard.fetching.replies import Gone, Interrupted, RangeRefused, Refused
from wheelyard.oci.address import HUB, HUB_API, HUB_LOGIN, parse_address
from wheelyard.registry.client import get_content, has_blob, open_registry
from wheelyard.registry.credentials import Credential, find_credential, keep_credential
from wheelyard.registry.login import Login, parse_challenge, token_request
from wheelyard.registry.replies import DigestRefused, connection_failure, registry_failure
from wheelyard.settings import load_settings

REALM = "https://auth.example/token"
BEARER = f'Bearer realm="{REALM}",service="reg",scope="repository:a/b:pull,push"'


class TestAddress:
    def test_names_below_a_prefix(self) -> None:
        address = parse_address("registry.example:5000/team/gpu/")
        assert address.url == "https://registry.example:5000/v2/"
        assert address.repository("pytorch") == "team/gpu/pytorch"
        assert address.reference("pytorch:2.3") == "registry.example:5000/team/gpu/pytorch:2.3"

    def test_no_prefix_and_plain_http(self) -> None:
        address = parse_address("http://[::1]:5000")
        assert (address.url, address.repository("x")) == ("http://[::1]:5000/v2/", "x")

    @pytest.mark.parametrize("name", [HUB, HUB_API, f"index.{HUB}"])
    def test_docker_hub_by_any_of_its_names(self, name: str) -> None:
        """Where `docker pull` looks for what is called so."""
        address = parse_address(f"{name}/anna")
        assert address.url == f"https://{HUB_API}/v2/"
        assert address.reference("pytorch:2.3") == f"{HUB}/anna/pytorch:2.3"
        assert parse_address(name).repository("python") == "library/python"

    @pytest.mark.parametrize(
        "text", ["", "a b", "host/Team", "host//x", "ftp://host", "host/x:tag"]
    )
    def test_what_is_none(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"HOST\[:PORT\]"):
            parse_address(text)

    def test_a_login_is_not_repeated(self) -> None:
        with pytest.raises(ValueError, match="wheelyard login") as caught:
            parse_address("https://anna:word@host/x")
        assert "word" not in str(caught.value)


def auth(name: str, secret: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{name}:{secret}".encode()).decode()}


class TestCredentials:
    def find(self, tmp_path: Path, config: object, host: str = "reg.example") -> Credential | None:
        (tmp_path / "config.json").write_text(json.dumps(config))
        return find_credential(host, "team/x", {"DOCKER_CONFIG": str(tmp_path), "HOME": "/none"})

    @pytest.mark.parametrize(
        "key", ["reg.example", "https://reg.example", "https://reg.example/v2/"]
    )
    def test_ways_to_write_the_host(self, tmp_path: Path, key: str) -> None:
        assert self.find(tmp_path, {"auths": {key: auth("anna", "a:b")}}) == Credential(
            "anna", "a:b"
        )

    @pytest.mark.parametrize("key", [HUB_LOGIN, HUB, f"{HUB}/team"])
    def test_docker_hubs_login(self, tmp_path: Path, key: str) -> None:
        """`wheelyard login` keeps it under an old URL, podman under the name."""
        assert self.find(tmp_path, {"auths": {key: auth("anna", "x")}}, HUB) is not None
        assert self.find(tmp_path, {"auths": {key: auth("anna", "x")}}) is None

    def test_docker_hubs_helper_is_asked_by_the_old_url(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.helper(tmp_path, monkeypatch, 'echo \'{"Username": "anna", "Secret": "x"}\'')
        for config in ({"credsStore": "mine"}, {"credHelpers": {HUB: "mine"}}):
            assert self.find(tmp_path, config, HUB) == Credential("anna", "x")
            assert (tmp_path / "asked").read_text() == HUB_LOGIN

    def test_podmans_key_for_a_part_wins(self, tmp_path: Path) -> None:
        auths = {"reg.example": auth("all", "1"), "reg.example/team": auth("team", "2")}
        assert self.find(tmp_path, {"auths": auths}) == Credential("team", "2")

    def test_an_identity_token(self, tmp_path: Path) -> None:
        found = self.find(tmp_path, {"auths": {"reg.example": {"identitytoken": "tok"}}})
        assert found is not None
        assert found.is_identity_token

    def test_another_host_gets_none(self, tmp_path: Path) -> None:
        config = {"auths": {"reg.example": auth("anna", "x")}}
        assert self.find(tmp_path, config, "reg.example.evil") is None

    def test_no_file_is_no_login(self, tmp_path: Path) -> None:
        assert find_credential("reg.example", "x", {"HOME": str(tmp_path)}) is None

    def test_podmans_file(self, tmp_path: Path) -> None:
        path = tmp_path / "containers" / "auth.json"
        path.parent.mkdir()
        path.write_text(json.dumps({"auths": {"reg.example": auth("anna", "x")}}))
        environ = {"HOME": "/none", "XDG_RUNTIME_DIR": str(tmp_path)}
        assert find_credential("reg.example", "x", environ) == Credential("anna", "x")

    @pytest.mark.parametrize(
        ("script", "found"),
        [
            ('echo \'{"Username": "anna", "Secret": "x"}\'', Credential("anna", "x")),
            ("echo credentials not found in native keychain; exit 1", None),
        ],
    )
    def test_a_helper(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        script: str,
        found: Credential | None,
    ) -> None:
        self.helper(tmp_path, monkeypatch, script)
        config = {"credHelpers": {"reg.example": "mine"}, "auths": {"reg.example": auth("b", "y")}}
        assert self.find(tmp_path, config) == found
        assert (tmp_path / "asked").read_text() == "reg.example"

    def test_what_a_helper_says_stays_secret(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.helper(tmp_path, monkeypatch, "echo s3cret; exit 1")
        with pytest.raises(SettingsError, match="did not return a login") as caught:
            self.find(tmp_path, {"credsStore": "mine"})
        assert "s3cret" not in str(caught.value)

    def test_a_missing_helper_leaves_the_other_files(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config = {"credsStore": "nowhere"}
        with pytest.raises(ToolMissingError, match="docker-credential-nowhere"):
            self.find(tmp_path, config)
        (tmp_path / "containers").mkdir()
        auths = {"auths": {"reg.example": auth("anna", "x")}}
        (tmp_path / "containers" / "auth.json").write_text(json.dumps(auths))
        environ = {"DOCKER_CONFIG": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
        assert find_credential("reg.example", "x", environ) == Credential("anna", "x")

    @pytest.mark.parametrize("key", ["credsStore", "credHelpers"])
    def test_without_its_helper_a_pull_goes_on(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
    ) -> None:
        """As docker does: the token server gives a token to anybody."""
        with answering(lambda _: Answer(body=[b'{"token": "t"}'])) as realm:

            def reply(asked: Asked) -> Answer:
                known = asked.login == "Bearer t"
                return Answer(body=[b"{}"]) if known else bearer(f"{realm.url}/token")

            with answering(reply) as origin:
                host = origin.url.partition("://")[2]
                helper = {"credsStore": "nowhere", "credHelpers": {host: "nowhere"}}[key]
                (tmp_path / "config.json").write_text(json.dumps({key: helper}))
                monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
                warned: list[str] = []
                reporter = QuietReporter(None)
                monkeypatch.setattr(reporter, "warn", warned.append)
                given = load_settings({"project": str(Path(__file__).parents[2])})
                with open_registry(parse_address(origin.url), given, reporter) as registry:
                    for repository in ("x", "y"):
                        assert get_content(registry, repository, "manifests", "latest") == b"{}"
        assert len(warned) == 1
        assert "docker-credential-nowhere" in warned[0]
        assert "continuing without a login" in warned[0]
        assert realm.secrets() == []

    def helper(self, folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
        path = folder / "docker-credential-mine"
        path.write_text(f'#!/bin/sh\n/bin/cat > "{folder}/asked"\n{script}\n')
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def test_a_damaged_one_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="log in again"):
            self.find(tmp_path, {"auths": {"reg.example": {"auth": "%%%"}}})
        (tmp_path / "config.json").write_text("{")
        with pytest.raises(SettingsError, match="not JSON"):
            find_credential("h", "x", {"DOCKER_CONFIG": str(tmp_path)})

    @pytest.mark.parametrize("link", [False, True])
    def test_one_is_kept_beside_what_is_there(self, tmp_path: Path, link: bool) -> None:
        place = tmp_path / "docker" / "config.json"
        environ = {"DOCKER_CONFIG": str(place.parent)}
        kept = {"currentContext": "x", "auths": {"other.example": auth("b", "y")}}
        if link:
            place.parent.mkdir()
            (tmp_path / "real.json").write_text(json.dumps(kept))
            place.symlink_to(tmp_path / "real.json")
        anna = Credential("anna", "wörd:x")
        assert Path(keep_credential("reg.example", anna, environ)) == place.resolve()
        assert find_credential("reg.example", "team/x", environ) == anna
        assert place.is_symlink() == link
        assert place.stat().st_mode & 0o777 == 0o600
        if link:
            assert find_credential("other.example", "x", environ) == Credential("b", "y")
            assert json.loads(place.read_text())["currentContext"] == "x"
        else:
            assert place.parent.stat().st_mode & 0o777 == 0o700

    @pytest.mark.parametrize("key", ["credsStore", "credHelpers"])
    def test_a_helper_keeps_it_and_the_file_does_not(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
    ) -> None:
        self.helper(tmp_path, monkeypatch, "")
        config = {key: {"credsStore": "mine", "credHelpers": {"reg.example": "mine"}}[key]}
        (tmp_path / "config.json").write_text(json.dumps(config))
        environ = {"DOCKER_CONFIG": str(tmp_path)}
        place = keep_credential("reg.example", Credential("anna", "s3cret"), environ)
        assert place == "docker-credential-mine"
        asked = json.loads((tmp_path / "asked").read_text())
        assert asked == {"ServerURL": "reg.example", "Username": "anna", "Secret": "s3cret"}
        assert "s3cret" not in (tmp_path / "config.json").read_text()
        self.helper(tmp_path, monkeypatch, "echo s3cret; exit 3")
        with pytest.raises(SettingsError, match="exit code 3") as caught:
            keep_credential("reg.example", Credential("anna", "s3cret"), environ)
        assert "s3cret" not in str(caught.value)

    def test_a_folder_that_cannot_be_made_is_named_with_what_to_do(self) -> None:
        environ = {"DOCKER_CONFIG": "/proc/none"}
        with pytest.raises(SettingsError, match=r"/proc/none/config\.json: .*; set DOCKER_CONFIG"):
            keep_credential("reg.example", Credential("anna", "s3cret"), environ)

    def test_its_repr_shows_no_secret(self) -> None:
        assert "word" not in repr(Credential("anna", "word"))


class TestTokens:
    def test_a_challenge_is_read(self) -> None:
        found = parse_challenge(BEARER)
        assert found is not None
        assert found.scheme == "bearer"
        assert found.parameters["scope"] == "repository:a/b:pull,push"
        assert parse_challenge("Negotiate abc") is None

    def test_the_request_carries_login_and_scopes(self) -> None:
        challenge = parse_challenge(BEARER.replace('push"', 'push repository:c:pull"'))
        assert challenge is not None
        asked = token_request(challenge, Credential("anna", "x"), secure=True)
        assert asked is not None
        assert asked.url.params.get_list("scope") == [
            "repository:a/b:pull,push", "repository:c:pull",
        ]  # fmt: skip
        assert asked.headers["Authorization"] == "Basic YW5uYTp4"

    def test_no_login_over_plain_http_for_a_secure_registry(self) -> None:
        challenge = parse_challenge(BEARER.replace("https", "http"))
        assert challenge is not None
        assert token_request(challenge, Credential("anna", "x"), secure=True) is None
        assert token_request(challenge, Credential("anna", "x"), secure=False) is not None

    def test_an_identity_token_is_exchanged(self) -> None:
        challenge = parse_challenge(BEARER)
        assert challenge is not None
        asked = token_request(challenge, Credential("<token>", "tok"), secure=True)
        assert asked is not None
        assert asked.method == "POST"
        assert b"refresh_token=tok" in asked.read()
        assert asked.url == REALM

    def test_a_token_is_kept_for_its_repository(self) -> None:
        login = Login("https://reg.example/v2/", lambda _: Credential("anna", "x"))
        flow = login.auth_flow(httpx.Request("HEAD", "https://reg.example/v2/a/b/blobs/x"))
        first = next(flow)
        assert "Authorization" not in first.headers
        asked = flow.send(httpx.Response(401, headers={"WWW-Authenticate": BEARER}, request=first))
        assert asked.url.host == "auth.example"
        again = flow.send(httpx.Response(200, json={"token": "T"}, request=asked))
        assert again.headers["Authorization"] == "Bearer T"
        for path, known in (("a/b", "Bearer T"), ("other", None)):
            url = f"https://reg.example/v2/{path}/blobs/uploads/"
            request = next(login.auth_flow(httpx.Request("POST", url)))
            assert request.headers.get("Authorization") == known

    def test_another_host_gets_no_login(self) -> None:
        login = Login("https://reg.example/v2/", lambda _: Credential("anna", "x"))
        flow = login.auth_flow(httpx.Request("PUT", "https://storage.example/upload"))
        first = next(flow)
        answer = httpx.Response(401, headers={"WWW-Authenticate": "Basic"}, request=first)
        with pytest.raises(StopIteration):
            flow.send(answer)
        assert "Authorization" not in first.headers

    def test_a_refused_login_is_not_sent_for_ever(self) -> None:
        login = Login("https://reg.example/v2/", lambda _: Credential("anna", "x"))
        flow = login.auth_flow(httpx.Request("GET", "https://reg.example/v2/a/tags/list"))
        answer = httpx.Response(401, headers={"WWW-Authenticate": 'Basic realm="r"'})
        next(flow)
        assert flow.send(answer).headers["Authorization"] == "Basic YW5uYTp4"
        with pytest.raises(StopIteration):
            flow.send(answer)


def reply(status: int, **error: Any) -> httpx.Response:
    return httpx.Response(status, json={"errors": [error]} if error else None)


@pytest.mark.parametrize(
    ("response", "kind", "words"),
    [
        (reply(401), Refused, "wheelyard login reg"),
        (reply(403, code="DENIED"), Refused, "is not permitted to do that"),
        (reply(404, code="NAME_UNKNOWN"), Gone, "NAME_UNKNOWN"),
        (reply(405, code="UNSUPPORTED"), Refused, "does not accept pushes"),
        (reply(400, code="DIGEST_INVALID"), DigestRefused, "DIGEST_INVALID"),
        (reply(416), RangeRefused, "416"),
        (reply(429), Interrupted, "429"),
        (reply(500, code="UNKNOWN", detail={"Err": 28}), Interrupted, "UNKNOWN"),
        (reply(503), Interrupted, "503"),
    ],
)
def test_what_a_refusal_means(response: httpx.Response, kind: type, words: str) -> None:
    failure = registry_failure(response, "reg")
    assert type(failure) is kind
    assert words in str(failure)


def test_a_server_that_speaks_no_tls() -> None:
    error = httpx.ConnectError("[SSL: WRONG_VERSION_NUMBER] wrong version number")
    assert "http://reg" in str(connection_failure(error, "reg"))


class Told(QuietReporter):
    """What is said, as a list."""

    def __init__(self) -> None:
        super().__init__(None)
        self.said: list[str] = []

    def info(self, message: str) -> None:
        self.said.append(message)


def test_connections_at_once_tell_of_a_dead_registry_once() -> None:
    with socket.socket() as bound:  # not listening
        bound.bind(("127.0.0.1", 0))
        address = parse_address(f"http://127.0.0.1:{bound.getsockname()[1]}/x")
        told = Told()
        with open_registry(address, load_settings({}), told, Patience(3, 0.01)) as registry:

            def ask_for_a_blob(_: int) -> None:
                with pytest.raises(RegistryError, match="gave up after 3 attempts; check the host"):
                    has_blob(registry, "x/y", f"sha256:{'0' * 64}", 1)

            with ThreadPoolExecutor(8) as pool:
                list(pool.map(ask_for_a_blob, range(8)))
    assert len(told.said) == 2
