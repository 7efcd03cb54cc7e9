"""What a container starts by, as a plain process: users with and without a name, a home, rights."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.needs import need_tools
from wheelyard.contract.users import SCRIPTS

DATA = Path(__file__).parents[2] / "builder" / "wheelyard" / "data"
STRANGER = 61234  # no line in /etc/passwd
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="starts processes as other users")
SHOW = 'echo "$HOME|${USER:-}|${LOGNAME:-}|${VIRTUAL_ENV:-}"'


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A root with what the scripts look at; their absolute paths lead there."""
    root = tmp_path / "root"
    site = root / "opt/venv/lib/python3.11/site-packages"
    about = site / "thing-1.0.dist-info"
    for folder in (root / "opt/wheelyard", root / "opt/venv/bin", about, root / "usr/local/bin"):
        folder.mkdir(parents=True)
    for name, mode in (("home/dev", 0o2775), ("workspace", 0o755), ("tmp", 0o1777)):
        (root / name).mkdir(parents=True)
        (root / name).chmod(mode)
    (about / "METADATA").write_text("Name: thing\nVersion: 1.0\n")
    (root / "opt/venv/pyvenv.cfg").write_text("home = /usr/bin\n")
    (root / "opt/venv/bin/python").symlink_to("/usr/bin/python3")
    (root / "opt/venv/bin/python3.11").symlink_to("python")
    for script in ("opt/venv/bin/pip", "opt/venv/bin/thing", "usr/local/bin/selfcheck"):
        (root / script).write_text(f"#!{root}/opt/venv/bin/python\n")
        (root / script).chmod(0o755)
    for source, name in SCRIPTS.items():
        text = (DATA / source).read_text()
        for place in ("/opt/", "/home/dev", "/workspace", "/usr/local/"):
            text = text.replace(place, f"{root}{place}")
        (root / "opt/wheelyard" / name).write_text(text)
        (root / "opt/wheelyard" / name).chmod(0o755)
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & 0o001:  # pytest's are closed to others
            folder.chmod(folder.stat().st_mode | 0o011)
    return root


def start(
    image: Path, command: str, uid: int = STRANGER, gid: int = STRANGER, **environment: str
) -> tuple[list[str], str]:
    """The lines that a command prints, started by the entry point; and what is said beside it."""
    variables: Mapping[str, str] = {
        "PATH": f"{image}/opt/venv/bin:/usr/bin:/bin", "VIRTUAL_ENV": f"{image}/opt/venv",
        "TMPDIR": f"{image}/tmp", "HOME": "/", **environment,
    }  # fmt: skip
    done = subprocess.run(
        [image / "opt/wheelyard/entrypoint", "sh", "-c", command],
        env=variables, user=uid, group=gid, extra_groups=[], check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), done.stderr


@needs_root
def test_who_has_all_keeps_all(image: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (shown,), said = start(image, SHOW, 0, 0, HOME=str(home))
    assert shown == f"{home}|||{image}/opt/venv"
    assert said == ""


@needs_root
def test_the_program_takes_the_place_of_the_script(image: Path) -> None:
    (parent,), _ = start(image, "echo $PPID", 0, 0, HOME=str(image))
    assert int(parent) == os.getpid()


@needs_root
def test_a_stranger_gets_a_name_a_home_of_his_own_and_an_environment(image: Path) -> None:
    (shown, rights, python, thing), said = start(
        image, f"{SHOW}; stat -c '%a %u' $HOME; readlink $VIRTUAL_ENV/bin/python; command -v thing"
    )
    home, user, logname, venv = shown.split("|")
    assert home == f"{image}/tmp/home-{STRANGER}"
    assert (user, logname) == (f"uid{STRANGER}",) * 2
    assert venv.startswith(f"{home}/.wheelyard/venv-")
    assert rights == f"700 {STRANGER}"
    assert python == "/usr/bin/python3"
    assert Path(thing).read_text() == f"#!{venv}/bin/python\n"
    folder = Path(venv, "lib/python3.11/site-packages")
    assert (folder / "thing-1.0.dist-info/METADATA").is_symlink()
    below = image / "opt/venv/lib/python3.11/site-packages"
    assert (folder / "_image.pth").read_text() == f"import site; site.addsitedir('{below}')\n"
    assert "\n" not in said.strip()
    assert "docker run --user $(id -u):$(id -g)" in said  # of /workspace
    assert start(image, SHOW)[0] == [shown]  # the next start finds all that


@needs_root
def test_what_a_stranger_was_given_stays(image: Path, tmp_path: Path) -> None:
    home = tmp_path / "given"
    home.mkdir()
    os.chown(home, STRANGER, STRANGER)
    shown, _ = start(image, SHOW, HOME=str(home), USER="me", LOGNAME="you", VIRTUAL_ENV="/mine")
    assert shown == [f"{home}|me|you|/mine"]


@needs_root
def test_a_project_is_no_home(image: Path) -> None:
    os.chown(image / "workspace", STRANGER, STRANGER)
    (shown,), _ = start(image, SHOW, HOME=f"{image}/workspace")
    assert shown.split("|")[0] == f"{image}/tmp/home-{STRANGER}"
    assert list((image / "workspace").iterdir()) == []


@needs_root
def test_a_user_of_group_0_gets_the_images_home(image: Path) -> None:
    (shown,), _ = start(image, SHOW, gid=0)
    assert shown.split("|")[0] == f"{image}/home/dev"


@needs_root
@pytest.mark.parametrize("kind", ["another user's", "a link", "open to others", "a file"])
def test_no_home_that_somebody_else_has_made(image: Path, tmp_path: Path, kind: str) -> None:
    trap = image / f"tmp/home-{STRANGER}"
    if kind == "a link":
        target = tmp_path / "target"
        target.mkdir(mode=0o700)
        os.chown(target, STRANGER, STRANGER)
        trap.symlink_to(target)
    elif kind == "a file":
        trap.write_text("")
    else:
        trap.mkdir()
        trap.chmod(0o777)
        os.chown(trap, *((STRANGER,) * 2 if kind == "open to others" else (0, 0)))
    (shown,), said = start(image, SHOW)
    home = Path(shown.split("|")[0])
    assert home.name.startswith(f"home-{STRANGER}.")
    assert (home.stat().st_mode & 0o777, home.stat().st_uid) == (0o700, STRANGER)
    assert f"{trap} is no folder of user {STRANGER} alone" in said


@needs_root
def test_a_folder_that_hands_its_group_on_holds_homes_as_well(image: Path) -> None:
    """Kubernetes' volumes do, with fsGroup."""
    (image / "tmp").chmod(0o3777)
    (shown,), said = start(image, SHOW)
    assert shown.startswith(f"{image}/tmp/home-{STRANGER}|")
    assert "alone" not in said


@needs_root
def test_a_workspace_that_can_be_written_is_not_mentioned(image: Path) -> None:
    os.chown(image / "workspace", STRANGER, STRANGER)
    assert start(image, "true")[1] == ""


@needs_root
def test_without_any_folder_to_write_the_program_starts_all_the_same(image: Path) -> None:
    (image / "tmp").chmod(0o755)
    assert start(image, "echo here")[0] == ["here"]


NAMELESS = "no-such-name.invalid"
ALONE = "ip link set lo up"
LINKED = f"{ALONE}; ip tuntap add tap0 mode tap; ip link set tap0 up"


@needs_root
@pytest.mark.parametrize(
    ("network", "name", "given", "address"),
    [
        (ALONE, NAMELESS, "", "127.0.0.1"),
        (ALONE, NAMELESS, "127.0.0.2", "127.0.0.2"),
        (ALONE, "localhost", "", ""),
        # Other nodes would not find this one at an address of the loopback.
        (f"{LINKED}; ip address add 10.1.2.3/24 dev tap0", NAMELESS, "", ""),
        (f"{LINKED}; ip address add fd00::1/64 dev tap0", NAMELESS, "", ""),
    ],
)
def test_torchrun_finds_itself_where_nobody_knows_its_name(
    image: Path, network: str, name: str, given: str, address: str
) -> None:
    need_tools("unshare", "ip")
    torchrun = image / "opt/venv/bin/torchrun"
    torchrun.write_text('#!/bin/sh\necho "$PET_LOCAL_ADDR"\n')
    torchrun.chmod(0o755)
    assert as_container(image, network, name, "torchrun", PET_LOCAL_ADDR=given) == address


@needs_root
def test_an_image_without_torchrun_needs_no_address(image: Path) -> None:
    need_tools("unshare", "ip")
    assert as_container(image, ALONE, NAMELESS, "echo ${PET_LOCAL_ADDR-none}") == "none"


def as_container(image: Path, network: str, name: str, command: str, **environment: str) -> str:
    """What a command prints, started by the entry point in a network of its own, with that name."""
    (image / "nsswitch.conf").write_text("hosts: files dns\n")  # no systemd that knows every name
    prepare = f"mount --bind {image}/nsswitch.conf /etc/nsswitch.conf; hostname {name}; {network}"
    entered = f'{prepare}; exec "$@"'
    done = subprocess.run(
        ["unshare", "--net", "--uts", "--mount", "sh", "-ec", entered, "sh",
         image / "opt/wheelyard/entrypoint", "sh", "-c", command],
        env={"PATH": f"{image}/opt/venv/bin:{os.environ['PATH']}", "HOME": "/root", **environment},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout.strip()


@needs_root
def test_an_environment_is_made_once_and_whole(image: Path) -> None:
    venv = image / "opt/wheelyard/venv"
    target = image / "tmp/mine"
    subprocess.run([venv, target], check=True)
    again = subprocess.run([venv, target], capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert "usage:" in again.stderr
    assert sorted(path.name for path in (image / "tmp").iterdir()) == ["mine"]
    assert (target / "bin/pip").readlink() == image / "opt/wheelyard/pip"
