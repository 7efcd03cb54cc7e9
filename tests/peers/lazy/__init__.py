"""containerd with its stargz snapshotter: files are fetched when they are read.

Debian ships the snapshotter as Go packages, without the daemon. The two main.go here are what is
missing; they are compiled once, and kept with the other programs of the tests.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.engines.daemons import ALONE
from wheelyard.settings import Settings

HERE = Path(__file__).parent
GO_PATH = Path("/usr/share/gocode")
LIBRARY = GO_PATH / "src/github.com/containerd/stargz-snapshotter"
_SECONDS = 30  # to start


def program(name: str, settings: Settings) -> Path:
    """Compile `name`/main.go with Debian's packages; once for one source."""
    source = (HERE / name / "main.go").read_bytes()
    target = settings.cache_dir / "engines" / f"{name}-{hashlib.sha256(source).hexdigest()[:12]}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        more = {"GO111MODULE": "off", "GOPATH": str(GO_PATH), "GOFLAGS": "-p=2"}
        part = target.with_name(f".{target.name}.{os.getpid()}")
        argv = ["go", "build", "-o", str(part), f"./{name}"]
        subprocess.run(argv, cwd=HERE, env=os.environ | more, check=True)
        part.replace(target)
    return target


class Containerd:
    """A running containerd, in a mount namespace of its own."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self._socket = folder / "c.sock"
        self._process = process

    def children(self) -> list[str]:
        """Return the process that has the mount namespace, once it is there."""
        pid = self._process.pid
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()

    def is_up(self) -> bool:
        """Tell whether both daemons answer."""
        return (
            bool(self.children())
            and self.ctr("snapshots", "--snapshotter", "stargz", "ls").returncode == 0
        )

    def ctr(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Run Debian's ctr-remote where the daemons' mounts are seen."""
        return self.inside("ctr-remote", "--address", self._socket, *words)

    def mount(self, diff_ids: Sequence[str], target: Path, key: str = "seen") -> None:
        """Mount the image of these layers, as a container would see it."""
        chain = diff_ids[0]
        for diff_id in diff_ids[1:]:
            chain = f"sha256:{hashlib.sha256(f'{chain} {diff_id}'.encode()).hexdigest()}"
        target.mkdir()
        # One call prints the command, too: nothing keeps this snapshot from being collected.
        view = ("snapshots", "--snapshotter", "stargz", "view", "--target", target, key, chain)
        command = self.ctr(*view).stdout
        done = self.inside("sh", "-ec", command or "exit 9")
        assert done.returncode == 0, (command, done.stderr)

    def inside(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a program among the daemons' mounts."""
        argv = [
            "nsenter",
            "--mount",
            "--pid",
            "--net",
            "--target",
            self.children()[0],
            *map(str, words),
        ]
        return subprocess.run(argv, check=False, capture_output=True, text=True, timeout=1800)


@contextmanager
def containerd(
    folder: Path,
    snapshotter: Path,
    first: str = "",
    more: Sequence[str] = (),
    login: Sequence[str] = (),
    root: Path | None = None,
) -> Iterator[Containerd]:
    """Start both daemons with their state in `folder`; all ends with the context.

    `first` is run in a shell before them, `more` are options of unshare, such as --net, and `login`
    is the snapshotter's user and password. containerd and its shim are this machine's, or those of
    the root file system `root`.
    """
    programs = folder / "programs"
    programs.mkdir()
    if root is not None:
        for name in ("containerd", "containerd-shim-runc-v2"):
            (programs / name).symlink_to(root / "usr/bin" / name)
    config = {
        "version": 2,
        "root": f"{folder}/root",
        "state": f"{folder}/state",
        "disabled_plugins": ["io.containerd.grpc.v1.cri"],
        "grpc": {"address": f"{folder}/c.sock"},
        "proxy_plugins": {"stargz": {"type": "snapshot", "address": f"{folder}/s.sock"}},
    }
    (folder / "config.toml").write_text("".join(_toml(config)))
    script = f'{first}\nfolder=$2 run=$1; shift 2; "$run" "$folder/s.sock" "$folder/snap" "$@" &\n'
    script += 'exec containerd --config "$folder/config.toml"'
    argv = [*ALONE, "--mount-proc", *more, "sh", "-c", script, "sh", str(snapshotter), str(folder)]
    argv += login
    with (folder / "log").open("wb") as log:
        variables = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"}
        process = subprocess.Popen(argv, stdout=log, stderr=log, env=variables)
    try:
        running, deadline = Containerd(folder, process), time.monotonic() + _SECONDS
        while not running.is_up():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)
        yield running
    finally:
        process.kill()
        process.wait()


def _toml(table: dict[str, object], path: str = "") -> Iterator[str]:
    """Write plain values first, then the tables below."""
    for key, value in table.items():
        if not isinstance(value, dict):
            yield f"{key} = {json.dumps(value)}\n"
    for key, value in table.items():
        if isinstance(value, dict):
            yield f"[{path}{key}]\n"
            yield from _toml(value, f"{path}{key}.")
