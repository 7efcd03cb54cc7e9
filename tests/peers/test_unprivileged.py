"""Builds by an ordinary user, in the modes that mmdebstrap has for one; same image as root's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pytest

from tests.lend import lend_bases, link_tree
from tests.needs import missing
from tests.peers.command import TIMEOUT, wheelyard
from tests.peers.project import (
    REPOSITORY,
    digest_of,
    lend_packages,
    machine_cache,
    real_base_project,
)
from wheelyard.errors import BaseImageError
from wheelyard.lock.packages import read_package_lock
from wheelyard.model import PackageLock
from wheelyard.planning.plan import load_plan

Result = subprocess.CompletedProcess[str]
STRANGER = 54321  # in no passwd file
# Mounts that only one run sees. Where we run from may be closed to others (/root), a mount of it in
# an open folder is not; and a program under /dev/null is as good as not installed (mmdebstrap looks
# past PATH).
ENTER = """\
while [ "$1" != -- ]; do mount --bind "$1" "$2" || exit 125; shift 2; done
shift && exec setpriv "$@"
"""


@dataclass(frozen=True)
class Workplace:
    """A folder that any user may enter, with a project, and the code mounted for each run."""

    folder: Path
    lock: PackageLock

    @property
    def project(self) -> Path:
        return self.folder / "project"

    def home_of(self, uid: int) -> Path:
        """A home with a cache that knows the packages and nothing else; made once."""
        home = self.folder / f"home-{uid}"
        if not home.exists():
            link_tree(self.folder / "cache", home / "cache")
            hand_over(home, uid)
        return home

    def build(self, uid: int, *hidden: str) -> Result:
        """`wheelyard build` as user and group `uid` without any privilege, some tools hidden."""
        home = self.home_of(uid)
        code, packages = self.folder / "code", self.folder / "packages"
        site = next(name for name in sys.path if name.endswith("site-packages"))
        mounts = [(str(REPOSITORY), str(code)), (site, str(packages))]
        mounts += [("/dev/null", found) for name in hidden if (found := shutil.which(name))]
        enter = ["unshare", "--mount", "sh", "-c", ENTER, "enter", *chain.from_iterable(mounts)]
        become = [f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--inh-caps=-all"]
        command = [python_for_all(), "-m", "wheelyard", "build", "all", "--no-load"]
        options = ["--project", str(self.project), "--output", str(home / "dist")]
        env = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(home),
            "PYTHONPATH": f"{code}/builder:{packages}",
            "WHEELYARD_CACHE": str(home / "cache"),
        }
        return subprocess.run(
            [*enter, "--", *become, *command, *options],
            check=False,
            capture_output=True,
            text=True,
            env=env,
            cwd=home,
            timeout=TIMEOUT,
        )


def python_for_all() -> str:
    """This Python's version where any user may run it."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    found = shutil.which(name, path="/usr/local/bin:/usr/bin")
    return found or missing(f"no {name} that every user may run")


def hand_over(folder: Path, uid: int) -> None:
    """Give folders to the user; files that are linked to ours stay as they are."""
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            os.chown(path, uid, uid)


@pytest.fixture(scope="module")
def workplace(need_root: None, need: Callable[..., None]) -> Iterator[Workplace]:
    need("mmdebstrap", "setpriv", "unshare")
    folder = Path(tempfile.mkdtemp(prefix="wheelyard-peers-"))
    try:
        folder.chmod(0o755)
        made = real_base_project(folder)
        (cell,) = made.plan.cells
        lock = read_package_lock(made.folder / cell.base_lock)
        lend_packages(lock, folder / "cache")
        for name in ("code", "packages"):
            (folder / name).mkdir()
        yield Workplace(folder, lock)
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def digest(workplace: Workplace) -> str:
    """The image that root builds; its own base if an earlier build has made it."""
    cache, dist = workplace.folder / "root-cache", workplace.folder / "dist"
    link_tree(workplace.folder / "cache", cache)
    plan = load_plan(workplace.project)
    lend_bases(plan.cells, plan, workplace.project, machine_cache(), cache)
    options: list[str | Path] = ["--project", workplace.project, "--output", dist]
    options += ["--cache-dir", cache]
    built = wheelyard(["build", "all", "--no-load", *options], workplace.folder)
    assert built.returncode == 0, built.stderr
    return digest_of(dist)


@pytest.fixture
def member() -> Iterator[int]:
    """A user of this machine with ranges in /etc/subuid and /etc/subgid, as `useradd` makes it."""
    name = f"wheelyard{os.getpid()}"
    subprocess.run(["useradd", "--no-create-home", name], check=True, capture_output=True)
    try:
        ranges = Path("/etc/subuid").read_text() if Path("/etc/subuid").exists() else ""
        if f"{name}:" not in ranges:
            missing("useradd gives no ranges in /etc/subuid here (package uidmap)")
        yield int(subprocess.run(["id", "-u", name], capture_output=True, check=True).stdout)
    finally:
        subprocess.run(["userdel", name], check=True, capture_output=True)


def may_unshare(uid: int) -> bool:
    """Whether the kernel lets this user make a user namespace."""
    argv = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--inh-caps=-all"]
    probe = [*argv, "unshare", "--user", "--map-root-user", "true"]
    return subprocess.run(probe, check=False, capture_output=True).returncode == 0


def test_user_namespaces_give_root_s_image(
    workplace: Workplace,
    digest: str,
    need: Callable[..., None],
    member: int,
) -> None:
    need("newuidmap", "newgidmap")
    if not may_unshare(member):
        missing("this kernel lets no ordinary user make a user namespace")
    result = workplace.build(member, "fakechroot")
    assert result.returncode == 0, result.stderr
    assert digest_of(workplace.home_of(member) / "dist") == digest


def test_fakechroot_gives_root_s_image_to_a_user_without_a_name(
    workplace: Workplace, digest: str, need: Callable[..., None]
) -> None:
    need("fakechroot", "fakeroot")
    result = workplace.build(STRANGER, "newuidmap", "newgidmap")
    assert result.returncode == 0, result.stderr
    assert digest_of(workplace.home_of(STRANGER) / "dist") == digest


def test_where_no_mode_works_the_ways_out_are_named(
    workplace: Workplace, need: Callable[..., None]
) -> None:
    uid = STRANGER + 1
    result = workplace.build(uid, "newuidmap", "newgidmap", "fakechroot")
    assert result.returncode == BaseImageError.exit_code
    for way in ("root", "uidmap", "/etc/subuid", "fakechroot"):
        assert way in result.stderr
    assert not (workplace.home_of(uid) / "dist/index.json").exists()


def test_without_mmdebstrap_the_package_is_named(workplace: Workplace) -> None:
    """An ordinary user cannot have it installed by us."""
    result = workplace.build(STRANGER + 2, "mmdebstrap")
    assert result.returncode == 13
    assert "apt-get install mmdebstrap" in result.stderr
