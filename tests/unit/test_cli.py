"""The command line as a user meets it: its output, its exit code, and real processes of it."""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from wheelyard import __version__, cli, errors
from wheelyard.context import Context
from wheelyard.options import Command

ROOT = Path(__file__).parents[2]
Run = Callable[[argparse.Namespace, Context], int]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "matrix.yaml").write_text("{}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, project: Path) -> Callable[[Run], None]:
    """Put one command, `probe`, in place of the real ones."""

    def install(run: Run) -> None:
        module = types.ModuleType("wheelyard.commands.probe")
        command = Command("for this test", "", "")
        vars(module).update(COMMAND=command, add_arguments=lambda parser: None, run=run)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(cli, "COMMANDS", ("probe",))

    return install


def failing(error: BaseException) -> Run:
    def run(args: argparse.Namespace, context: Context) -> int:
        raise error

    return run


def wheelyard(*argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "wheelyard", *argv]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


def test_help_documents_examples_and_exit_codes() -> None:
    done = wheelyard("--help")
    assert done.returncode == 0
    assert done.stderr == ""
    assert "examples:" in done.stdout
    for kind in errors.WheelyardError.__subclasses__():
        assert f"\n  {kind.exit_code:<4} " in done.stdout, kind


def test_exit_codes_are_distinct() -> None:
    codes = [line.split()[0] for line in cli.exit_codes().splitlines()]
    assert len(codes) == len(set(codes))


def test_version_and_revision(tmp_path: Path) -> None:
    """In a checkout git says it; without git or a checkout the version is there all the same."""
    git = shutil.which("git") or "/bin/false"
    said = wheelyard("--version").stdout
    argv = [git, "-C", str(ROOT), "rev-parse", "HEAD"]
    head = subprocess.run(argv, capture_output=True, text=True, check=False)
    if head.returncode == 0:  # not where the checkout is another user's, as in CI's containers
        known = rf" \(revision {head.stdout[:12]}(-dirty)?\)"
        assert re.fullmatch(rf"wheelyard {__version__}{known}\n", said)
    else:
        assert said == f"wheelyard {__version__}\n"
    lone = tmp_path / "site-packages"
    leave_out = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "builder" / "wheelyard", lone / "wheelyard", ignore=leave_out)

    def alone(**environ: str) -> str:
        argv = [sys.executable, "-c", "from wheelyard.cli import main; main(['--version'])"]
        env = os.environ | {"PYTHONPATH": str(lone)} | environ
        done = subprocess.run(argv, capture_output=True, text=True, check=True, env=env)
        assert done.stderr == ""
        return done.stdout

    assert alone() == f"wheelyard {__version__}\n"
    (tmp_path / ".git").mkdir()
    assert alone(PATH="/nonexistent") == f"wheelyard {__version__}\n"
    (tmp_path / "builder").mkdir()  # as in a checkout, damaged, with and without git
    lone.rename(tmp_path / "builder" / "site")
    (lone := tmp_path / "builder" / "site").joinpath("wheelyard").rename(lone.parent / "wheelyard")
    lone = tmp_path / "builder"
    assert alone() == f"wheelyard {__version__}\n"
    assert alone(PATH="/nonexistent") == f"wheelyard {__version__}\n"
    (lone / "wheelyard" / "data" / "revision.txt").write_text("0123abcd\n")
    assert alone() == f"wheelyard {__version__} (revision 0123abcd)\n"


# A command here reports nothing that a program could read.
WITHOUT_JSON = {
    "run": "it becomes the program that it starts, and the output is that program's",
    "completion": "it prints a script for a shell",
}


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_that_reports_does_so_for_programs(name: str) -> None:
    module = importlib.import_module(f"wheelyard.commands.{name}")
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    options = {option for action in parser._actions for option in action.option_strings}
    assert ("--json" in options) != (name in WITHOUT_JSON)


def test_every_command_is_listed() -> None:
    folder = Path(cli.__file__).parent / "commands"
    assert {path.stem for path in folder.glob("[!_]*.py")} == set(cli.COMMANDS)
    assert set(WITHOUT_JSON) <= set(cli.COMMANDS)


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (["clean", "--cache-dir", "cache"], {"part", "bytes", "removed"}),
        (["render", "--check"], None),
        (["plan", "--explain", "pytorch-2.3.1-cuda11.8"], {"id", "explanation"}),
        (["deploy", "pytorch:2.3.1", "--kind", "compose"], {"image", "command", "files", "notes"}),
        (["devcontainer", "feature"], {"folder"}),
        (["devcontainer", "init"], {"file", "image", "reason", "next"}),
    ],
)
def test_json_is_all_that_is_printed(
    words: list[str], keys: set[str] | None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = ["--output", str(tmp_path)] if words[0] in ("deploy", "devcontainer") else []
    if words[0] == "clean":
        words = [*words[:2], str(tmp_path / "cache")]
    code = cli.main(["--project", str(ROOT), *words, *output, "--json"])
    out, err = capfd.readouterr()
    assert code == 0, err
    found = json.loads(out)
    first = found[0] if isinstance(found, list) and found else found
    assert first == [] if keys is None else set(first) == keys


def test_no_command_and_unknown_command_are_usage_errors() -> None:
    nothing, unknown = wheelyard(), wheelyard("fly")
    assert (nothing.returncode, unknown.returncode) == (2, 2)
    assert nothing.stderr == "error: no command given; `wheelyard --help` lists them\n"
    assert "'fly' is not one of plan, lock," in unknown.stderr
    assert unknown.stderr.endswith("`wheelyard --help` lists what there is\n")
    assert nothing.stdout == unknown.stdout == ""


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["bild"], "'bild' does not exist; did you mean build?"),
        (["build", "--ouput", "x", "all"], "did you mean --output"),
        (["build", "all", "--engine", "dokcer"], "'dokcer' does not exist; did you mean docker?"),
        (["plan", "pytorch-2.3.1", "jax-0.12"], "several images are one word, joined by commas"),
        (["plan", "pytroch-2.3"], "did you mean pytorch-2.3?"),
        (["plan", "pytorch-2.3-cuda12.1-devle"], "did you mean pytorch-2.3-cuda12.1-devel?"),
    ],
)
def test_what_was_probably_meant(
    words: list[str], meant: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["--project", str(ROOT), *words]) in (2, 4)
    err = capfd.readouterr().err
    assert meant in err
    assert "usage:" not in err
    assert len(err.splitlines()) <= 3


def test_a_command_s_help_has_its_own_options() -> None:
    own, whole = wheelyard("plan", "--help"), wheelyard("plan", "--help-all")
    assert "--index-url" not in own.stdout
    assert "--help-all" in own.stdout
    assert "--index-url URL" in whole.stdout


def pasted(lines: list[str], home: Path) -> list[list[str]]:
    """What bash calls, given these lines; programs do nothing and are noted."""
    calls = home / "calls"
    calls.write_text("")
    for name in ("wheelyard", "docker"):
        noted = f'printf "%s\\t" {name} "$@" >> {calls}; echo >> {calls}'
        (home / name).write_text(f"#!/bin/sh\n{noted}\n")
        (home / name).chmod(0o755)
    done = subprocess.run(
        ["/bin/bash", "-e"], input="\n".join(lines), cwd=home, check=False, text=True,
        env={"PATH": str(home), "HOME": str(home)}, capture_output=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return [line.split("\t")[:-1] for line in calls.read_text().splitlines()]


@pytest.mark.parametrize("columns", ["80", "120"])
def test_the_examples_of_help_can_be_pasted(
    columns: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    (tmp_path / "mkdir").symlink_to(shutil.which("mkdir") or "/bin/mkdir")
    parser = cli.make_parser(())
    (commands,) = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    for name, command in {"": parser, **commands.choices}.items():
        shown = command.format_help().split("\nexamples:\n")[1].split("\nexit codes:\n")[0]
        lines = [line for line in shown.split("\n") if line.startswith("  ")]
        # What a program would take as arguments of its own is seen here.
        assert [line for line in lines if re.search(r"\S {2,}[^#\s]", line)] == []
        calls = [words for program, *words in pasted(lines, tmp_path) if program == "wheelyard"]
        assert name in {"", *(words[0] for words in calls)}
        for words in calls:
            parser.parse_args(words)


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; from wheelyard.cli import main; main(['--help']); "
        "print(sorted({'httpx', 'docker', 'rich', 'jinja2', 'ssl', 'isal', 'pydantic'}"
        " & set(sys.modules)), file=sys.stderr)"
    )
    argv = [sys.executable, "-c", script]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


def test_httpx_comes_without_its_own_command_line() -> None:
    """It imports that wherever click is installed, as beside developers' tools."""
    script = (
        "import sys, wheelyard.cli, httpx; httpx.Client().close(); "
        "print(sorted({'click', 'pygments', 'rich'} & set(sys.modules)))"
    )
    argv = [sys.executable, "-c", script]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert find_spec("click") is not None
    assert done.stdout == "[]\n"


def test_every_existing_command_shares_the_global_options() -> None:
    parser = cli.make_parser(["--help-all"])
    (commands,) = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    assert set(commands.choices) == set(cli.COMMANDS)
    for name, command in commands.choices.items():
        text = command.format_help()
        assert "--index-url URL" in text, name
        assert "--project FOLDER" in text, name


def test_only_the_named_command_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    real = importlib.import_module

    def note(name: str) -> types.ModuleType:
        seen.append(name)
        return real(name)

    monkeypatch.setattr("importlib.import_module", note)
    cli.make_parser(["--quiet", "lock", "all"])
    assert seen == ["wheelyard.commands.lock"]
    cli.make_parser(["--help"])
    assert len(seen) == 1 + len(cli.COMMANDS)


def test_a_command_without_its_module_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "COMMANDS", ("plan", "missing"))
    with pytest.raises(ModuleNotFoundError, match=r"wheelyard\.commands\.missing"):
        cli.make_parser(["--help"])


@pytest.mark.parametrize("argv", [["--workers", "3", "probe"], ["probe", "--workers", "3"]])
def test_global_options_before_and_after_the_command(
    command: Callable[[Run], None], project: Path, argv: list[str]
) -> None:
    seen: list[Context] = []

    def run(args: argparse.Namespace, context: Context) -> int:
        seen.append(context)
        return 0

    command(run)
    assert cli.main(argv) == 0
    assert seen[0].settings.workers == 3
    assert seen[0].settings.project == project


def test_expected_error_is_one_line_and_its_own_code(
    command: Callable[[Run], None], capsys: pytest.CaptureFixture[str]
) -> None:
    command(
        failing(errors.LockError("images/x/requirements.lock is missing; run `wheelyard lock`"))
    )
    assert cli.main(["probe"]) == errors.LockError.exit_code
    out, err = capsys.readouterr()
    assert (out, err) == (
        "",
        "error: images/x/requirements.lock is missing; run `wheelyard lock`\n",
    )


def test_verbose_shows_where_an_error_came_from(
    command: Callable[[Run], None], capsys: pytest.CaptureFixture[str]
) -> None:
    command(failing(errors.LockError("stale")))
    assert cli.main(["probe", "-v"]) == errors.LockError.exit_code
    assert "Traceback" in capsys.readouterr().err


def test_verbose_log_ends_with_the_run(
    command: Callable[[Run], None], capsys: pytest.CaptureFixture[str]
) -> None:
    log = logging.getLogger("wheelyard.fetching.transport")

    def run(args: argparse.Namespace, context: Context) -> int:
        log.debug("GET something")
        return 0

    command(run)
    for argv in (["probe", "-v"], ["probe"]):
        cli.main(argv)
    assert capsys.readouterr().err == "GET something\n"


def test_settings_errors_come_before_the_command(
    command: Callable[[Run], None], capsys: pytest.CaptureFixture[str]
) -> None:
    command(failing(AssertionError("the command ran")))
    assert cli.main(["probe", "--workers", "0", "--timeout", "x"]) == errors.SettingsError.exit_code
    err = capsys.readouterr().err
    assert "--workers: '0'" in err
    assert "--timeout: 'x'" in err


def test_no_project(
    command: Callable[[Run], None],
    capsys: pytest.CaptureFixture[str],
    project: Path,
) -> None:
    command(failing(AssertionError("the command ran")))
    (project / "matrix.yaml").unlink()
    assert cli.main(["probe", "--project", str(project)]) == errors.UsageError.exit_code
    assert "has no matrix.yaml" in capsys.readouterr().err


def test_bug_keeps_its_traceback(
    command: Callable[[Run], None], capsys: pytest.CaptureFixture[str]
) -> None:
    command(failing(ZeroDivisionError("a bug")))
    assert cli.main(["probe"]) == 70
    err = capsys.readouterr().err
    assert "ZeroDivisionError: a bug" in err
    assert "this is a bug in wheelyard" in err


def test_full_disk_is_a_storage_error(
    command: Callable[[Run], None], capsys: pytest.CaptureFixture[str]
) -> None:
    def run(args: argparse.Namespace, context: Context) -> int:
        with Path("/dev/full").open("w") as full:
            full.write("x")
        return 0

    command(run)
    assert cli.main(["probe"]) == errors.StorageError.exit_code
    assert "no space left; make room" in capsys.readouterr().err


def test_missing_permission_is_a_storage_error(
    command: Callable[[Run], None], capsys: pytest.CaptureFixture[str]
) -> None:
    command(failing(PermissionError(13, "Permission denied", "/srv/cache")))
    assert cli.main(["probe"]) == errors.StorageError.exit_code
    assert "error: /srv/cache: Permission denied; make it writable" in capsys.readouterr().err


NOTHING_GOES = "/proc/none"  # mkdir answers ENOENT there, for root as well
TO_FOLDERS = (
    "build pytorch-2.3 --no-load --output",
    "build pytorch-2.3 --no-load --cache-dir",
    "base pytorch-2.3-runtime --cache-dir",
    "lock pytorch-2.3-runtime --cache-dir",
    "upstream refresh --cache-dir",
    "deploy pytorch:2.3.1 --kind compose --output",
    "devcontainer init --framework pytorch --output",
    "devcontainer feature --output",
)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
@pytest.mark.parametrize("words", TO_FOLDERS)
def test_a_folder_that_cannot_be_made_is_named_with_what_to_do(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if words.startswith("base"):  # it asks for an engine, which this process may not
        done = wheelyard(*words.split(), NOTHING_GOES)
        code, said = done.returncode, done.stderr
    else:
        code = cli.main([*words.split(), NOTHING_GOES])
        said = capsys.readouterr().err
    assert code == errors.StorageError.exit_code, said
    assert NOTHING_GOES in said
    assert "choose another folder: --cache-dir" in said
    assert words.split()[-1] in said


def test_too_little_memory_is_no_bug(
    command: Callable[[Run], None], capsys: pytest.CaptureFixture[str]
) -> None:
    command(failing(MemoryError()))
    assert cli.main(["probe"]) == errors.MachineError.exit_code
    assert "error: out of memory; run again with --workers 1" in capsys.readouterr().err


def test_a_connection_that_breaks_is_not_a_reader_that_is_gone(
    command: Callable[[Run], None],
) -> None:
    command(failing(BrokenPipeError(32, "Broken pipe")))
    assert cli.main(["probe"]) == cli.BUG


def test_other_system_errors_are_bugs(command: Callable[[Run], None]) -> None:
    command(failing(FileNotFoundError(2, "No such file or directory", "x")))
    assert cli.main(["probe"]) == 70


CHILD = """
import signal, sys, time, types
from wheelyard import cli
from wheelyard.options import Command
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which children of nohup ignore
def run(args, context):
    with context.reporter.task("work", None, "items"):
        print("started", flush=True)
        time.sleep(20)
module = sys.modules["wheelyard.commands.probe"] = types.ModuleType("probe")
vars(module).update(COMMAND=Command("", "", ""), add_arguments=lambda parser: None, run=run)
cli.COMMANDS = ("probe",)
sys.exit(cli.main(["probe"]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupt(project: Path, number: signal.Signals) -> None:
    argv = [sys.executable, "-c", CHILD]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "started\n"
        child.send_signal(number)
        _, err = child.communicate(timeout=10)
    assert child.returncode == errors.INTERRUPTED
    assert "interrupted; completed work is kept" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("argument", ["probe", "--help"])
def test_closed_pipe_is_quiet(project: Path, argument: str, unbuffered: str) -> None:
    leader, follower = os.pipe()
    os.close(leader)
    child = CHILD.replace("time.sleep(20)", "return 0").replace('"probe"]', f'"{argument}"]')
    done = subprocess.run(
        [sys.executable, "-c", child],
        stdout=follower,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )
    os.close(follower)
    swallowed_by_argparse = argument == "--help" and unbuffered
    assert done.returncode == (0 if swallowed_by_argparse else 141)
    assert "rror" not in done.stderr


def test_a_missing_word_is_named_by_what_it_may_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["upstream"]) == errors.UsageError.exit_code
    assert "are required: refresh or check\n" in capsys.readouterr().err


def test_an_output_folder_that_cannot_be_written_names_its_option(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["build", "pytorch:2.3", "--no-load", "--output", "/sys/x", "--project", str(ROOT)]
    assert cli.main(words) == errors.StorageError.exit_code
    assert "--output for images" in capsys.readouterr().err


def test_every_argument_says_what_it_is_for() -> None:
    parser = cli.make_parser(())
    (commands,) = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    arguments = [(name, a) for name, one in commands.choices.items() for a in one._actions]
    assert len(arguments) > 100
    assert [(name, a.dest) for name, a in arguments if not a.help] == []
