"""A company's site: its mirror, its CA, a project that was locked there, and no other network."""

from __future__ import annotations

import hashlib
import json
import subprocess
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme

from tests.peers.command import argv, environment, wheelyard
from tests.peers.island import Island
from tests.peers.mirror import Mirror, serve
from tests.peers.project import LEAN, REPOSITORY, machine_cache, small_wheels, write_matrix
from wheelyard.console.progress import QuietReporter
from wheelyard.lock.packages import read_package_lock
from wheelyard.lock.sources import DEBIAN, SECURITY, debian_sources
from wheelyard.settings import load_settings

Result = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Site:
    """A company: its mirror, its CA in a file, and the network that holds nothing else."""

    mirror: Mirror
    place: Island
    ca_file: Path
    home: Path
    project: Path

    @property
    def settings(self) -> dict[str, str]:
        return {**self.mirror.settings, "ca-bundle": str(self.ca_file)}

    def run(
        self,
        *arguments: str | Path,
        cache: Path,
        env: Mapping[str, str] | None = None,
        project: Path | None = None,
    ) -> Result:
        given = [*arguments, "--project", project or self.project, "--cache-dir", cache]
        return self.place.call(lambda: wheelyard(given, self.home, env))

    def build(self, folder: Path, *options: str, env: Mapping[str, str] | None = None) -> Result:
        """Build from the cache and into the layout in `folder`."""
        return self.run(*build_arguments(folder), *options, cache=folder / "cache", env=env)

    def start(self, folder: Path, **env: str) -> subprocess.Popen[str]:
        """Start the same build, with the mirror in options, in a session of its own."""
        given = [*build_arguments(folder), *as_options(self.settings), "--project", self.project]
        command = argv(*given, "--cache-dir", folder / "cache")
        return self.place.call(
            lambda: subprocess.Popen(
                command,
                stderr=subprocess.PIPE,
                text=True,
                env=environment(self.home, **env),
                cwd=self.home,
                start_new_session=True,
            )
        )


def build_arguments(folder: Path) -> list[str | Path]:
    return ["build", "all", "--no-load", "--output", folder / "dist"]


def as_options(settings: Mapping[str, str]) -> list[str]:
    return [word for name, value in settings.items() for word in (f"--{name}", value)]


def as_environment(settings: Mapping[str, str]) -> dict[str, str]:
    return {f"WHEELYARD_{name.upper().replace('-', '_')}": x for name, x in settings.items()}


def archive_files(wheels: Mapping[str, Path]) -> dict[str, Path | bytes]:
    """The index of some wheels, and the .debs that this machine has anyway."""
    files: dict[str, Path | bytes] = {}
    for name, wheel in wheels.items():
        files |= index_files(name, wheel)
    known = {path.name: path for path in (machine_cache() / "files").glob("*/*/*.deb")}
    lock = read_package_lock(REPOSITORY / "images/bases/bookworm-runtime.lock")
    for deb in lock.packages:
        path = known.get(deb.path.rpartition("/")[2])
        if path is not None:
            files[f"/{deb.archive}/{deb.path}"] = path
    return files


def index_files(name: str, wheel: Path) -> dict[str, Path | bytes]:
    """A project with one wheel, its hash and its metadata (PEP 503, 658)."""
    with zipfile.ZipFile(wheel) as archive:
        path = next(path for path in archive.namelist() if path.endswith(".dist-info/METADATA"))
        metadata = archive.read(path)
    digests = [hashlib.sha256(data).hexdigest() for data in (wheel.read_bytes(), metadata)]
    href, core = f"/files/{wheel.name}#sha256={digests[0]}", f"sha256={digests[1]}"
    link = f'<a href="{href}" data-dist-info-metadata="{core}">{wheel.name}</a>'
    return {
        f"/simple/{name}/": f"<!DOCTYPE html><html><body>{link}</body></html>".encode(),
        f"/files/{wheel.name}": wheel,
        f"/files/{wheel.name}.metadata": metadata,
    }


def upstream_archives() -> dict[str, str]:
    """The real archives behind the mirror, by the name that a lock gives them."""
    settings = load_settings({"project": str(REPOSITORY)})
    sources = debian_sources("bookworm", settings, QuietReporter(None))
    return {name: next(x.uri for x in sources if x.archive == name) for name in (DEBIAN, SECURITY)}


@contextmanager
def open_site(folder: Path, place: Island) -> Iterator[Site]:
    """A site whose project was locked and rendered with the mirror in the user's config file.

    The index is made of our own pages, Debian is its real archive.
    """
    project, home = folder / "project", folder / "home"
    home.mkdir()
    write_matrix(project, LEAN)
    ca = trustme.CA()
    ca_file = folder / "corporate.pem"
    ca.cert_pem.write_to_path(str(ca_file))
    files = archive_files(small_wheels(folder / "wheels"))
    with serve(Mirror(files, upstream_archives(), ca), place) as mirror:
        site = Site(mirror, place, ca_file, home, project)
        config = folder / "config" / "wheelyard" / "config.toml"
        config.parent.mkdir(parents=True)
        config.write_text("".join(f"{k} = {json.dumps(v)}\n" for k, v in site.settings.items()))
        for command in ("lock", "render"):
            env = {"XDG_CONFIG_HOME": str(folder / "config")}
            done = site.run(command, cache=folder / "cache", env=env)
            assert done.returncode == 0, done.stderr
            assert_clean(site, done)
        yield site


def assert_through(site: Site, asked: int) -> None:
    """Everything came through the mirror, .debs and wheels."""
    paths = [path for path, _range in site.mirror.requests[asked:]]
    assert any(path.startswith("/files/torch-") for path in paths)
    assert sum(path.endswith(".deb") for path in paths) > 50


def assert_clean(site: Site, *results: Result) -> None:
    """Neither the mirror nor who uses it shows in what a run that went well said."""
    for result in results:
        said = (result.stdout + result.stderr).encode()
        assert [x for x in site.mirror.secrets + site.mirror.address if x in said] == []
