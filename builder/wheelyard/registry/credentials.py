"""Logins for registries: Docker's config.json and credential helpers, podman's auth.json.

They are read from all of these, and written where Docker itself would write them.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wheelyard.errors import SettingsError, StorageError, ToolMissingError
from wheelyard.oci.address import HUB, HUB_LOGIN
from wheelyard.system.subprocesses import run
from wheelyard.system.textfiles import write_text

# A credential helper's answer in place of a user name for an identity token:
# docker-credential-helpers, credentials/credentials.go.
_TOKEN_USER = "<token>"  # noqa: S105 - a marker, not a secret


@dataclass(frozen=True, slots=True)
class Credential:
    """A login; its repr shows no secret."""

    username: str
    secret: str = field(repr=False)

    @property
    def is_identity_token(self) -> bool:
        """Whether `secret` is a refresh token (OAuth2) instead of a password."""
        return self.username == _TOKEN_USER


def find_credential(
    host: str, repository: str, environ: Mapping[str, str] = os.environ
) -> Credential | None:
    """Return the login for a repository from the first file that has one; None: anonymous.

    Raises SettingsError for a file that cannot be read, and ToolMissingError for a missing helper
    if no other file has a login.
    """
    missing = None
    for path in _config_files(environ):
        config = _read(path)
        try:
            if config is not None and (credential := _in_config(config, host, repository)):
                return credential
        except ToolMissingError as error:
            missing = error
    if missing is not None:
        raise missing
    return None


def keep_credential(
    host: str, credential: Credential, environ: Mapping[str, str] = os.environ
) -> str:
    """Keep the login of a registry; return where: a file, or the name of a credential helper.

    A helper that config.json names gets it by a pipe. Otherwise it goes into that file, which only
    the user can read. Raises SettingsError and ToolMissingError.
    """
    files = _config_files(environ)
    if not files:
        raise SettingsError("this user has no home folder: set DOCKER_CONFIG to a folder")
    path = files[0].resolve()  # the file may be a link
    config = {**(_read(path) or {})}
    name = HUB_LOGIN if host == HUB else host
    helpers = config.get("credHelpers") or {}
    if helper := helpers.get(name) or helpers.get(host) or config.get("credsStore"):
        login = {"ServerURL": name, "Username": credential.username, "Secret": credential.secret}
        program = f"docker-credential-{helper}"
        result = run([program, "store"], error=None, stdin=json.dumps(login), timeout=60)
        if result.returncode:
            raise SettingsError(
                f"{program} did not keep the login (exit code {result.returncode}); repair it, or "
                f"take it out of {path}"
            )
        return program
    pair = f"{credential.username}:{credential.secret}".encode()
    entry = {"auth": base64.b64encode(pair).decode()}
    config["auths"] = {**(config.get("auths") or {}), name: entry}
    try:
        if not path.parent.exists():
            path.parent.mkdir(mode=0o700, parents=True)
        write_text(path, json.dumps(config, indent="\t") + "\n", 0o600)
    except (OSError, StorageError) as error:
        why = getattr(error.__cause__ or error, "strerror", None) or error
        raise SettingsError(
            f"the login is not kept: {path}: {why}; set DOCKER_CONFIG to a folder that takes files"
        ) from error
    return str(path)


def _config_files(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the files with logins, in order of precedence."""
    docker = environ.get("DOCKER_CONFIG")
    places = [Path(docker) / "config.json"] if docker else []
    if not docker:
        with suppress(RuntimeError):  # a user without a home has no login there
            home = Path(environ.get("HOME") or Path.home())
            places.append(home / ".docker/config.json")
    if environ.get("REGISTRY_AUTH_FILE"):
        places.insert(0, Path(environ["REGISTRY_AUTH_FILE"]))
    if environ.get("XDG_RUNTIME_DIR"):
        places.append(Path(environ["XDG_RUNTIME_DIR"]) / "containers/auth.json")
    return tuple(places)


def _read(path: Path) -> Mapping[str, Any] | None:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(f"{path} is not JSON; log in again with `wheelyard login`") from error
    return config if isinstance(config, dict) else None


def _in_config(config: Mapping[str, Any], host: str, repository: str) -> Credential | None:
    """Prefer a helper for this host to the entry, and the entry to the helper for all hosts."""
    helpers, auths = config.get("credHelpers") or {}, config.get("auths") or {}
    name = HUB_LOGIN if host == HUB else host
    for key in (name, host):
        if key in helpers:
            return _ask_helper(str(helpers[key]), name)
    for key in _keys(host, repository):
        if (credential := _entry(auths.get(key))) is not None:
            return credential
    store = config.get("credsStore")
    return _ask_helper(str(store), name) if store else None


def _keys(host: str, repository: str) -> Iterator[str]:
    """List possible keys: podman's may include part of the repository, Docker's may be URLs."""
    if host == HUB:
        yield HUB_LOGIN
    parts = repository.split("/")
    for end in range(len(parts), 0, -1):
        yield f"{host}/{'/'.join(parts[:end])}"
    yield from (host, f"https://{host}", f"https://{host}/v1/", f"https://{host}/v2/")


def _entry(entry: object) -> Credential | None:
    if not isinstance(entry, dict):
        return None
    if entry.get("identitytoken"):
        return Credential(_TOKEN_USER, str(entry["identitytoken"]))
    if entry.get("auth"):
        try:
            text = base64.b64decode(str(entry["auth"]), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise SettingsError(
                "a login in Docker's config.json is damaged; log in again with `wheelyard login`"
            ) from None
        name, _, secret = text.rstrip("\0").partition(":")
        return Credential(name, secret)
    if entry.get("username"):
        return Credential(str(entry["username"]), str(entry.get("password") or ""))
    return None


def _ask_helper(name: str, host: str) -> Credential | None:
    """Ask `docker-credential-NAME`; host and secret pass through pipes only."""
    result = run([f"docker-credential-{name}", "get"], error=None, stdin=host, timeout=60)
    said = f"{result.stdout}{result.stderr}"
    if "credentials not found" in said:
        return None
    try:
        answer = json.loads(result.stdout)
        return Credential(str(answer["Username"]), str(answer["Secret"]))
    except (ValueError, KeyError, TypeError):
        # Its output is not shown: it may be the secret.
        raise SettingsError(
            f"docker-credential-{name} did not return a login for {host} (exit code "
            f"{result.returncode}); "
            f"try `wheelyard login {host}`"
        ) from None
