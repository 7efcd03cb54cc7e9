"""`--engine docker`: rendered Dockerfiles, built by the Docker Engine that answers.

Mounted secrets need a session with the client, which the SDK does not offer, and the classic
builder does not support mounts.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import requests
from docker.errors import DockerException, ImageNotFound

from wheelyard.contract.imageconfig import base_folder, base_image
from wheelyard.contract.paths import LOCK, WHEELYARD
from wheelyard.contract.users import SCRIPTS
from wheelyard.dockerfiles.buildkit import BuildRequest, build_image, explain, require_recent
from wheelyard.dockerfiles.prefetch import locate_content
from wheelyard.dockerfiles.route import Route, find_route
from wheelyard.dockerfiles.wheelhouse import LOOPBACK, Server, open_wheelhouse, remembered
from wheelyard.engines.docker import SILENCE, connect, layers_of, name_image
from wheelyard.engines.docker import inspect_image as find_image
from wheelyard.engines.readback import read_image
from wheelyard.errors import EngineError, InspectError, WheelyardError
from wheelyard.images.assemble.final_layer import base_files
from wheelyard.images.build.bases import build_bases
from wheelyard.images.build.loading import find_loader
from wheelyard.images.build.results import EngineImage
from wheelyard.images.inspect.inspect import Finding, inspect_image, require
from wheelyard.lock.lockfile import render_requirements_lock
from wheelyard.model import RequirementsLock
from wheelyard.rendering.bakefile import DOCKERFILE
from wheelyard.rendering.render import render_base, render_cell
from wheelyard.system.failures import reported

if TYPE_CHECKING:
    from docker import DockerClient

    from wheelyard.context import Context
    from wheelyard.dockerfiles.batch import EngineBuild, Options
    from wheelyard.model import Plan

_PACKAGE = "builder/wheelyard"  # in a project, which a Dockerfile may be built from by hand


def need_engine() -> DockerClient:
    """Connect to the engine that answers, if it is recent enough; EngineError otherwise."""
    client = connect()
    if client is None:
        raise EngineError(
            "no Docker Engine answers: start one (`systemctl start docker`), or choose one with "
            "DOCKER_HOST or `docker context use`. `wheelyard build` without --engine needs none"
        )
    require_recent(client)
    client.api.timeout = SILENCE
    return client


@contextmanager
def docker_engine(
    jobs: Sequence[EngineBuild], plan: Plan, options: Options, context: Context
) -> Iterator[DockerEngine]:
    """Yield the engine, with its bases and a wheelhouse, while the context lasts."""
    client = need_engine()
    cells = [job.cell for job in jobs]
    load = find_loader(True, context)
    missing: dict[str, WheelyardError] = {}
    build_bases(cells, plan, options.output / "bases", context, load=load, missing=missing)
    with open_wheelhouse(locate_content(jobs, context), remembered(context.settings)) as server:
        engine = DockerEngine(client, plan, context, options, server, missing)
        engine.make_pinned_bases(jobs)
        yield engine


class DockerEngine:
    """Builds through the SDK; RUN steps take their files from the wheelhouse."""

    def __init__(
        self,
        client: DockerClient,
        plan: Plan,
        context: Context,
        options: Options,
        server: Server,
        missing: dict[str, WheelyardError],
    ) -> None:
        self._client, self._plan, self._context = client, plan, context
        self._options, self._server = options, server
        self._project = context.settings.project
        self._route: Route | None = None
        self._missing = missing  # bases that could not be made

    def make_pinned_bases(self, jobs: Sequence[EngineBuild]) -> None:
        """Build the bases that start from a registry's image; one failure stops no other."""
        pinned = {base_image(job.cell): job for job in jobs if job.cell.base.image is not None}
        for name, job in pinned.items():
            try:
                self._make_pinned_base(name, job)
            except Exception as error:  # noqa: BLE001 - other bases are made whatever it was
                self._missing[name] = reported(error, name, self._context.reporter)

    def _make_pinned_base(self, name: str, job: EngineBuild) -> None:
        label = base_folder(job.cell).name
        log = job.log.with_name(f"base-{label}.log")
        image = str(job.cell.base.image)
        tar = pinned_context(render_base(self._project, job.cell, self._plan.cells).encode())
        # The image itself is used to find the route: there is no other yet.
        self._pull(image)
        request = self._request(f"base {label}", tar, log, image)
        built = build_image(self._client, request, self._context.reporter)
        name_image(self._client, built, name)

    def build(self, job: EngineBuild) -> EngineImage:
        """Build, read back, compare, tag."""
        client, base = self._client, base_image(job.cell)
        if (missing := self._missing.get(base)) is not None:
            raise missing
        with job.timed("build"):
            text = render_cell(self._project, job.cell, self._plan.cells, mounts=False)
            tar = image_context(text.encode(), job.stages[-1].lock)
            request = self._request(job.cell.id, tar, job.log, base)
            with self._local_only_name(base) as name:
                image = self._build(replace(request, arguments={"BASE": name, **request.arguments}))
        with job.timed("inspect"):
            image, size, findings = inspect_engine_image(client, image, job)
        for tag in job.cell.tags:
            name_image(client, image, tag)
        return EngineImage(job.cell, image, size, job.seconds, findings, job.log)

    @contextmanager
    def _local_only_name(self, base: str) -> Iterator[str]:
        """Return a local-only tag for the base, so that the engine never tries to pull it.

        BuildKit with containerd's store asks a registry before it looks at what the engine has.
        """
        name = f"{LOOPBACK}:{self._server.server_port}/{base}"
        name_image(self._client, base, name)
        try:
            yield name
        finally:
            with suppress(DockerException, requests.RequestException):
                self._client.api.remove_image(name, noprune=True)

    def _build(self, request: BuildRequest) -> str:
        try:
            return build_image(self._client, request, self._context.reporter)
        except EngineError as error:
            failure = self._server.content.files.failure
            if failure is None:
                raise
            # The file that the RUN step lacked says more than its failure.
            if isinstance(failure, WheelyardError):
                raise type(failure)(f"{failure}\n{error}") from error
            raise failure from error

    def _request(self, label: str, context: bytes, log: Path, image: str) -> BuildRequest:
        route = self._find_route(image)
        address = self._server.lay_out(context) if route.is_shared else None
        return BuildRequest(label, context, log, route.hosts, route.network, route.proxies, address)

    def _find_route(self, image: str) -> Route:
        if self._route is None:
            name, network = self._server.host_name, self._options.network
            self._route = find_route(self._client, image, name, network, self._context)
        return self._route

    def _pull(self, image: str) -> None:
        try:
            self._client.images.get(image)
        except ImageNotFound:
            self._context.reporter.info(f"pulling {image}")
            try:
                self._client.images.pull(image)
            except DockerException as error:
                raise EngineError(f"cannot pull {image}: {explain(str(error))}") from error


def inspect_engine_image(
    client: DockerClient, name: str, job: EngineBuild
) -> tuple[str, int, tuple[Finding, ...]]:
    """Return id, size in bytes and findings; InspectError if it does not match its cell."""
    api: Any = client.api  # the stubs leave this call untyped
    facts: dict[str, Any] = api.inspect_image(name)
    if job.cell.base.image is None:
        _require_base(client, facts, base_image(job.cell))
    tree: Any = read_image(client, name)
    findings = inspect_image(job.cell, job.stages[-1].lock, {"config": facts["Config"]}, tree)
    require(job.cell.id, findings)
    return str(facts["Id"]), int(facts["Size"]), findings


def _require_base(client: DockerClient, facts: Mapping[str, Any], base: str) -> None:
    """Raise InspectError unless an inspected image is based on the engine's image `base`.

    A builder may ask a registry for that name before it looks at what the engine has.
    """
    below = layers_of(find_image(client, base) or {"RootFS": {}})
    if layers_of(facts)[: len(below)] != below:
        raise InspectError(
            f"the image is not based on this engine's {base}: the builder found another image "
            "of that name. Remove that from the registries that the builder asks"
        )


def image_context(dockerfile: bytes, lock: RequirementsLock) -> bytes:
    """Return the context of an image's Dockerfile, a tar: itself, and the lock of its wheels."""
    text = render_requirements_lock(lock)
    return _pack({DOCKERFILE: dockerfile, PurePosixPath(LOCK).name: text.encode()})


def pinned_context(dockerfile: bytes) -> bytes:
    """Return the context of a base's Dockerfile, a tar: itself, selfcheck, and the scripts."""
    files = base_files()
    selfcheck = {
        f"{_PACKAGE}/{path.removeprefix(f'{WHEELYARD}/')}": content
        for path, (content, _mode) in files.items()
        if path.startswith(f"{WHEELYARD}/selfcheck/")
    }
    scripts = {
        f"{_PACKAGE}/data/{source}": files[f"{WHEELYARD}/{name}"][0]
        for source, name in SCRIPTS.items()
    }
    return _pack({DOCKERFILE: dockerfile, **selfcheck, **scripts})


def _pack(files: Mapping[str, bytes]) -> bytes:
    """Make a tar that any builder recognises: BuildKit looks for a plain header at its start."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o644
            tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()
