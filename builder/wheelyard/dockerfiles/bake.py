"""`--engine bake`: `docker buildx bake` on docker-bake.json, with whatever builder is chosen.

The SDK supports neither bake nor other builders than the engine, so the command is called; its
results are read back and tagged through the SDK, or read from the layout that it wrote.
"""

from __future__ import annotations

import json
import re
import tempfile
import zipfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wheelyard.contract.imageconfig import base_image
from wheelyard.contract.installer import load_installer
from wheelyard.dockerfiles.buildkit import SHOWN, explain
from wheelyard.dockerfiles.buildlog import TAIL_LINES
from wheelyard.dockerfiles.buildx import (
    HOST_NETWORK,
    bake_argv,
    build_argv,
    knows_networks,
    require_buildx,
    unchecked,
)
from wheelyard.dockerfiles.docker_engine import inspect_engine_image, need_engine
from wheelyard.dockerfiles.secrets import write_secrets
from wheelyard.engines.docker import connect, name_image, uses_containerd
from wheelyard.engines.readback import read_layers
from wheelyard.errors import EngineError, WheelyardError
from wheelyard.fetching.fetch import fetch_all
from wheelyard.fetching.wanted import checked
from wheelyard.images.build.bases import build_bases
from wheelyard.images.build.loading import find_loader
from wheelyard.images.build.results import EngineImage
from wheelyard.images.inspect.inspect import inspect_image, require
from wheelyard.lock.index import locate
from wheelyard.oci.layout import Layout
from wheelyard.rendering.bakefile import target_name
from wheelyard.rendering.render import BAKE_FILE
from wheelyard.system.subprocesses import follow

if TYPE_CHECKING:
    from docker import DockerClient

    from wheelyard.context import Context
    from wheelyard.dockerfiles.batch import EngineBuild, Options
    from wheelyard.images.assemble.image import Image
    from wheelyard.model import Plan

_PINNED_NEEDS_BAKE = (
    "buildx before 0.17 takes no --network for a base from a registry's image: leave it out, "
    "take a newer buildx, or --engine docker"
)
_INSTALLER = "installer"  # the stage that brings uv; a context of that name replaces it
_KEPT_LINES = 400  # BuildKit shows a failed step's Dockerfile after its words
_STEP = re.compile(r"#\d+ \[[^\]]* (\d+)/(\d+)\] ")


@contextmanager
def bake_engine(
    jobs: Sequence[EngineBuild], plan: Plan, options: Options, context: Context
) -> Iterator[BakeEngine]:
    """Yield the builder, with bases and secrets, while the context lasts."""
    driver = require_buildx()
    client = _client(driver, options)
    has_images = driver == "docker" and not uses_containerd(client or need_engine())
    load = find_loader(True, context) if has_images else None
    cells = [job.cell for job in jobs]
    folder = options.output / "bases"
    missing: dict[str, WheelyardError] = {}
    bases = build_bases(cells, plan, folder, context, load=load, missing=missing)
    with tempfile.TemporaryDirectory(prefix="wheelyard-bake-") as scratch:
        contexts = {} if has_images else base_contexts(bases, folder)
        engine = BakeEngine(client, context, options, Path(scratch), contexts, missing)
        engine.prepare([job for job in jobs if base_image(job.cell) not in missing])
        yield engine


def _client(driver: str, options: Options) -> DockerClient | None:
    """Return where images are loaded; None if they are written to the output folder."""
    if options.load is False:
        return None
    if options.load or driver == "docker" or connect() is not None:
        return need_engine()
    return None


def base_contexts(bases: Sequence[tuple[str, Image]], folder: Path) -> dict[str, str]:
    """Return bases by digest for builders without images, or that would ask registries."""
    return {name: f"oci-layout://{folder}@{image.manifest.digest}" for name, image in bases}


class BakeEngine:
    """Builds through `docker buildx bake`."""

    def __init__(
        self,
        client: DockerClient | None,
        context: Context,
        options: Options,
        scratch: Path,
        bases: Mapping[str, str],
        missing: Mapping[str, WheelyardError],
    ) -> None:
        self._client, self._context, self._options = client, context, options
        self._scratch, self._bases, self._missing = scratch, bases, missing
        self._file = context.settings.project / BAKE_FILE
        self._override = scratch / "override.json"
        self._targets: dict[str, Any] = {}
        self._installers: dict[str, Path] = {}  # architecture -> folder
        self._old = options.network is not None and not knows_networks()

    def prepare(self, jobs: Sequence[EngineBuild]) -> None:
        """Write this machine's settings; with several images, build them in parallel."""
        declared = json.loads(self._file.read_text(encoding="utf-8"))["target"]
        targets = self._targets
        self._installers = {
            name: _unpack_installer(self._context, name, self._scratch / f"installer-{name}")
            for name in {job.cell.architecture for job in jobs}
        }
        for job in jobs:
            secrets = write_secrets(job.cell, self._context, self._scratch)
            override = {"secret": [f"id={name},src={path}" for name, path in secrets.items()]}
            for name in needed_targets(declared, target_name(job.cell.id)):
                targets[name] = {**override, **self._more(declared[name], job)}
            targets[target_name(job.cell.id)]["tags"] = [unchecked(job)]
        self._override.write_text(json.dumps({"target": targets}))
        if len(jobs) > 1 and not self._old:
            names = [target_name(job.cell.id) for job in jobs]
            log = self._options.output / "logs" / "bake.log"
            argv = self._argv(names, "--set=*.output=type=cacheonly")
            # What fails here fails again below, separately and with its own log.
            self._run(argv, f"{len(jobs)} images", log)

    def _more(self, declared: Mapping[str, Any], job: EngineBuild) -> dict[str, Any]:
        network = self._options.network
        more: dict[str, Any] = {} if network is None else {"network": network}
        base = base_image(job.cell)
        bases = {}
        if job.cell.base.image is None:  # the one that was assembled, and not made once more
            bases = {base: self._bases.get(base, f"docker-image://{base}")}
        installer = str(self._installers[job.cell.architecture])
        contexts = {**declared.get("contexts", {}), _INSTALLER: installer, **bases}
        return {**more, "contexts": contexts}

    def build(self, job: EngineBuild) -> EngineImage:
        """Build, read back, compare, tag."""
        if (missing := self._missing.get(base_image(job.cell))) is not None:
            raise missing
        name = target_name(job.cell.id)
        with job.timed("build"):
            if self._old:
                if job.cell.base.image is not None:
                    raise EngineError(_PINNED_NEEDS_BAKE)
                override, network = self._targets[name], str(self._options.network)
                argv = build_argv(job, override, network, f"--output={self._output(job)}")
            else:
                argv = self._argv([name], f"--set=*.output={self._output(job)}")
            code, tail = self._run(argv, job.cell.id, job.log)
            if code:
                words = "\n".join(describe_failure(tail) or [f"exit code {code}"])
                raise EngineError(f"buildx could not build {job.cell.id}: {words}\nlog: {job.log}")
        with job.timed("inspect"):
            return self._loaded(job) if self._client else self._written(job)

    def _argv(self, targets: Sequence[str], *options: str) -> tuple[str, ...]:
        allowed = (f"--allow={HOST_NETWORK}",) if self._options.network == "host" else ()
        return bake_argv([self._file, self._override], targets, *allowed, *options)

    def _output(self, job: EngineBuild) -> str:
        if self._client is not None:
            return "type=docker"
        return f"type=oci,tar=false,dest={self._options.output / job.cell.id}"

    def _run(self, argv: Sequence[str], label: str, log: Path) -> tuple[int, list[str]]:
        log.parent.mkdir(parents=True, exist_ok=True)
        tail: deque[str] = deque(maxlen=_KEPT_LINES)
        seen: set[str] = set()
        with (
            log.open("w", encoding="utf-8") as file,
            self._context.reporter.task(label, None, "items") as task,
        ):

            def take(line: str) -> None:
                file.write(line)
                file.flush()
                if line.strip():
                    tail.append(line.rstrip())
                step = line.split(" ", 1)[0]
                if _STEP.match(line) and step not in seen:
                    seen.add(step)
                    task.advance(1)

            code = follow(argv, take, cwd=self._context.settings.project)
        return code, list(tail)

    def _loaded(self, job: EngineBuild) -> EngineImage:
        client = self._client
        if client is None:
            raise EngineError("no engine is available to read from")
        image, size, findings = inspect_engine_image(client, unchecked(job), job)
        for tag in job.cell.tags:
            name_image(client, image, tag)
        client.images.remove(unchecked(job), noprune=True)
        return EngineImage(job.cell, image, size, job.seconds, findings, job.log)

    def _written(self, job: EngineBuild) -> EngineImage:
        layout = Layout(self._options.output / job.cell.id)
        (found,) = json.loads((layout.folder / "index.json").read_text())["manifests"][:1]
        content, config = layout.read_image(found["digest"])
        tree: Any = read_layers([layout.blob(layer["digest"]) for layer in content["layers"]])
        findings = inspect_image(job.cell, job.stages[-1].lock, config, tree)
        require(job.cell.id, findings)
        size = sum(int(layer["size"]) for layer in content["layers"])
        return EngineImage(job.cell, found["digest"], size, job.seconds, findings, job.log)


def _unpack_installer(context: Context, architecture: str, folder: Path) -> Path:
    """Unpack the program that installs wheels, as the stage `installer` would."""
    wheel = load_installer(architecture)
    files = context.settings.cache_dir / "files"
    path = checked(files, wheel.sha256, wheel.filename, wheel.size)
    if path is None:
        downloads = locate([wheel], "3.11", context.settings)
        path = fetch_all(downloads, files, context.settings, context.reporter)[wheel.sha256]
    program = folder / "tmp/uv/bin/uv"
    program.parent.mkdir(parents=True)
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".data/scripts/uv"))
        program.write_bytes(archive.read(name))
    program.chmod(0o755)
    return folder


def needed_targets(declared: Mapping[str, Any], name: str) -> list[str]:
    """Return a target and those that it takes its stages from."""
    below = (
        source.removeprefix("target:")
        for source in declared[name].get("contexts", {}).values()
        if source.startswith("target:")
    )
    return [name, *(needed for other in below for needed in needed_targets(declared, other))]


def describe_failure(log: Sequence[str]) -> list[str]:
    """Describe a failure from the end of a log: why, the step, and the step's last output.

    BuildKit repeats those between two lines of dashes; its excerpt of the Dockerfile, which comes
    after them, is left out.
    """
    if not log:
        return []
    dashes = [at for at, line in enumerate(log) if line == "------"]
    found = [log[a + 1 : b] for a, b in pairwise(dashes) if log[a + 1].startswith(" > [")]
    step, *said = found[-1] if found else ["", *log[-TAIL_LINES:-1]]
    why = explain(log[-1], said)
    shown = [f"step: {step.removeprefix(' > ')[:SHOWN]}"] if step else []
    return [why, *shown, *(f"  {line[:SHOWN]}" for line in said[-TAIL_LINES:])]
