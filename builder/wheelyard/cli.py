"""The command line: parse, run one command, turn every outcome into an exit code."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from wheelyard import errors
from wheelyard.console.plain import fitted, plain
from wheelyard.console.streams import ReaderGoneError, fitting, plain_streams
from wheelyard.console.tasks import Reporter
from wheelyard.errors import INTERRUPTED, MachineError, ToolMissingError, UsageError, WheelyardError
from wheelyard.options import Command, add_global_options

# A command is a module in commands/ with COMMAND, add_arguments(parser) and run(args, context).
COMMANDS = (
    "plan", "lock", "render", "build", "run", "base", "inspect", "verify", "bench",
    "layers", "login", "push", "import", "pick", "pull", "doctor", "reproduce", "audit", "clean",
    "upstream", "devcontainer", "deploy", "init", "completion",
)  # fmt: skip

# httpx would import its own command line with click, rich and pygments, where there is click.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]

BUG = errors.UnexpectedError.exit_code  # EX_SOFTWARE of sysexits.h
_BROKEN_PIPE = 128 + 13  # SIGPIPE, by its number: Windows has none

_EXAMPLES = """\
examples:
  wheelyard plan                       # list every image of the matrix
  wheelyard plan cuda12.1 --json       # the same, for programs, for one CUDA version
  wheelyard build pytorch-2.3          # build the images of PyTorch 2.3
  wheelyard build all --index-url URL  # take the wheels from a mirror

Every setting can also be given in the environment (WHEELYARD_INDEX_URL,
WHEELYARD_INDEXES, WHEELYARD_DEBIAN_MIRROR, WHEELYARD_DEBIAN_SECURITY_MIRROR,
WHEELYARD_DEBIAN_SNAPSHOT, WHEELYARD_CA_BUNDLE, WHEELYARD_CACHE, WHEELYARD_WORKERS,
WHEELYARD_TIMEOUT, WHEELYARD_REGISTRY) or in the user's config
file ($WHEELYARD_CONFIG, else wheelyard/config.toml in the user's config folder,
with keys such as index-url). Options take precedence over the environment, and the
environment over the file.

exit codes:
"""

_WIDEST = 100  # columns of help: longer lines are hard to read

_MORE = "`--help-all` shows the options of every command as well."

# Commands without file locks, other programs and file owners: they also work on Windows.
_ANYWHERE = ("init", "lock", "login", "pick", "plan")
_POSIX = ("fcntl", "grp", "pwd", "resource", "termios")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Help whose paragraphs fill the width; what is indented keeps its lines if they fit."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        width = min(width, _WIDEST) - len(indent)
        paragraphs = re.sub(r"(?m)^(\S.*)\n(?=\S)", r"\1 ", text)
        return "\n".join(
            f"{indent}{line}" for line in fitted(paragraphs, width, hang=0).split("\n")
        )


class _Parser(argparse.ArgumentParser):
    """A parser whose errors name what was probably meant, without the usage of everything."""

    commands: tuple[argparse.ArgumentParser, ...] = ()  # the parsers of its commands

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        # Python 3.14 colours help; our streams show escape sequences as text (console/streams.py).
        self.color = False

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        known: list[str] = []
        word = ""
        if choice := re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message):
            word, known = choice[1], re.findall(r"[\w.-]+", choice[2])
            message = f"{choice.string[: choice.start()]}{word!r} is not one of {', '.join(known)}"
        elif option := re.search(r"unrecognized arguments: (--?[\w-]+)", message):
            word = option[1]
            texts = [parser.format_help() for parser in (self, *self.commands)]
            known = sorted(set(re.findall(r"(?<![\w-])--[a-z-]+", "".join(texts))))
        elif re.search(r"unrecognized arguments: [a-z]\w*[-:]\S*\d", message):
            message += "; several images are one word, joined by commas: A,B"
        elif missing := re.search(r"are required: (.*)", message):
            words = ", ".join(map(self._spelled, missing[1].split(", ")))
            message = f"{message[: missing.start(1)]}{words}"
        near = difflib.get_close_matches(word, known, 2)
        if near and choice:
            message = f"{choice.string[: choice.start()]}{word!r} does not exist"
        meant = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UsageError(f"{message}{meant}\n`{self.prog} --help` lists what there is")

    def _spelled(self, name: str) -> str:
        """Return an argument's name, or its choices if it is a choice of words."""
        found = (x for x in self._actions if x.dest == name and x.metavar is None and x.choices)
        return next((" or ".join(map(str, action.choices or ())) for action in found), name)


def make_parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser for `argv`; import only commands that occur in it, all if none does."""
    parser = _Parser(
        prog="wheelyard",
        description="GPU deep-learning images, assembled from wheels.",
        epilog=_EXAMPLES + exit_codes(),
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    add_global_options(parser)
    subparsers = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    for name in [name for name in COMMANDS if name in argv] or COMMANDS:
        module = importlib.import_module(f"wheelyard.commands.{name}")
        command: Command = module.COMMAND
        subparser = subparsers.add_parser(
            name,
            help=command.summary,
            description=command.description,
            epilog=f"{command.examples}\n{_MORE}",
            formatter_class=_Formatter,
        )
        module.add_arguments(subparser)
        subparser.set_defaults(run=module.run, needs_project=command.needs_project)
        add_global_options(subparser, shown="--help-all" in argv)
        parser.commands += (subparser,)
    return parser


def complete(line: str) -> None:
    """Answer a shell that completes `line`, and end this process."""
    import argcomplete

    # Options are many: they are offered after a dash alone.
    argcomplete.autocomplete(make_parser(line.split()), always_complete_options=False)


def exit_codes() -> str:
    """Return one line per exit code, from the error classes."""
    rows = [(0, "Success")]
    for kind in vars(errors).values():
        bug = kind is errors.UnexpectedError  # has a line below
        if isinstance(kind, type) and issubclass(kind, errors.WheelyardError) and not bug:
            rows.append((kind.exit_code, _intent(kind)))
    rows += [
        (BUG, "A bug in wheelyard"),
        (errors.INTERRUPTED, "Interrupted (Ctrl-C, SIGTERM or SIGHUP)"),
        (_BROKEN_PIPE, "The reader of the output has gone"),
    ]
    return "\n".join(f"  {code:<4} {text}" for code, text in sorted(rows))


def _intent(kind: type[errors.WheelyardError]) -> str:
    if kind is errors.WheelyardError:
        return "Any other expected failure"
    return (kind.__doc__ or kind.__name__).strip().splitlines()[0].rstrip(".")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code (0, the error's own, 70 for a bug, 130)."""
    if argv is None and "_ARGCOMPLETE" in os.environ:  # set by the shell's function
        complete(os.environ.get("COMP_LINE", ""))
    argv = sys.argv[1:] if argv is None else list(argv)
    with plain_streams(), _umask():
        return _main(argv, verbose="-v" in argv or "--verbose" in argv)


def _main(argv: Sequence[str], *, verbose: bool) -> int:
    try:
        with _terminated_like_interrupted():
            code = _run(argv)
            sys.stdout.flush()  # here, where a closed pipe can be distinguished from a bug
    except KeyboardInterrupt:
        _say("interrupted; completed work is kept, run the command again to continue")
        return INTERRUPTED
    except ReaderGoneError:
        _drop_stdout()
        return _BROKEN_PIPE
    except WheelyardError as error:
        return _failed(error, verbose)
    except OSError as error:
        return _storage_failure(error, verbose)
    except MemoryError as error:
        return _failed(_no_memory(error), verbose)
    except Exception:  # noqa: BLE001 - the last resort, and it shows all it has
        return _bug()
    return code


def _run(argv: Sequence[str]) -> int:
    try:
        args = make_parser(argv).parse_args(argv)
    except SystemExit as stop:  # --help, --version, or a usage error that argparse has printed
        return stop.code if isinstance(stop.code, int) else 2
    if args.command is None:
        raise UsageError("no command given; `wheelyard --help` lists them")
    if not hasattr(os, "geteuid") and args.command not in _ANYWHERE:
        raise _elsewhere(args.command)
    # httpx imports its own command line where click and rich are installed: a tenth of a second.
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
    # Imported here: `--help` and usage errors do not need them.
    from wheelyard.console.progress import make_reporter
    from wheelyard.console.table import set_wide
    from wheelyard.context import Context
    from wheelyard.settings import load_settings

    given = vars(args)
    settings = load_settings(given, needs_project=given.get("needs_project", True))
    reporter = make_reporter(
        "quiet" if given.get("quiet") else "auto", sys.stderr, color=not given.get("no_color")
    )
    set_wide(bool(given.get("wide")))
    log = _log_to(reporter) if given.get("verbose") else contextlib.nullcontext()
    with contextlib.closing(reporter), log:
        try:
            context = Context(settings, reporter)
            if given.get("needs_project"):
                context.mention_packaged()
            code: int = args.run(args, context)
        except ModuleNotFoundError as missing:
            if missing.name not in _POSIX:
                raise
            raise _elsewhere(args.command) from missing
        return code


def _elsewhere(command: str) -> ToolMissingError:
    return ToolMissingError(
        f"`wheelyard {command}` cannot do this on {sys.platform}: it locks files and runs programs "
        "as Linux does; run it in WSL (wsl --install -d Debian) or on a Linux machine. Here "
        f"{', '.join(sorted(_ANYWHERE))} work"
    )


@contextlib.contextmanager
def _log_to(reporter: Reporter) -> Iterator[None]:
    """Send the package's debug log through `reporter`, so that it does not break the bars."""
    import logging

    class _Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            reporter.info(self.format(record))

    logger, handler = logging.getLogger("wheelyard"), _Handler()
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)


@contextlib.contextmanager
def _umask() -> Iterator[None]:
    """Make written files writable by nobody else; a umask that shares with a group stays."""
    before = os.umask(0o077)
    os.umask(before if before & 0o002 else before | 0o022)
    try:
        yield
    finally:
        os.umask(before)


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Handle SIGTERM and SIGHUP like Ctrl-C: nothing is left locked or running.

    A second signal does not disturb the first, however late it arrives: a closing terminal sends
    several. SIGHUP stays ignored if it was, which is what nohup is for.
    """
    if threading.current_thread() is not threading.main_thread():  # a library use of main()
        yield
        return
    before = {
        number: signal.getsignal(number)
        for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))  # not Windows
        if signal.getsignal(number) != signal.SIG_IGN
    }

    ending = False

    def interrupt(_signal: int, _frame: object) -> NoReturn:
        nonlocal ending
        ending = True
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            if not ending:
                signal.signal(number, handler or signal.SIG_DFL)


def _failed(error: WheelyardError, verbose: bool) -> int:
    if verbose:
        traceback.print_exception(error)
    _say(f"error: {error}")
    _flush_stdout()
    return error.exit_code


def _storage_failure(error: OSError, verbose: bool) -> int:
    from wheelyard.system.storage import is_known, storage_error

    if not is_known(error):
        return _bug()
    wrapped = storage_error(error)
    wrapped.__cause__ = error
    return _failed(wrapped, verbose)


def _no_memory(error: MemoryError) -> MachineError:
    wrapped = MachineError(
        "out of memory; run again with --workers 1, or give this process more memory"
    )
    wrapped.__cause__ = error
    return wrapped


def _bug() -> int:
    traceback.print_exc()
    _say("this is a bug in wheelyard; please report it with the lines above")
    return BUG


def _say(message: str) -> None:
    """Write a line to stderr; without stderr, the run still ends with its exit code."""
    print(fitting(plain(message), sys.stderr), file=sys.stderr, flush=True)


def _flush_stdout() -> None:
    """Show what was written before an error; a failure was reported or does not matter."""
    try:
        sys.stdout.flush()
    except (OSError, WheelyardError):
        _drop_stdout()


def _drop_stdout() -> None:
    """Redirect the interpreter's own flush at exit, so that it does not fail again."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
