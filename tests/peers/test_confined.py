"""What is not trusted runs without capabilities, network or host files, whoever starts it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from tiny import PYTHON, Tiny, write_root

from wheelyard.lock.stages import load_stages
from wheelyard.oci.unpack import make_mount_points
from wheelyard.system import confine
from wheelyard.verify.places import enter_command

NOBODY = 65534
PROBE = dedent("""
    import json, os, socket

    def tried(act):
        try:
            return act()
        except OSError as error:
            return error.strerror

    def connect():
        with socket.socket() as server, socket.socket() as client:
            server.bind(("127.0.0.1", 0))
            server.listen()
            client.connect(server.getsockname())
        return "met"

    def reach(host):
        with socket.socket() as client:
            client.settimeout(1)
            client.connect((host, 80))

    def status(name):
        with open("/proc/self/status") as file:
            return [line.split()[1] for line in file if line.startswith(name)]

    print(json.dumps({
        "ids": [*os.getresuid(), *os.getresgid()],
        "groups": os.getgroups(),
        "root": sorted(os.listdir("/")),
        "dev": sorted(os.listdir("/dev")),
        "loopback": tried(connect),
        "network": tried(lambda: reach("192.0.2.1")),
        "write": tried(lambda: bool(open("/usr/evil", "w"))),
        "capabilities": tried(lambda: status("Cap")),
        "privileges": tried(lambda: status("NoNewPrivs")),
        "processes": tried(lambda: sorted(x for x in os.listdir("/proc") if x.isdigit())),
        "core": tried(lambda: open("/proc/sys/kernel/core_pattern", "w")),
        "chroot": tried(lambda: os.chroot("/usr")),
        "setuid": tried(lambda: os.setuid(0)),
        "node": tried(lambda: os.mknod("/dev/shm/node", 0o20666, os.makedev(1, 1))),
        "null": tried(lambda: open("/dev/null", "w").write("x")),
        "victim": os.path.exists(VICTIM),
    }))
""")


@pytest.fixture(scope="module")
def root(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The tiny project's base with its Python, in a folder."""
    folder = tmp_path_factory.mktemp("confined")
    stage = load_stages(tiny.cell("runtime"), tiny.plan, tiny.folder)[0]
    place = folder / "root"
    with tarfile.open(write_root(stage, folder).tar) as tar:
        tar.extractall(place, filter="tar")
    for module in ("_socket", "select", "array"):
        for library in (Path(sysconfig.get_path("stdlib")) / "lib-dynload").glob(f"{module}.*.so"):
            target = place / f"usr/lib/python{PYTHON}/lib-dynload" / library.name
            shutil.copyfile(library, target)
    for path in (folder, *folder.parents):
        if path != Path("/") and path.stat().st_uid == os.geteuid():
            path.chmod(path.stat().st_mode | 0o011)
    make_mount_points(place)
    yield place
    shutil.rmtree(folder)


def probe(root: Path, program: Path | str = f"/usr/bin/python{PYTHON}") -> list[str]:
    victim = f"VICTIM = {str(root.parent)!r}\n"
    return [str(program), "-s", "-S", "-c", victim + PROBE]


def job(root: Path, *, machine: bool, argv: list[str], uid: int = NOBODY) -> list[str]:
    given = {
        "root": str(root), "uid": uid, "gid": uid, "groups": [], "machine": machine,
        "argv": argv, "env": {"PYTHONHOME": "/usr"},
    }  # fmt: skip
    return [sys.executable, "-I", "-S", confine.__file__, json.dumps(given)]


def answer(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def with_home(command: list[str]) -> list[str]:
    """The same with PYTHONHOME set, where the root has no `env` to do it."""
    given = json.loads(command[-1]) | {"env": {"PYTHONHOME": "/usr"}}
    return [*command[:-1], json.dumps(given)]


def test_an_images_program_has_a_machine_of_its_own(root: Path, need_root: None) -> None:
    setuid = root / "usr/bin/setuid"
    shutil.copyfile(root / f"usr/bin/python{PYTHON}", setuid)
    setuid.chmod(0o6755)
    seen = answer(
        with_home(enter_command(root, "1000:1000", "900", probe(root, "/usr/bin/setuid")))
    )
    assert seen["ids"] == [1000] * 6
    assert seen["groups"] == [900]
    assert set(seen["capabilities"]) == {"0" * 16}
    assert seen["privileges"] == ["1"]
    assert {"null", "random", "shm", "tty", "zero"} <= set(seen["dev"])
    assert not [name for name in seen["dev"] if name.startswith(("sd", "vd", "kmsg", "mem", "kvm"))]
    assert seen["null"] == 1
    assert seen["loopback"] == "met"
    assert seen["network"] == "Network is unreachable"
    assert seen["processes"] == ["1"]
    assert seen["core"] == "Read-only file system"
    for denied in ("chroot", "setuid", "node"):
        assert seen[denied] == "Operation not permitted"
    assert seen["victim"] is False
    assert str(root) not in Path("/proc/self/mounts").read_text()


def test_roots_own_program_gets_no_machine(root: Path, need_root: None) -> None:
    """The suites enter images as root, too."""
    seen = answer(with_home(enter_command(root, "0:0", "0", probe(root))))
    assert seen["ids"] == [0] * 6
    assert set(seen["capabilities"]) == {"0" * 16, "00000000000000fb"}
    assert seen["core"] == "Read-only file system"
    assert seen["node"] == seen["chroot"] == "Operation not permitted"
    (root / "usr/evil").unlink()


@pytest.mark.parametrize("user", [0, 1234])
def test_a_bases_program_has_its_files_alone(root: Path, need_root: None, user: int) -> None:
    """For root and for others, by a user namespace."""
    command = job(root, machine=False, argv=probe(root), uid=user or NOBODY)
    if user:
        ids = [f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        python = os.path.realpath("/usr/bin/python3")
        script = root.parent / "confine.py"
        shutil.copyfile(confine.__file__, script)
        command = ["setpriv", *ids, python, "-I", "-S", str(script), command[-1]]
    seen = answer(command)
    assert seen["ids"] == [user or NOBODY] * 6
    assert seen["dev"] == []
    assert seen["write"] == "Read-only file system"
    assert seen["network"] == seen["loopback"] == "Network is unreachable"
    assert seen["setuid"] in ("Operation not permitted", "Invalid argument")
    assert seen["chroot"] == "Operation not permitted"
    assert seen["victim"] is False


def test_where_it_cannot_be_done_nothing_is_run(root: Path, need_root: None) -> None:
    """As in a container that has no right to make namespaces."""
    bounds = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]
    done = subprocess.run(
        [*bounds, *job(root, machine=False, argv=probe(root))],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (confine.REFUSED, "")
    assert "unshare: Operation not permitted" in done.stderr


def test_a_mount_point_that_is_a_link_is_refused(root: Path, need_root: None) -> None:
    (root / "dev").rmdir()
    (root / "dev").symlink_to("/tmp")
    try:
        command = enter_command(root, "1000:1000", "900", probe(root))
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == confine.REFUSED
        assert "/dev of the image is not a folder" in done.stderr
    finally:
        make_mount_points(root)


def test_the_exit_code_is_the_programs(root: Path, need_root: None) -> None:
    for code in (0, 3, 77):
        argv = [f"/usr/bin/python{PYTHON}", "-S", "-c", f"import os; os._exit({code})"]
        assert subprocess.run(job(root, machine=False, argv=argv), check=False).returncode == code
