"""`wheelyard login`: check a registry's login, and keep it where Docker and podman look."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from wheelyard.options import Command, add_json

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.oci.address import Address
    from wheelyard.registry.credentials import Credential

_EXAMPLES = """\
examples:
  wheelyard login registry.example              # asks for user and password
  wheelyard login --registry registry.example/team
  printf %s "$TOKEN" | wheelyard login registry.example \\
      --username ci --password-stdin

No engine is needed. The registry is asked first; a login that it refuses is not
kept. It is kept in Docker's config.json ($DOCKER_CONFIG, else ~/.docker), or by
the credential helper that this file names; $REGISTRY_AUTH_FILE, podman's, comes
first.
"""

COMMAND = Command(
    "log in to a registry",
    "Check a login with the registry, and keep it.",
    _EXAMPLES,
    needs_project=False,
)
_LIMIT = 1 << 16  # characters of a password; a token has some thousands


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "host", metavar="HOST", nargs="?", help="registry (default: that of --registry)"
    )
    parser.add_argument("--username", metavar="NAME", help="user (default: asked for)")
    parser.add_argument(
        "--password-stdin", action="store_true", help="read the password from standard input"
    )
    add_json(parser, "an object")


def run(args: argparse.Namespace, context: Context) -> int:
    """Ask the registry, keep the login, and say where."""
    from wheelyard.console.table import show_json
    from wheelyard.registry.client import check_login
    from wheelyard.registry.credentials import keep_credential

    address = _address(args.host, context)
    credential = _credential(args)
    check_login(address, credential, context.settings, context.reporter)
    place = keep_credential(address.host, credential)
    if args.json:
        show_json({"host": address.host, "username": credential.username, "kept": place})
    else:
        print(f"logged in to {address.host} as {credential.username}; kept by {place}")
    return 0


def _address(host: str | None, context: Context) -> Address:
    from wheelyard.errors import UsageError
    from wheelyard.oci.address import parse_address

    if host is None:
        if context.settings.registry is None:
            raise UsageError("the registry is missing: wheelyard login HOST, or --registry HOST")
        return context.settings.registry
    try:
        return parse_address(host)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _credential(args: argparse.Namespace) -> Credential:
    """Return the login from options, standard input and the terminal."""
    import getpass

    from wheelyard.errors import UsageError
    from wheelyard.registry.credentials import Credential

    if args.password_stdin:
        if args.username is None:
            raise UsageError("--password-stdin needs --username NAME")
        secret = sys.stdin.read(_LIMIT + 1).removesuffix("\n").removesuffix("\r")
    elif sys.stdin.isatty():
        args.username = args.username or input("User: ").strip()
        secret = getpass.getpass("Password: ")
    else:
        raise UsageError(
            "no terminal to ask for the password: give it by --password-stdin, never as an argument"
        )
    if not secret or len(secret) > _LIMIT or ":" in args.username or not args.username:
        raise UsageError("user or password is empty or too long, or the user's name has a colon")
    return Credential(args.username, secret)
