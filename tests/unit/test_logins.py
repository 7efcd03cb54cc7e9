"""A mirror's login goes to the mirror, and to nobody else."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from locking import make_settings

from wheelyard.fetching.logins import Logins, mirror_logins
from wheelyard.system.urls import plain

INDEX = "https://anna:p%C3%A4ss@mirror.example:8443/simple/"


def sent(logins: Logins, url: str) -> str | None:
    request = next(logins.auth_flow(httpx.Request("GET", url)))
    value: str | None = request.headers.get("Authorization")
    return value


@pytest.mark.parametrize(
    "url",
    [
        "https://mirror.example:8443/files/torch.whl",
        "https://MIRROR.example:8443/elsewhere/torch.whl",
    ],
)
def test_a_file_on_the_mirror_gets_its_login(url: str) -> None:
    assert sent(Logins([INDEX]), url) == "Basic YW5uYTpww6Rzcw=="  # anna:päss


@pytest.mark.parametrize(
    "url",
    [
        "https://files.example/torch.whl",
        "https://mirror.example/torch.whl",
        "http://mirror.example:8443/torch.whl",
    ],
)
def test_another_host_port_or_scheme_does_not(url: str) -> None:
    assert sent(Logins([INDEX]), url) is None


def test_a_port_that_is_the_scheme_s_own_may_be_left_out() -> None:
    logins = Logins(["https://anna:x@mirror.example:443/simple/"])
    assert sent(logins, "https://mirror.example/files/torch.whl") is not None


def test_every_mirror_of_the_settings_has_its_own(tmp_path: Path) -> None:
    settings = make_settings(
        tmp_path,
        "https://a:1@index.example/simple/",
        debian_mirror="https://b:2@debian.example/debian",
        debian_security_mirror="https://security.example/debian-security",
    )
    logins = mirror_logins(settings)
    first, second = (
        sent(logins, "https://index.example/x"),
        sent(logins, "https://debian.example/y"),
    )
    assert None is not first != second is not None
    assert sent(logins, "https://security.example/z") is None


def test_netrc_is_asked_where_no_mirror_says_who_we_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine files.example login c password 3\n")
    netrc.chmod(0o600)
    logins = Logins([INDEX])
    assert sent(logins, "https://files.example/x") == "Basic Yzoz"
    assert sent(logins, "https://mirror.example:8443/x") == "Basic YW5uYTpww6Rzcw=="


def test_a_url_is_known_again_when_a_program_wrote_it_in_its_own_way() -> None:
    given = "https://anna:p%C3%A4ss@mirror.example/debian/pool/c++_1%2bb1.deb"
    printed = "https://anna:p%c3%a4ss@mirror.example/debian/pool/c%2b%2b_1+b1.deb"
    assert plain(given) == plain(printed) == "https://mirror.example/debian/pool/c++_1+b1.deb"
    assert plain(given) != plain(given.replace("mirror", "other"))
