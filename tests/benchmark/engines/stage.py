"""Where a way is measured: a disk and an engine of its own that has the base, and empty caches."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.benchmark.engines.disk import describe, fresh_disk
from tests.benchmark.engines.projects import REPOSITORY, Project
from tests.benchmark.engines.stores import KINDS
from tests.benchmark.engines.watch import Sample, watched
from tests.benchmark.engines.ways import ASSEMBLE, BUILDAH, PIP_BASE, RELOAD, Folders, Pip, Way
from tests.engines import trixie
from tests.engines.daemons import client_environment, own_engine, temporary_folder
from tests.engines.podman import Storage
from tests.lend import lend_bases
from wheelyard.contract.imageconfig import base_image
from wheelyard.errors import WheelyardError
from wheelyard.fetching.trust import trust_file
from wheelyard.planning.plan import load_plan
from wheelyard.settings import Settings
from wheelyard.system.subprocesses import run

INTERPRETERS = "interpreters"
IMPORT = ("python", "-c", "import torch; print(torch.__version__)")
STEPS = ("regular", "source.local")  # what BuildKit keeps, cache mounts of RUN steps aside


@dataclass(frozen=True, slots=True)
class Stage:
    """A way, and what it works with."""

    way: Way
    store: str
    folders: Folders
    environment: Mapping[str, str]
    log: Path
    file_system: str  # that all of it lies on

    def measure(self, project: Project) -> Sample:
        """Build the project's image once."""
        os.sync()  # what others left to be written is not part of it
        command = self.way.command(project, self.folders)
        return watched(command, self.log, env=self.environment, cwd=project.folder)

    def image_bytes(self, project: Project) -> int:
        """Size of the result as its engine counts it; it must work, too."""
        image, storage = self.way.image(project), self.folders.storage
        if self.way is BUILDAH:
            storage.run(image, *IMPORT)
            return int(storage.podman("image", "inspect", "--format={{.Size}}", image))
        self._run("docker", "run", "--rm", "--network=none", image, *IMPORT)
        return int(self._run("docker", "image", "inspect", "--format={{.Size}}", image))

    def provide_base(self, project: Project) -> None:
        """Give the engine what `FROM` names."""
        bases = self.folders.output / "bases"
        load = "--no-load" if self.way is BUILDAH else "--load"
        self._run(
            sys.executable, "-m", "wheelyard", "base", load, "--project", str(project.folder),
            "--output", str(bases), "--cache-dir", str(self.folders.cache),
        )  # fmt: skip
        if self.way is BUILDAH:
            self.folders.storage.take(bases, base_image(project.cell))
        if isinstance(self.way, Pip):
            context = str(self.folders.contexts / "base")
            self._run(*self.way.builder, f"--tag={PIP_BASE}", context)

    def save_image(self, project: Project) -> None:
        """Let the engine write an archive of the image; it keeps none of its layers but the base's.

        The archive has just been written, so it lies in memory if there is enough.
        """
        self._run(*ASSEMBLE.command(project, self.folders))
        archive, image = RELOAD.archive(self.folders), RELOAD.image(project)
        self._run("docker", "image", "save", f"--output={archive}", image)
        self.forget_image()
        self.provide_base(project)

    def forget_image(self) -> None:
        """Remove all images and kept steps; wheels and layers that were cached stay."""
        if self.way is BUILDAH:
            self.folders.storage.buildah("rmi", "--all", "--force")
        else:
            self._run("docker", "image", "prune", "--all", "--force")
            for kind in STEPS:
                self._run("docker", "buildx", "prune", "--all", "--force", f"--filter=type={kind}")
        shutil.rmtree(self.folders.output, ignore_errors=True)

    def _run(self, *argv: str) -> str:
        return run(argv, error=WheelyardError, what=" ".join(argv[:4]), env=self.environment).stdout


@contextmanager
def staged(
    way: Way, store: str, project: Project, settings: Settings, parent: Path
) -> Iterator[Stage]:
    """A way with an empty engine and empty caches on a new disk, all gone afterwards."""
    with ExitStack() as stack:
        disk = stack.enter_context(fresh_disk(parent))  # first in, last out: the engine ends before
        storage = Storage(disk / "podman", stack.enter_context(temporary_folder()))
        folders = make_folders(project, settings, disk, storage)
        environment = dict(os.environ)
        if way is BUILDAH:
            environment["TMPDIR"] = str(folders.temporary)  # it packs layers there
        else:
            engine = disk / "engine"
            engine.mkdir()
            stack.enter_context(own_engine(engine, KINDS[store](settings)))
            config = trixie.client_configuration(engine, trixie.trixie_root(settings))
            environment = {**client_environment(engine), "DOCKER_CONFIG": str(config)}
        environment["PYTHONPATH"] = str(
            REPOSITORY / "builder"
        )  # builds run in the project's folder
        stage = Stage(way, store, folders, environment, disk / "log", describe(disk))
        stage.provide_base(project)
        yield stage


def make_folders(project: Project, settings: Settings, folder: Path, storage: Storage) -> Folders:
    """Empty caches; the base's parts are copies of those in the user's cache."""
    cache, contexts, temporary = folder / "cache", folder / "contexts", folder / "tmp"
    for path in (cache, contexts / "base", temporary):
        path.mkdir(parents=True)
    # The base is there in all ways, so nobody makes it.
    plan = load_plan(project.folder)
    lend_bases(plan.cells, plan, project.folder, settings.cache_dir, cache)
    (settings.cache_dir / INTERPRETERS).mkdir(parents=True, exist_ok=True)
    (cache / INTERPRETERS).symlink_to(settings.cache_dir / INTERPRETERS)
    certificates = folder / "certificates.pem"
    if found := trust_file(settings, folder):
        shutil.copy(found, certificates)
    write_pip_base(project, settings, contexts / "base", certificates)
    return Folders(cache, folder / "output", contexts, temporary, certificates, storage)


def write_pip_base(project: Project, settings: Settings, context: Path, certificates: Path) -> None:
    """The base with what pip needs at this site; without its cache, which nothing would read."""
    shutil.copy(certificates, context / "certificates.pem")
    env = {"PIP_CERT": "/etc/certificates.pem", "PIP_NO_CACHE_DIR": "1"}
    if settings.index_url:
        env["PIP_INDEX_URL"] = settings.index_url
    lines = [
        f"FROM {base_image(project.cell)}",
        "COPY certificates.pem /etc/certificates.pem",
        *(f"ENV {name}={value}" for name, value in env.items()),
    ]
    (context / "Dockerfile").write_text("\n".join(lines) + "\n")
