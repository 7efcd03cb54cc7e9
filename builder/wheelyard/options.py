"""What every command declares, and the options that commands share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Command:
    """What `--help` says about a command, and whether it needs a project."""

    summary: str
    description: str
    examples: str
    needs_project: bool = True


def add_selector(parser: argparse.ArgumentParser, **how: Any) -> None:
    """Add the argument that selects images; with a default it is optional."""
    how |= {"nargs": "?"} if "default" in how else {}
    how = {"help": "see `wheelyard plan --help`"} | how
    completed(parser.add_argument("selector", metavar="SELECTOR", **how))


def completed(action: argparse.Action) -> None:
    """Let shells complete the names of images here."""
    action.completer = _image_names  # type: ignore[attr-defined]  # where argcomplete looks


def _image_names(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    """Return what continues `prefix`; nothing without a project that can be read."""
    from wheelyard.errors import WheelyardError
    from wheelyard.planning.plan import load_plan
    from wheelyard.planning.selector import continuations
    from wheelyard.settings import find_project

    try:
        project = find_project(Path.cwd(), getattr(parsed_args, "project", None))
        return continuations(load_plan(project), prefix)
    except (WheelyardError, OSError):
        return []


def add_output(
    parser: argparse.ArgumentParser, what: str, folder: str = "dist", option: str = "--output"
) -> None:
    """Add the folder of an image layout."""
    parser.add_argument(option, type=Path, default=Path(folder), help=f"{what} (default: {folder})")


def add_load(parser: argparse.ArgumentParser, what: str = "load into the Docker Engine") -> None:
    """Add --load and --no-load; None if neither is given."""
    parser.add_argument(
        "--load", action=argparse.BooleanOptionalAction, help=f"{what} (default: if one answers)"
    )


def port(text: str) -> int:
    """Parse the number of a port."""
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: write a number from 1 to 65535")
    return int(text)


def add_bytecode(parser: argparse.ArgumentParser) -> None:
    """Add --bytecode, of a user's own project."""
    parser.add_argument(
        "--bytecode",
        action="store_true",
        help="in a project: compile its wheels with the base's Python, so that containers start "
        "faster; slow the first time, and its lowest layer is fetched",
    )


def add_json(parser: argparse.ArgumentParser, what: str = "a list of objects") -> None:
    """Add --json: output for programs."""
    parser.add_argument("--json", action="store_true", help=f"print {what}")


def add_advisories(parser: argparse.ArgumentParser, action: str = "") -> None:
    """Add a file of known vulnerabilities."""
    told = f"{action}vulnerabilities of the wheels, in OSV's format (JSON, or a zip of it)"
    parser.add_argument("--advisories", metavar="FILE|URL", help=told)


def add_verify_key(parser: argparse.ArgumentParser, use: str) -> None:
    """Add the public keys, one of which must have signed."""
    parser.add_argument(
        "--verify-key", type=Path, action="append", default=[], metavar="FILE", help=use
    )


def refusing(what: str) -> str:
    """Describe the effect of --verify-key on `what`."""
    return (
        f"refuse {what} not signed with this key (PEM, such as cosign.pub); if repeated, "
        "one of the keys suffices"
    )


def add_verify_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of every command that takes something from a registry."""
    add_verify_key(parser, refusing("a catalogue and an image"))
    parser.add_argument(
        "--signed-as",
        metavar="HOST/PREFIX",
        help="address where the images were signed, if this registry has copies",
    )


def add_global_options(parser: argparse.ArgumentParser, *, shown: bool = True) -> None:
    """Add the options that are allowed before and after the command; absent unless given."""
    group = parser.add_argument_group("options of every command" if shown else None)

    def option(*names: str, **how: Any) -> None:
        # SUPPRESS: a default of the command's parser would undo options before the command.
        how |= {} if shown else {"help": argparse.SUPPRESS}
        group.add_argument(*names, default=argparse.SUPPRESS, **how)

    option(
        "--project",
        metavar="FOLDER",
        help="folder of matrix.yaml (default: this or the nearest above)",
    )
    option("--index-url", metavar="URL", help="Python index to take wheels from")
    option("--indexes", metavar="NAME=URL...", help="URLs of the indexes that matrix.yaml names")
    option("--debian-mirror", metavar="URL", help="Debian archive to take packages from")
    option("--debian-security-mirror", metavar="URL", help="Debian security archive")
    option(
        "--debian-snapshot", metavar="PATTERN", help="archive of old packages; see docs/mirrors.md"
    )
    option("--ca-bundle", metavar="FILE", help="additional CAs to trust (PEM)")
    option("--cache-dir", metavar="FOLDER", help="folder of downloads and layers")
    option("--workers", metavar="N", help="threads and processes for CPU work (default: all CPUs)")
    option("--timeout", metavar="SECONDS", help="longest silence of a connection (default: 60)")
    option(
        "--registry",
        metavar="HOST/PREFIX",
        help="registry of the images; prefix http:// without TLS",
    )
    option("-q", "--quiet", action="store_true", help="no progress, only warnings and errors")
    option("-v", "--verbose", action="store_true", help="show requests and the causes of errors")
    option("--wide", action="store_true", help="print every column of a table on a terminal")
    option("--no-color", action="store_true", help="no colours (like NO_COLOR)")
    option("--help-all", action=_HelpAll)
    option("--version", action=_Version)


class _HelpAll(argparse.Action):
    """Print the help with the options of every command."""

    def __init__(self, option_strings: Sequence[str], dest: str, **how: Any) -> None:
        told = how.get("help") or "show this help with the options of every command"
        super().__init__(option_strings, dest, nargs=0, help=told)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        parser.print_help()
        parser.exit()


class _Version(argparse.Action):
    """Print version and revision; looked up only when needed, because git may be asked."""

    def __init__(self, option_strings: Sequence[str], dest: str, **how: Any) -> None:
        told = how.get("help") or "print version and revision, and exit"
        super().__init__(option_strings, dest, nargs=0, help=told)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from wheelyard.system.distribution import version_line

        print(f"wheelyard {version_line()}")
        parser.exit()
