"""Composes a project's image and pushes it: the base's blobs are mounted, its own are sent."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.errors import (
    LockError,
    ProjectError,
    RegistryError,
    ToolMissingError,
    UsageError,
)
from wheelyard.fetching.replies import Gone
from wheelyard.images.assemble.store import LayerStore
from wheelyard.oci.documents import UnreadableError
from wheelyard.oci.layout import Layout
from wheelyard.projects.files import project_files
from wheelyard.projects.image import ProjectImage, describe_project_image
from wheelyard.projects.layers import Workshop, project_layers
from wheelyard.projects.published import FoundBase, find_base
from wheelyard.projects.pylock import read_lock
from wheelyard.projects.state import lock_problems
from wheelyard.projects.table import read_project
from wheelyard.registry.client import Registry, get_manifest
from wheelyard.registry.push import Publication, Pushed, push_image
from wheelyard.system.subprocesses import run

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.images.assemble.bytecode import Interpreter
    from wheelyard.projects.model import ProjectLock
    from wheelyard.projects.table import Project
    from wheelyard.publish.attest.keys import PrivateKey
    from wheelyard.publish.attest.trust import Trust

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_POLL = 0.25  # seconds


@contextmanager
def composed(
    project: Project,
    base: FoundBase,
    lock: ProjectLock,
    base_name: str,
    context: Context,
    interpreter: Interpreter | None = None,
) -> Iterator[tuple[Layout, ProjectImage]]:
    """Yield the project's image in a layout that lasts as long as the context.

    It holds the project's own layers, and the base's where they are on this machine.
    """
    store = LayerStore(context.settings.cache_dir)
    with tempfile.TemporaryDirectory(prefix="wheelyard-project-") as name:
        scratch = Path(name)
        shop = Workshop(store, scratch, context, interpreter, base.layout)
        layers = project_layers(project, base.image, lock, shop)
        layout = Layout(scratch / "image")
        layout.create()
        for layer in layers:
            _place(layout, layer.stored.layer.digest, layer.stored.path)
        if base.layout is not None:
            for digest in (layer["digest"] for layer in base.image.manifest["layers"]):
                _place(layout, digest, base.layout.blob(digest))
        yield layout, describe_project_image(layout, project, base.image, lock, layers, base_name)


def _place(layout: Layout, digest: str, source: Path) -> None:
    target = layout.blob(digest)
    if not target.is_symlink():
        target.symlink_to(source)


@dataclass(frozen=True, slots=True)
class PushOptions:
    """How a project's image is published."""

    tags: tuple[str, ...] = ()  # empty: `default_tags`
    dist: Path = Path("dist")  # a layout that may have the base
    key: PrivateKey | None = None  # that signs the image before a tag moves
    trust: Trust | None = None  # whose signature the base must have
    bytecode: bool = False  # compile the project's wheels with the base's Python


def push_project(
    project: Project, registry: Registry, options: PushOptions, context: Context
) -> Pushed:
    """Publish the image of the project: its lock, and its code as it is in the folder.

    Raises LockError, ProjectError and RegistryError; then no tag has moved.
    """
    lock = current_lock(project)
    tags = _checked(options.tags or default_tags(project))
    base = find_base(lock, registry, options.dist, context, options.trust)
    name, key = project.table.name, options.key
    base_name = registry.address.reference(lock.base)
    python = None
    if options.bytecode:
        from wheelyard.projects.interpreter import find_interpreter

        python = find_interpreter(base, registry, context)
    with composed(project, base, lock, base_name, context, python) as (layout, image):
        digest = image.manifest.digest

        def supply(missing: Sequence[str]) -> None:
            lost = [x for x in missing if x in image.inherited and not layout.blob(x).is_file()]
            if lost:
                raise ProjectError(
                    f"{registry.address} lacks {len(lost)} of {len(image.inherited)} layers of "
                    f"{lock.base} ({lost[0][:19]}...), and this machine has no copy: publish the "
                    "base there (wheelyard push), or push to the registry that has it"
                )

        def sign() -> None:
            if key is not None:
                from wheelyard.publish.attest.signatures import sign_image

                sign_image(registry, name, digest, key)

        push = partial(
            push_image,
            registry,
            layout,
            Publication(name, digest, tuple(f"{name}:{tag}" for tag in tags)),
            [base.image.repository],
            context.settings.cache_dir / "uploads",
            supply,
            # No other repository has this config, nor this code.
            own=(
                layout.read_json(digest)["config"]["digest"],
                image.layers[-1].stored.layer.digest,
            ),
            complete=sign,
        )
        if present := _present(registry, name, tags[0]):
            try:
                return push(present=present)
            except RegistryError as error:  # it may have lost one of them: ask for each
                context.reporter.info(f"asking for every layer: {error}")
        return push()


def _present(registry: Registry, name: str, tag: str) -> frozenset[str]:
    """Return what the image consists of that the tag names now: one request instead of thirty."""
    repository = registry.address.repository(name)
    try:
        manifest = get_manifest(registry, repository, tag)
    except (Gone, RegistryError, UnreadableError):  # another push says what is wrong
        return frozenset()
    return frozenset(blob.digest for blob in (manifest.config, *manifest.layers))


def current_lock(project: Project) -> ProjectLock:
    """Read the project's lock; raise LockError if there is none or the project has changed."""
    lock = read_lock(project.lock)
    if problems := lock_problems(project, lock, None):
        raise LockError(
            f"{project.lock} is out of date ({'; '.join(problems)}); write it again: wheelyard lock"
        )
    return lock


def _checked(tags: Sequence[str]) -> Sequence[str]:
    for tag in tags:
        if not _TAG.fullmatch(tag):
            raise UsageError(
                f"{tag!r} is not a tag: letters, digits, dots, dashes and underscores, 128 at most"
            )
    return tuple(dict.fromkeys(tags))


def watched(project: Project, context: Context) -> Iterator[Project]:
    """Yield the project now, and again after every change of its files, until interrupted."""
    while True:
        seen = _state(project)
        yield project
        context.reporter.info(f"waiting for changes in {project.folder} (Ctrl-C ends this)")
        while (now := _state(project)) == seen:
            time.sleep(_POLL)
        while now != (now := _state(project)):  # an editor or git is still writing
            time.sleep(_POLL)
        project = read_project(project.folder) or project


def _state(project: Project) -> list[tuple[str, int, int, int]]:
    """Return what changes when any file of the project does."""
    try:
        return [
            (one.path, one.status.st_size, one.status.st_mtime_ns, one.status.st_mode)
            for one in project_files(project)
        ]
    except ProjectError:  # said when it is pushed
        return []


def default_tags(project: Project) -> tuple[str, ...]:
    """Return `latest`, and the project's version or else its revision in git."""
    version = project.metadata.get("version")
    if isinstance(version, str):
        return "latest", version.replace("+", "-")
    argv = ["git", "-C", str(project.folder), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        result = run([*argv, "--exclude=*"], error=None)
    except ToolMissingError:
        return ("latest",)
    revision = result.stdout.strip()
    return ("latest", revision) if result.returncode == 0 and revision else ("latest",)
