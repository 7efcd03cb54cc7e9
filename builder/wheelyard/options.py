"""The options that every command has, and how the command line is put together."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any

from wheelyard import errors

# A command is a module in builder/commands/ with register(subparsers) and run(args, context).
COMMANDS = (
    "plan", "lock", "render", "build", "base", "inspect", "verify", "bench", "layers", "push",
    "import", "pick", "pull", "doctor", "reproduce", "audit", "clean", "upstream", "devcontainer",
    "deploy",
)  # fmt: skip

BUG = errors.UnexpectedError.exit_code  # EX_SOFTWARE of sysexits.h
BROKEN_PIPE = 128 + 13  # SIGPIPE, by its number: Windows has none

_EXAMPLES = """\
examples:
  wheelyard plan                       list every image of the matrix
  wheelyard plan cuda12.1 --json       the same, for programs, for one CUDA version
  wheelyard build pytorch-2.3          build the images of PyTorch 2.3
  wheelyard build all --index-url URL  take the wheels from a mirror

Every setting can also be given in the environment (WHEELYARD_INDEX_URL,
WHEELYARD_INDEXES, WHEELYARD_DEBIAN_MIRROR, WHEELYARD_DEBIAN_SECURITY_MIRROR,
WHEELYARD_DEBIAN_SNAPSHOT, WHEELYARD_CA_BUNDLE, WHEELYARD_CACHE, WHEELYARD_WORKERS,
WHEELYARD_TIMEOUT, WHEELYARD_REGISTRY) or in the user's config
file ($WHEELYARD_CONFIG, else wheelyard/config.toml in the user's config folder,
with keys such as index-url). An option wins over the environment, and that over
the file.

exit codes:
"""


class _Version(argparse.Action):
    """Print the version; looked up only when asked for, because the lookup reads files."""

    def __init__(self, option_strings: Sequence[str], dest: str, **_: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"wheelyard {version('wheelyard')}")
        parser.exit()


def make_parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """The parser for `argv`: only commands that occur in it are imported, all when none does."""
    parser = argparse.ArgumentParser(
        prog="wheelyard",
        description="GPU deep-learning images, assembled from wheels.",
        epilog=_EXAMPLES + exit_codes(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_global_options(parser)
    subparsers = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    for module in _modules(argv):
        module.register(subparsers)
    for command in subparsers.choices.values():
        add_global_options(command)
    return parser


def add_global_options(parser: argparse.ArgumentParser) -> None:
    """Options that mean the same before and after the command; absent unless given."""
    group = parser.add_argument_group("options of every command")

    def option(*names: str, **how: Any) -> None:
        # SUPPRESS: a default of the command's parser would undo what stood before the command.
        group.add_argument(*names, default=argparse.SUPPRESS, **how)

    option("--project", metavar="FOLDER", help="holds matrix.yaml (default: nearest above here)")
    option("--index-url", metavar="URL", help="Python index to take wheels from")
    option("--indexes", metavar="NAME=URL...", help="where the indexes are that matrix.yaml names")
    option("--debian-mirror", metavar="URL", help="Debian archive to take packages from")
    option("--debian-security-mirror", metavar="URL", help="Debian security archive")
    option("--debian-snapshot", metavar="PATTERN", help="where dropped packages are: see README")
    option("--ca-bundle", metavar="FILE", help="CAs (PEM) to trust besides the system's")
    option("--cache-dir", metavar="FOLDER", help="where downloads and layers are kept")
    option("--workers", metavar="N", help="threads and processes for CPU work (default: all CPUs)")
    option("--timeout", metavar="SECONDS", help="how long a connection may be silent (default: 60)")
    option("--registry", metavar="HOST/PREFIX", help="where images are published; http:// if so")
    option("-q", "--quiet", action="store_true", help="no progress, only warnings and errors")
    option("-v", "--verbose", action="store_true", help="show requests, and the cause of an error")
    option("--no-color", action="store_true", help="no colours (NO_COLOR does the same)")
    option("--version", action=_Version)


def exit_codes() -> str:
    """One line per exit code, from the error classes themselves."""
    rows = [(0, "Success")]
    for kind in vars(errors).values():
        bug = kind is errors.UnexpectedError  # has a line below
        if isinstance(kind, type) and issubclass(kind, errors.WheelyardError) and not bug:
            rows.append((kind.exit_code, _intent(kind)))
    rows += [
        (BUG, "A bug in wheelyard"),
        (errors.INTERRUPTED, "Interrupted (Ctrl-C, SIGTERM or SIGHUP)"),
        (BROKEN_PIPE, "Whoever read the output has gone"),
    ]
    return "\n".join(f"  {code:<4} {text}" for code, text in sorted(rows))


def _intent(kind: type[errors.WheelyardError]) -> str:
    if kind is errors.WheelyardError:
        return "Any other expected failure"
    return (kind.__doc__ or kind.__name__).strip().splitlines()[0].rstrip(".")


def _modules(argv: Sequence[str]) -> Iterable[ModuleType]:
    named = [name for name in COMMANDS if name in argv] or COMMANDS
    for name in named:
        if importlib.util.find_spec(f"wheelyard.commands.{name}") is not None:
            yield importlib.import_module(f"wheelyard.commands.{name}")
