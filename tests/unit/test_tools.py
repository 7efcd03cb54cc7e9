"""Programs we start, tools we need, text files we write, certificates we trust."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from locking import Quiet, make_settings

from wheelyard.errors import (
    BaseImageError,
    LockError,
    SettingsError,
    StorageError,
    ToolMissingError,
)
from wheelyard.fetching.trust import trust_file
from wheelyard.system.subprocesses import run
from wheelyard.system.textfiles import write_text
from wheelyard.system.tools import TOOLS, install_argv, may_install, missing_message, require_tool

UBUNTU = 'NAME="Ubuntu"\nID=ubuntu\nID_LIKE=debian\n'


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_program_gives_its_output_and_takes_input_and_environment() -> None:
    code = "import os, sys; print(sys.stdin.read() + os.environ['X'])"
    assert run(python(code), error=LockError, stdin="a", env={"X": "b"}).stdout == "ab\n"


def test_a_failure_raises_what_was_asked_for_with_the_logs_tail() -> None:
    code = "import sys; [print(n, file=sys.stderr) for n in range(99)]; sys.exit(3)"
    with pytest.raises(BaseImageError) as raised:
        run(python(code), error=BaseImageError, what="making the base")
    text = str(raised.value)
    assert "making the base failed (exit code 3)" in text
    assert text.endswith("  98")
    assert "  10\n" not in text


def test_the_caller_may_judge_the_exit_code() -> None:
    assert run(python("raise SystemExit(3)"), error=None).returncode == 3


def test_errors_are_followed_while_the_program_runs(tmp_path: Path) -> None:
    """It waits for a file that is made when its first line is seen; the output stays apart."""
    go = tmp_path / "go"
    code = (
        "import pathlib, sys, time\n"
        "print('out'); print('one', file=sys.stderr, flush=True)\n"
        f"while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)\n"
        "print('two', end='', file=sys.stderr)"
    )
    lines: list[str] = []

    def seen(line: str) -> None:
        lines.append(line)
        go.touch()

    done = run(python(code), error=LockError, timeout=60, on_error_line=seen)
    assert (lines, done.stdout, done.stderr) == (["one\n", "two"], "out\n", "one\ntwo")


def test_followed_errors_are_kept_when_the_program_is_stopped() -> None:
    code = "import sys, time; print('one', file=sys.stderr, flush=True); time.sleep(99)"
    done = run(python(code), error=None, timeout=1, on_error_line=lambda _line: None)
    assert done.stderr == "one\n\nnot finished after 1 seconds"


def test_credentials_in_urls_do_not_get_into_messages() -> None:
    code = "import sys; sys.exit('cannot reach https://me:secret@host/simple')"
    with pytest.raises(LockError) as raised:
        run(python(code), error=LockError)
    assert "secret" not in str(raised.value)
    assert "https://***@host/simple" in str(raised.value)


def test_a_program_is_stopped_together_with_what_it_started(tmp_path: Path) -> None:
    """Like mmdebstrap, which waits for its children on SIGTERM and does not pass it on."""
    pid_file = tmp_path / "pid"
    code = (
        "import pathlib, signal, subprocess\n"
        "signal.signal(signal.SIGTERM, lambda *_: None)\n"
        "child = subprocess.Popen(['sleep', '60'])\n"
        f"pathlib.Path({str(pid_file)!r}).write_text(str(child.pid))\n"
        "child.wait()\n"
    )
    start = time.monotonic()
    run(python(code), error=None, timeout=1)
    assert time.monotonic() - start < 5
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def test_a_program_that_does_not_end_is_stopped() -> None:
    started = time.monotonic()
    with pytest.raises(LockError, match=r"not finished after 0\.2 seconds"):
        run(python("import time; time.sleep(60)"), error=LockError, timeout=0.2)
    assert time.monotonic() - started < 5


def test_a_program_that_is_not_there_is_a_missing_tool() -> None:
    with pytest.raises(ToolMissingError, match="no-such-program"):
        run(["no-such-program"], error=LockError)


def test_a_shell_is_never_involved(tmp_path: Path) -> None:
    text = f"$(touch {tmp_path}/made); `id` | cat"
    code = "import sys; print(sys.argv[1])"
    assert run([*python(code), text], error=LockError).stdout == f"{text}\n"
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("euid", "release", "expected"),
    [
        (0, "ID=debian\n", True),
        (0, UBUNTU, True),
        (0, 'ID=mint\nID_LIKE="ubuntu debian"\n', True),
        (0, "ID=fedora\n", False),
        (0, "", False),
        (1000, "ID=debian\n", False),
    ],
)
def test_only_root_on_debian_or_its_descendants_installs(
    euid: int, release: str, expected: bool
) -> None:
    assert may_install(euid == 0, release) is expected


def test_a_missing_tool_is_named_with_what_installs_it() -> None:
    text = missing_message("mmdebstrap", TOOLS["mmdebstrap"])
    assert "sudo apt-get install mmdebstrap" in text
    assert install_argv("mmdebstrap")[-1] == "mmdebstrap"


def test_an_ordinary_user_is_told_and_nothing_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    reporter = Quiet()
    with pytest.raises(ToolMissingError, match="no-such-tool"):
        require_tool("no-such-tool", reporter)
    assert reporter.messages == []


def test_a_tool_that_is_there_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "mmdebstrap"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert require_tool("mmdebstrap", Quiet()) == str(program)


def test_a_file_is_replaced_whole_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.lock"
    before = os.umask(0o077)
    try:
        write_text(path, "one")
        write_text(path, "two\n")
    finally:
        os.umask(before)
    assert path.read_text() == "two\n"
    assert path.stat().st_mode & 0o777 == 0o644
    assert [entry.name for entry in path.parent.iterdir()] == ["file.lock"]


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "blocker").write_text("old")
    with pytest.raises(StorageError, match="blocker"):
        write_text(tmp_path / "blocker" / "file", "new")
    assert (tmp_path / "blocker").read_text() == "old"


def test_an_extra_ca_is_added_to_the_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, extra = tmp_path / "system.pem", tmp_path / "extra.pem"
    system.write_text("SYSTEM")
    extra.write_text("EXTRA")
    monkeypatch.setenv("SSL_CERT_FILE", str(system))
    assert trust_file(make_settings(tmp_path), tmp_path) == system
    merged = trust_file(make_settings(tmp_path, ca_bundle=extra), tmp_path)
    assert merged is not None
    assert merged.read_text() == "SYSTEM\nEXTRA"
    with pytest.raises(SettingsError, match=r"gone\.pem"):
        trust_file(make_settings(tmp_path, ca_bundle=tmp_path / "gone.pem"), tmp_path)
