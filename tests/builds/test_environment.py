"""Other people's machines: odd environments, streams, limits, file systems; real processes."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny import Tiny, make_tiny

from wheelyard.errors import INTERRUPTED, SettingsError, StorageError, UsageError

ROOT = Path(__file__).parents[2]
CHOICE = ["pick", "--driver", "550.54.14", "--gpu", "sm_90", "--json"]
LINUX = pytest.mark.skipif(
    not Path("/lib64/ld-linux-x86-64.so.2").exists(), reason="needs Linux on x86_64"
)


def wheelyard(
    *argv: str | Path, shell: str = "", **environment: str | None
) -> subprocess.CompletedProcess[str]:
    """Run a command below `shell`, a prefix such as `ulimit -n 64;`; None unsets a variable."""
    env = {**os.environ, **environment}
    words = [sys.executable, "-m", "wheelyard", *map(str, argv)]
    return subprocess.run(
        ["/bin/sh", "-c", f"{shell} {shlex.join(words)}"],
        env={name: value for name, value in env.items() if value is not None},
        cwd=ROOT,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=60,
    )


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def plan(tiny: Tiny) -> str:
    done = wheelyard("plan", "--json", "--project", tiny.folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def build(
    tiny: Tiny, folder: Path, shell: str = "", *argv: str, **environment: str | None
) -> subprocess.CompletedProcess[str]:
    """Build the runtime image with a cache of its own in `folder`, which is made first."""
    cache = folder / "cache"
    if not cache.exists():
        shutil.copytree(tiny.context.settings.cache_dir, cache)
    where = (f"--project={tiny.folder}", f"--cache-dir={cache}", f"--output={folder / 'dist'}")
    return wheelyard("build", "runtime", *where, *argv, shell=shell, **environment)


@pytest.fixture(scope="module")
def built(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("built")
    done = build(tiny, folder)
    assert done.returncode == 0, done.stderr
    return digest(folder)


def digest(folder: Path) -> str:
    index = json.loads((folder / "dist" / "index.json").read_text())
    (found,) = {entry["digest"] for entry in index["manifests"]}
    return str(found)


HOSTS: dict[str, tuple[str, dict[str, str | None]]] = {
    "ascii": ("", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    "terminal": ("", {"LC_ALL": "xx_YY.KOI8-R", "TERM": "dumb", "COLUMNS": "0", "LINES": "-1"}),
    "empty home": ("", {"HOME": "", "XDG_CACHE_HOME": "", "XDG_CONFIG_HOME": ""}),
    "relative home": ("", {"HOME": "here", "XDG_CACHE_HOME": "x", "XDG_CONFIG_HOME": "y"}),
    "no such home": ("", {"HOME": "/nonexistent", "XDG_CACHE_HOME": None, "TMPDIR": "/gone"}),
    "python": (
        "",
        {
            "PYTHONOPTIMIZE": "2", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONWARNINGS": "error",
            "PYTHONHASHSEED": "0", "PYTHONPYCACHEPREFIX": "/gone", "SOURCE_DATE_EPOCH": "1",
            "TZ": ":/etc/passwd",
        },
    ),
    "little": ("ulimit -n 64; umask 777;", {}),
    "stderr full": ("exec 2>/dev/full;", {}),
    "only stdout": ("exec <&- 2>&-;", {}),
}  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
def test_a_plan_is_the_same_everywhere(host: str, tiny: Tiny, plan: str) -> None:
    shell, environment = HOSTS[host]
    done = wheelyard("plan", "--json", "--project", tiny.folder, shell=shell, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == plan


@pytest.mark.parametrize("argv", [["render", "--check"], CHOICE], ids=["render", "pick"])
@pytest.mark.parametrize("host", ["ascii", "no such home", "little", "only stdout"])
def test_other_commands_work_there_too(host: str, argv: list[str]) -> None:
    shell, environment = HOSTS[host]
    done = wheelyard(*argv, shell=shell, **environment)
    assert done.returncode == 0, done.stderr


BUILDERS = {
    "umask 000": ("umask 000; ulimit -n 64;", HOSTS["ascii"][1]),
    "umask 077": ("umask 077; exec <&- >&- 2>&-;", HOSTS["python"][1] | HOSTS["no such home"][1]),
}


@LINUX
@pytest.mark.parametrize("host", BUILDERS)
def test_an_image_is_the_same_everywhere(host: str, tiny: Tiny, built: str, tmp_path: Path) -> None:
    shell, environment = BUILDERS[host]
    folder = tmp_path / 'a "b"\n$é'
    folder.mkdir()
    done = build(tiny, folder, shell, **environment)
    assert done.returncode == 0, done.stderr
    assert digest(folder) == built
    where = (f"--project={tiny.folder}", f"--output={folder / 'dist'}")
    assert wheelyard("inspect", "runtime", *where, shell=shell, **environment).returncode == 0
    made = [path for path in tmp_path.rglob("*") if not path.is_symlink()]
    assert not [path for path in made if path.stat().st_mode & 0o002]


@pytest.mark.parametrize(("umask", "kept"), [(0o002, 0o002), (0o077, 0o077), (0, 0o022)])
def test_a_umask_that_trusts_everybody_trusts_nobody(umask: int, kept: int) -> None:
    script = (
        "import os, sys; from wheelyard import cli; os.umask(int(sys.argv[1]));"
        "cli._run = lambda argv: os.umask(0); sys.exit(cli.main([]))"
    )
    words = [sys.executable, "-c", script, str(umask)]
    assert subprocess.run(words, cwd=ROOT, check=False).returncode == kept


@pytest.mark.parametrize("argv", [["plan"], ["--version"]], ids=["plan", "version"])
def test_nobody_reads_the_output(argv: list[str]) -> None:
    assert wheelyard(*argv, shell="exec >&-;").returncode == 0
    done = wheelyard(*argv, shell="exec >/dev/full;")
    assert "Traceback" not in done.stderr
    assert done.returncode == StorageError.exit_code
    assert "cannot write the output: No space left on device" in done.stderr


def test_a_file_of_the_process_is_not_what_a_closed_stream_was(tmp_path: Path) -> None:
    """What is opened first gets the lowest free number; programs started here write to 1 and 2."""
    script = (
        "import os\nfrom wheelyard.console.streams import plain_streams\n"
        f"with plain_streams():\n  file = os.open({str(tmp_path / 'x')!r}, os.O_RDWR | 64)\n"
        "  os.system('echo hello; echo hello >&2')\n  os._exit(file)"
    )
    words = shlex.join([sys.executable, "-c", script])
    done = subprocess.run(["/bin/sh", "-c", f"exec <&- >&- 2>&-; {words}"], cwd=ROOT, check=False)
    assert done.returncode > 2
    assert (tmp_path / "x").read_bytes() == b""


WRONG: dict[str, tuple[list[str], str, dict[str, str | None], int, str]] = {
    "folder gone": (
        ["plan"], "cd $(mktemp -d) && rmdir $PWD;", {"PYTHONPATH": str(ROOT / "builder")},
        UsageError.exit_code, "the current folder cannot be used",
    ),
    "nobody's config": (
        ["plan"], "", {"WHEELYARD_CONFIG": "~nosuch/x"},
        SettingsError.exit_code, "WHEELYARD_CONFIG: '~nosuch/x': its home folder is unknown",
    ),
    "nobody's cache": (
        ["plan", "--cache-dir", "~nosuch/x"], "", {},
        SettingsError.exit_code, "--cache-dir: '~nosuch/x': its home folder is unknown",
    ),
    "nobody's project": (
        ["plan", "--project", "~nosuch/x"], "", {},
        UsageError.exit_code, "--project ~nosuch/x: '~nosuch/x': its home folder is unknown",
    ),
    "long project": (
        ["plan", "--project", "x/" * 3000], "", {}, UsageError.exit_code, "File name too long",
    ),
    "long cache": (
        ["plan", "--cache-dir", "x/" * 3000], "", {}, SettingsError.exit_code, "File name too long",
    ),
    "not text": (
        ["plan", "--project", "/\udcff"], "", {}, UsageError.exit_code, r"/\udcff has no",
    ),
    "escapes": (
        ["plan", "--project", "/\x1b[31m\r\x9b\u202e"], "", {},
        UsageError.exit_code, r"/\u001b[31m\r\u009b\u202e has no",
    ),
    "argparse": (["plan", "--\x1b]0;x\x07"], "", {}, UsageError.exit_code, r"--\u001b]0;x\u0007"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_used_is_said(case: str) -> None:
    argv, shell, environment, code, words = WRONG[case]
    done = wheelyard(*argv, shell=shell, **environment)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not {"\x1b", "\r", "\x9b", "\x07"} & set(done.stderr)


@LINUX
@pytest.mark.parametrize(
    ("shell", "words"),
    [
        ("ulimit -f 1000;", "File too large; raise `ulimit -f`"),
        ("ulimit -f 0;", "set TMPDIR to a writable folder"),
        ('TMPDIR=$(mktemp -d)/$(printf "%0120d"); mkdir $TMPDIR; export TMPDIR;', "shorter path"),
    ],
    ids=["file size", "no file at all", "long temporary folder"],
)
def test_limits_of_a_machine_are_no_bugs(
    shell: str, words: str, tiny: Tiny, tmp_path: Path
) -> None:
    done = build(tiny, tmp_path, shell)
    assert done.returncode == StorageError.exit_code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def mounted(folder: Path, options: str, source: Path, after: str = "") -> str:
    """Prefix of a command that sees a file system of its own at `folder`, with `source` in it."""
    place = shlex.quote(str(folder))
    script = (
        f"mount -t tmpfs -o {options} none {place} && cp -r {shlex.quote(str(source))}/. {place}/ "
        f'&& {after or "true"} && exec "$@"'
    )
    return f"unshare --user --map-root-user --mount /bin/bash -c {shlex.quote(script)} -"


def may_mount() -> bool:
    words = ["unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "x", "/mnt"]
    try:
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@LINUX
@pytest.mark.skipif(not may_mount(), reason="needs user namespaces, to mount file systems")
@pytest.mark.parametrize(
    ("options", "after", "words"),
    [
        ("noexec", "", "its file system is mounted with noexec; choose another folder"),
        ("size=34M", "", "no space left"),
        ("size=90%", "mount -o remount,ro", "Read-only file system; "),
    ],
    ids=["noexec", "small", "read-only"],
)
def test_caches_that_cannot_be_used(
    options: str, after: str, words: str, tiny: Tiny, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    remount = after and f"{after} {shlex.quote(str(cache))}"
    done = build(tiny, tmp_path, mounted(cache, options, tiny.context.settings.cache_dir, remount))
    assert done.returncode == StorageError.exit_code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not may_mount(), reason="needs user namespaces, to be a user without a name")
def test_a_user_without_name_and_home(tmp_path: Path, plan: str, tiny: Tiny) -> None:
    nobody = "unshare --user --map-user=54321"
    nowhere = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"))

    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        return wheelyard(
            *argv, "--project", str(tiny.folder), shell=nobody, TMPDIR=str(tmp_path), **nowhere
        )

    done = run("plan", "--json")
    assert (done.returncode, done.stdout, done.stderr) == (0, plan, "")
    cache = tmp_path / "wheelyard-54321"
    assert cache.stat().st_mode & 0o777 == 0o700
    cache.chmod(0o777)
    done = run("plan")
    assert done.returncode == SettingsError.exit_code
    assert "name a folder with --cache-dir or WHEELYARD_CACHE, or set HOME" in done.stderr
    assert run("plan", "--cache-dir", str(tmp_path / "own")).returncode == 0
    cache.rmdir()
    cache.symlink_to(tmp_path)
    assert run("plan").returncode == SettingsError.exit_code


def members(session: int) -> list[str]:
    """Command lines of the living processes of a session."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            state, _, _, number = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(number) == session and state != "Z":
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except (OSError, ValueError):
            continue
    return found


@LINUX
@pytest.mark.parametrize("whole_group", [False, True], ids=["one", "terminal"])
def test_a_closed_terminal_leaves_nothing_running(
    whole_group: bool, tiny: Tiny, tmp_path: Path
) -> None:
    shutil.copytree(tiny.context.settings.cache_dir, tmp_path / "cache")
    where = [f"--cache-dir={tmp_path / 'cache'}", f"--output={tmp_path / 'dist'}"]
    words = [sys.executable, "-m", "wheelyard", "build", "all", f"--project={tiny.folder}", *where]
    with subprocess.Popen(
        words, cwd=ROOT, start_new_session=True, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stderr is not None
        while "layers" not in child.stderr.readline():
            assert child.poll() is None
        (os.killpg if whole_group else os.kill)(child.pid, signal.SIGHUP)
        (os.killpg if whole_group else os.kill)(
            child.pid, signal.SIGHUP
        )  # bash's beside the kernel's
        _, said = child.communicate(timeout=20)
    assert child.returncode == INTERRUPTED, said
    assert "interrupted; completed work is kept" in said
    deadline = time.monotonic() + 3
    while members(child.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert members(child.pid) == []


@LINUX
def test_nohup_goes_on(tiny: Tiny, tmp_path: Path) -> None:
    shutil.copytree(tiny.context.settings.cache_dir, tmp_path / "cache")
    where = [f"--cache-dir={tmp_path / 'cache'}", f"--output={tmp_path / 'dist'}"]
    words = ["nohup", sys.executable, "-m", "wheelyard", "build", "runtime", *where]
    with subprocess.Popen(
        [*words, f"--project={tiny.folder}"], cwd=ROOT, stderr=subprocess.PIPE, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    ) as child:  # fmt: skip
        assert child.stderr is not None
        while "layers" not in child.stderr.readline():
            assert child.poll() is None
        child.send_signal(signal.SIGHUP)
        _, said = child.communicate(timeout=60)
    assert child.returncode == 0, said
