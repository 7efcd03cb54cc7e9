"""`--engine docker`: rendered Dockerfiles, built by the Docker Engine that answers here."""

from __future__ import annotations

import io
import os
import tarfile
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from builder.assemble.base import index_stanza
from builder.assemble.system import deb_downloads
from builder.assemble.top import selfcheck_files
from builder.building.bases import build_bases
from builder.building.loading import find_loader
from builder.engines.batch import EngineImage
from builder.engines.docker import SILENCE, connect
from builder.engines.dockerbuild import BuildRequest, build_image, require_recent
from builder.engines.readback import read_image, run_once
from builder.engines.stock import Stock, Wanted
from builder.engines.wheelhouse import LOOPBACK, Server, Shelves, open_wheelhouse
from builder.errors import EngineError, FetchError, WheelyardError
from builder.fetching.index import locate
from builder.inspecting.inspect import inspect_image, require
from builder.lock.resolve import index_urls
from builder.planning.imageconfig import base_folder, base_image
from builder.planning.installer import load_installer
from builder.rendering.dockerfiles import PackageStep, WheelStep, make_steps
from builder.rendering.render import DOCKERFILE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from docker import DockerClient

    from builder.context import Context
    from builder.engines.batch import Job, Options
    from builder.engines.stock import Refuse
    from builder.fetching.wanted import Download
    from builder.inspecting.inspect import Finding
    from builder.model import LockedDeb, LockedWheel, Plan

# Build arguments that every builder knows, and keeps out of history and cache keys.
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
# How RUN steps may reach this machine: an engine on it, or one in a virtual machine on it.
ROUTES = (("host", LOOPBACK), (None, "host-gateway"))
ASK = """
import socket, sys, urllib.request
name = sys.argv[1]
port, token = name.split("-")[1:]
address = socket.gethostbyname(name)
urllib.request.urlopen(f"http://{address}:{port}/{token}/", timeout=5)
"""


def need_engine() -> DockerClient:
    """A client of the engine that answers here, which is recent enough; EngineError if none is."""
    client = connect()
    if client is None:
        raise EngineError(
            "no Docker Engine answers here: start one (`systemctl start docker`), or name one with "
            "DOCKER_HOST or `docker context use`. `wheelyard build` without --engine needs none"
        )
    require_recent(client)
    client.api.timeout = SILENCE
    return client


@contextmanager
def docker_engine(
    jobs: Sequence[Job], plan: Plan, options: Options, context: Context
) -> Iterator[DockerEngine]:
    """The engine, with its bases, and a wheelhouse for as long as the context lasts."""
    client = need_engine()
    cells = [job.cell for job in jobs]
    load = find_loader(True, context)
    build_bases(cells, plan, options.output / "bases", context, load=load)
    with ExitStack() as stack:
        shelves = make_shelves(jobs, context)
        server = stack.enter_context(open_wheelhouse(shelves))
        engine = DockerEngine(client, context, options, server)
        engine.make_pinned_bases(jobs)
        yield engine


def make_shelves(jobs: Sequence[Job], context: Context) -> Shelves:
    """Everything that the RUN steps of these images ask for, in their order."""
    wheels: dict[str, LockedWheel] = {}
    debs: dict[str, LockedDeb] = {}
    for job in jobs:
        wheels |= {wheel.sha256: wheel for wheel in (load_installer(), *_wheels(job))}
        debs |= {deb.sha256: deb for deb in _debs(job)}
    wanted = [
        *(Wanted(w.filename, w.sha256, w.size) for w in wheels.values()),
        *(Wanted(d.path.rpartition("/")[2], d.sha256, d.size) for d in debs.values()),
    ]

    def find(missing: Collection[str], refuse: Refuse) -> list[Download]:
        found: dict[str, Download] = {}
        refused: list[tuple[WheelyardError, set[str]]] = []
        for job in jobs:
            left = set(missing) - set(found)
            try:
                found |= {item.sha256: item for item in _locate(job, left, context)}
            except FetchError as error:  # what another image shares with this one may be found yet
                refused.append((error, left & _names(job)))
        for reason, wanted in refused:
            refuse(reason, wanted - set(found))
        return list(found.values())

    return Shelves(
        Stock(wanted, find, context), tuple(wheels.values()), tuple(debs.values()), index_stanza
    )


def _locate(job: Job, left: Collection[str], context: Context) -> list[Download]:
    """Addresses of what an image needs of the files `left`."""
    asked = [wheel for wheel in (load_installer(), *_wheels(job)) if wheel.sha256 in left]
    indexes = index_urls(job.cell, context.settings)
    located = locate(asked, job.cell.python, context.settings, indexes)
    packages = [deb for deb in _debs(job) if deb.sha256 in left]
    return [
        *located,
        *(deb_downloads(packages, job.cell.base.suite, context) if packages else ()),
    ]


def _names(job: Job) -> set[str]:
    """Everything that an image needs, by SHA-256."""
    wheels = {wheel.sha256 for wheel in (load_installer(), *_wheels(job))}
    return wheels | {deb.sha256 for deb in _debs(job)}


def _wheels(job: Job) -> Iterator[LockedWheel]:
    """The wheels that a Dockerfile installs, in its order."""
    for step in make_steps(job.cell, job.locks):
        if isinstance(step, WheelStep):
            yield from step.wheels


def _debs(job: Job) -> Iterator[LockedDeb]:
    """The Debian packages that a Dockerfile and a pinned base's install, in their order."""
    if job.cell.base.image is not None:
        yield from job.stages[0].packages.packages
    for step in make_steps(job.cell, job.locks):
        if isinstance(step, PackageStep):
            yield from step.packages


class DockerEngine:
    """Builds through the SDK; RUN steps take their files from the wheelhouse."""

    def __init__(
        self, client: DockerClient, context: Context, options: Options, server: Server
    ) -> None:
        self._client, self._context = client, context
        self._options, self._server = options, server
        self._route: tuple[str | None, Mapping[str, str]] | None = None
        self._missing: dict[str, WheelyardError] = {}  # bases that could not be made

    def make_pinned_bases(self, jobs: Sequence[Job]) -> None:
        """Build the bases that start from a registry's image; one that fails stops no other."""
        pinned = {base_image(job.cell): job for job in jobs if job.cell.base.image is not None}
        for name, job in pinned.items():
            try:
                self._make_pinned_base(name, job)
            except WheelyardError as error:
                self._missing[name] = error

    def _make_pinned_base(self, name: str, job: Job) -> None:
        folder = self._context.settings.project / base_folder(job.cell)
        log = job.log.with_name(f"base-{folder.name}.log")
        image = str(job.cell.base.image)
        with pinned_context((folder / DOCKERFILE).read_bytes()) as tar:
            # The route is asked for with the image itself: there is no other yet.
            self._pull(image)
            request = self._request(f"base {folder.name}", tar, log, image)
            built = build_image(self._client, request, self._context.reporter)
        tag_image(self._client, built, name)

    def build(self, job: Job) -> EngineImage:
        """Build, read back, compare, tag."""
        client = self._client
        if (missing := self._missing.get(base_image(job.cell))) is not None:
            raise missing
        with job.timed("build"):
            request = self._request(job.cell.id, job.folder, job.log, base_image(job.cell))
            image = self._build(request)
        with job.timed("inspect"):
            image, size, findings = inspect_engine_image(client, image, job)
        for tag in job.cell.tags:
            tag_image(client, image, tag)
        return EngineImage(job.cell, image, size, job.seconds, findings, job.log)

    def _build(self, request: BuildRequest) -> str:
        try:
            return build_image(self._client, request, self._context.reporter)
        except EngineError as error:
            failure = self._server.shelves.stock.failure
            if failure is None:
                raise
            # What the RUN step missed says more than that it missed something.
            raise type(failure)(f"{failure}\n{error}") from error

    def _request(self, label: str, source: Any, log: Any, image: str) -> BuildRequest:
        network, hosts = self._find_route(image)
        proxies = {} if hosts else proxies_of(os.environ)
        network = self._options.network or network
        return BuildRequest(label, source, log, hosts, network, proxies)

    def _find_route(self, image: str) -> tuple[str | None, Mapping[str, str]]:
        """How a container reaches the wheelhouse: network and host line; no line if it cannot."""
        if self._route is None:
            self._route = self._ask_routes(image)
        return self._route

    def _ask_routes(self, image: str) -> tuple[str | None, Mapping[str, str]]:
        name = self._server.host_name
        python = "/opt/venv/bin/python" if image.startswith("wheelyard/") else "python3"
        for network, address in ROUTES:
            chosen = self._options.network or network
            try:
                run_once(
                    self._client, image, [python, "-c", ASK, name],
                    network=chosen or "default", hosts={name: address},
                )  # fmt: skip
            except EngineError:
                continue
            return chosen, {name: address}
        self._require_plain_settings()
        self._context.reporter.warn(
            "the engine's containers cannot reach this machine: RUN steps fetch everything anew, "
            "from the public index and archives"
        )
        return self._options.network, {}

    def _require_plain_settings(self) -> None:
        settings = self._context.settings
        given = {
            "--index-url": settings.index_url,
            "--debian-mirror": settings.debian_mirror,
            "--debian-security-mirror": settings.debian_security_mirror,
            "--ca-bundle": settings.ca_bundle,
        }
        named = [option for option, value in given.items() if value is not None]
        if named:
            raise EngineError(
                f"{', '.join(named)} cannot be handed to this engine's RUN steps without a trace "
                "in the image: its containers do not reach this machine. Use an engine on this "
                "machine, `--engine bake` (which passes them as secrets), or none at all"
            )

    def _pull(self, image: str) -> None:
        from docker.errors import DockerException, ImageNotFound

        from builder.engines.dockerbuild import explain

        try:
            self._client.images.get(image)
        except ImageNotFound:
            self._context.reporter.info(f"pulling {image}")
            try:
                self._client.images.pull(image)
            except DockerException as error:
                raise EngineError(f"cannot pull {image}: {explain(str(error))}") from error


def inspect_engine_image(
    client: DockerClient, name: str, job: Job
) -> tuple[str, int, tuple[Finding, ...]]:
    """Id, size in bytes and findings of an image; InspectError when it is not the cell's."""
    api: Any = client.api  # the stubs leave this call untyped
    facts: dict[str, Any] = api.inspect_image(name)
    tree: Any = read_image(client, name)
    findings = inspect_image(job.cell, job.stages[-1].lock, {"config": facts["Config"]}, tree)
    require(job.cell.id, findings)
    return str(facts["Id"]), int(facts["Size"]), findings


def tag_image(client: DockerClient, image: str, tag: str) -> None:
    """Give an image one more name."""
    repository, _, name = tag.rpartition(":")
    client.api.tag(image, repository, name)


def proxies_of(environ: Mapping[str, str]) -> dict[str, str]:
    """The proxies of an environment, as build arguments that leave no trace."""
    return {
        name: value for name in PROXIES if (value := environ.get(name) or environ.get(name.lower()))
    }


@contextmanager
def pinned_context(dockerfile: bytes) -> Iterator[io.BytesIO]:
    """The context of a base's Dockerfile: itself and selfcheck."""
    files = {DOCKERFILE: dockerfile}
    for path, (content, _mode) in selfcheck_files().items():
        if path.startswith("opt/wheelyard/"):
            files[path.removeprefix("opt/wheelyard/")] = content
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o644
            tar.addfile(info, io.BytesIO(content))
    packed.seek(0)
    yield packed
