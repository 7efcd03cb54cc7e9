"""Builds on Debian 13: another mmdebstrap, apt, Python and C library than here, the same images.

Made as a newcomer makes it: tools/make-venv in a copy of the checkout, then the command. The
machine is a root file system that mmdebstrap makes, entered by pivot_root, because in a chroot
nobody may make a user namespace.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.engines import trixie
from tests.image.layout import read_built
from tests.lend import lend_bases, link_tree
from tests.peers.command import wheelyard
from tests.peers.project import REPOSITORY, lend_packages, machine_cache, real_base_project
from wheelyard.lock.packages import read_package_lock
from wheelyard.settings import load_settings

PACKAGES = ("ca-certificates", "mmdebstrap", "mount", "passwd", "python3-venv", "uidmap")
ENTER = """\
set -e
mount --bind "$1" "$1"
cd "$1"
shift
for place in proc sys dev; do mount --rbind "/$place" "$place"; done
pivot_root . .
umount -l .
exec "$@"
"""
CODE, USER = "srv/wheelyard", "newcomer"


@dataclass(frozen=True)
class Host:
    """A machine with Debian 13, a checkout, and projects in /srv."""

    root: Path

    def run(self, *argv: str, home: str = "/root") -> str:
        """Run a program there to its end; what it printed."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if name.startswith("PIP_") or name.lower().endswith("_proxy")
        }
        env = {**kept, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": home, "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", ENTER, "enter", str(self.root), *argv],
            check=False, capture_output=True, text=True, env=env, timeout=900,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def layers(self, base: str, home: str, *become: str) -> list[str]:
        """Build the one image on `base`; its digest, then its layers'."""
        command = [f"/{CODE}/.venv/bin/wheelyard", "build", "all", "--no-load"]
        places = [
            "--project",
            f"/srv/{base}",
            "--cache-dir",
            f"{home}/cache",
            "--output",
            f"{home}/{base}",
        ]
        self.run(*become, *command, *places, home=home)
        return digests(self.root / home.lstrip("/") / base)


def digests(dist: Path) -> list[str]:
    """The digest of the one image in a layout, and its layers'."""
    (image,) = read_built(dist)
    return [image.digest, *(layer["digest"] for layer in image.manifest["layers"])]


def copy_checkout(target: Path) -> None:
    """What a clone of the checkout would hold, with what is not committed yet."""
    argv = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(argv, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (REPOSITORY / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, target / name)


@pytest.fixture(scope="module")
def host(need_root: None, need: Callable[..., None]) -> Iterator[Host]:
    need("mmdebstrap", "unshare", "git")
    made = trixie.trixie_root(load_settings({"project": str(REPOSITORY)}), PACKAGES)
    folder = Path(tempfile.mkdtemp(prefix="wheelyard-host-"))
    try:
        root = folder / "root"
        subprocess.run(["cp", "-a", made, root], check=True)
        for path in (
            "etc/resolv.conf",
            "etc/hosts",
            "etc/pip.conf",
            "etc/ssl/certs/ca-certificates.crt",
        ):
            if Path("/", path).exists():
                shutil.copy(Path("/", path), root / path)
        own = Path.home() / ".config/pip/pip.conf"
        if own.exists():
            (root / "root/.config/pip").mkdir(parents=True)
            shutil.copy(own, root / "root/.config/pip/pip.conf")
        copy_checkout(root / CODE)
        machine = Host(root)
        machine.run("sh", "-c", f"cd /{CODE} && tools/make-venv run")
        yield machine
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def expected(request: pytest.FixtureRequest, host: Host, tmp_path: Path) -> list[str]:
    """What this machine builds of a project that the host has as well, with the files for it."""
    base = request.param
    made = real_base_project(tmp_path, base)
    (cell,) = made.plan.cells
    cache = tmp_path / "cache"
    lend_packages(read_package_lock(made.folder / cell.base_lock), cache)
    here = tmp_path / "here"
    link_tree(cache, here)
    lend_bases(made.plan.cells, made.plan, made.folder, machine_cache(), here)
    places = ["--project", str(made.folder), "--cache-dir", str(here)]
    built = wheelyard(
        ["build", "all", "--no-load", "--output", tmp_path / "dist", *places], tmp_path
    )
    assert built.returncode == 0, built.stderr
    shutil.copytree(made.folder, host.root / "srv" / base)
    for home in ("root", f"home/{USER}"):
        shutil.rmtree(host.root / home / "cache", ignore_errors=True)
        shutil.copytree(here / "files", host.root / home / "cache/files")
    return digests(tmp_path / "dist")


@pytest.mark.parametrize("expected", ["bookworm"], indirect=True)
def test_root_builds_a_bookworm_image_on_debian_13(host: Host, expected: list[str]) -> None:
    assert "trixie" in (host.root / "etc/os-release").read_text()
    assert host.layers("bookworm", "/root") == expected


@pytest.mark.parametrize("expected", ["trixie"], indirect=True)
def test_an_ordinary_user_builds_a_trixie_image_there(host: Host, expected: list[str]) -> None:
    """In mmdebstrap's mode `unshare`."""
    host.run("useradd", "--create-home", USER)
    host.run("chown", "-R", f"{USER}:", f"/home/{USER}")
    become = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups", "--inh-caps=-all"]
    assert host.layers("trixie", f"/home/{USER}", *become) == expected
