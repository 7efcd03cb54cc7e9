"""`wheelyard devcontainer`: a configuration for your own project, or the image of one of ours."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.architecture import DEFAULT, of_machine
from wheelyard.errors import MachineError, RegistryError, UsageError
from wheelyard.options import Command, add_json, add_output, add_verify_options
from wheelyard.settings import expanded

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.model import Cell
    from wheelyard.planning.catalogue import CatalogueEntry
    from wheelyard.projects.table import Project
    from wheelyard.registry.client import Registry
    from wheelyard.rendering.devcontainers import Devcontainer
    from wheelyard.servers.pick import Choice, Host, Selection

_EXAMPLES = """\
init writes .devcontainer/devcontainer.json for the newest devel image that runs on this machine's
driver and GPUs, or the newest one for its processor if there are none; in a project of your own
(`wheelyard init`) for the project's image. feature writes .devcontainer/wheelyard,
for a project with its own image: selfcheck, and an environment that its user can write to.
prepare makes the image of one of this repository's configurations (devcontainer/NAME) and loads
it, for the processor of the engine where there is one; `make devcontainer` calls it. pin names the
images of this repository's configurations that are published, by tag and digest (that of the index,
where there are several architectures), and renders them; unpin goes back to images that are made
here.

examples:
  wheelyard devcontainer init --output ~/mine                      # chosen for this machine
  wheelyard devcontainer init --output ~/mine --framework tensorflow
  wheelyard devcontainer init --output ~/mine --cuda 12.1 --require-gpu
  wheelyard devcontainer init --output ~/mine --registry registry.example/team   # by tag and digest
  wheelyard devcontainer feature --output ~/mine     # then: "features": {"./wheelyard": {}}
  wheelyard devcontainer prepare pytorch
  wheelyard devcontainer pin --registry registry.example/team    # after `wheelyard push`; commit it
  wheelyard devcontainer pin pytorch --registry registry.example/team            # that one alone
"""

COMMAND = Command(
    "open an image in VS Code: write a configuration, or make its image",
    "Write a dev container configuration for your project, or make one of ours ready.",
    _EXAMPLES,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "action", choices=("init", "feature", "prepare", "pin", "unpin"),
        help="init, feature: write into your project; prepare: make the image of one of ours; pin: "
        "name a published image in one of ours; unpin: undo it",
    )  # fmt: skip
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="prepare, pin: name of the configuration"
    )
    parser.add_argument("--framework", metavar="NAME[-VERSION]", help="init: such as pytorch-2.3")
    parser.add_argument("--cuda", metavar="VERSION", help="init: only with this CUDA, or cpu")
    parser.add_argument("--python", metavar="VERSION", help="init: only with this Python")
    parser.add_argument(
        "--require-gpu", action="store_true", help="init: do not start without a GPU"
    )
    parser.add_argument(
        "--output", type=expanded, default=Path(), metavar="DIR",
        help="init, feature: your project (default: .)",
    )  # fmt: skip
    parser.add_argument(
        "--force", action="store_true", help="init, feature: replace existing files"
    )
    add_output(parser, "built images", option="--dist")
    add_verify_options(parser)
    add_json(parser, "an object, or a list of changed files")


def run(args: argparse.Namespace, context: Context) -> int:
    """Carry out the action; print the resulting file or image."""
    if args.action == "prepare":
        return _prepare(args, context)
    if args.action == "pin":
        return _pin(args, context)
    if args.name is not None:
        advice = f"; for a folder: --output {args.name}" if args.action in _WRITERS else ""
        raise UsageError(f"{args.action} does not take a name{advice}")
    if args.action in _WRITERS:
        return _WRITERS[args.action](args, context)
    return _unpin(args, context)


def _prepare(args: argparse.Namespace, context: Context) -> int:
    from wheelyard.devcontainers.preparing import prepare
    from wheelyard.planning.plan import load_plan
    from wheelyard.rendering.devcontainers import find_variant

    if args.name is None:
        raise UsageError("prepare needs the name of a folder below devcontainer/, such as pytorch")
    plan = load_plan(context.settings.project)
    variant = find_variant(plan.cells, args.name)
    done = prepare(variant, plan, args.dist.absolute(), context)
    _show(args, {"result": done}, "{result}")
    return 0


def _show(args: argparse.Namespace, seen: Mapping[str, object], line: str) -> None:
    """Print what was done: `line` filled from `seen`, or all of it for programs."""
    from wheelyard.console.table import show_json, show_text

    if args.json:
        show_json(seen)
    else:
        show_text(line.format(**seen))


def _pin(args: argparse.Namespace, context: Context) -> int:
    """Pin the images that the registry's catalogue has; print each changed path."""
    context.settings.require_own("`wheelyard devcontainer pin`")
    from wheelyard.planning.plan import load_plan
    from wheelyard.publish.attest.signatures import require_entry
    from wheelyard.publish.attest.trust import find_trust
    from wheelyard.publish.catalogue import fetch_catalogue
    from wheelyard.registry.client import open_registry
    from wheelyard.rendering.devcontainers import find_variant, variants
    from wheelyard.rendering.published import (
        PUBLISHED,
        find_published,
        load_published,
        published_text,
    )
    from wheelyard.system.textfiles import write_text

    settings = context.settings
    address = settings.require_registry("the registry of the images")
    trust = find_trust(args.verify_key, args.signed_as, context)
    cells = load_plan(settings.project).cells
    wanted = variants(cells) if args.name is None else (find_variant(cells, args.name),)
    kept = {} if args.name is None else load_published(settings.project)
    groups = {x.cell.id: [cell for cell in cells if cell.sibling == x.cell.id] for x in wanted}
    ids = {cell.id for group in groups.values() for cell in group}
    with open_registry(address, settings, context.reporter) as registry:
        entries = fetch_catalogue(registry, trust) or ()
        digests = {x.id: x.digest for x in entries if x.id in ids and x.digest is not None}
        for entry in entries:
            if trust is not None and entry.id in digests:
                require_entry(registry, entry, trust)
        for group in groups.values():
            digests |= _of_all_architectures(registry, group, digests)
    published = find_published(wanted, digests, address)
    images = dict.fromkeys(x.cell.tags[0] for x in wanted)
    missing = [tag for tag in images if tag not in published]
    advice = f"{address} does not have {', '.join(missing)}; `wheelyard push` publishes"
    if not published:
        raise RegistryError(f"{advice} them")
    if missing:
        context.reporter.warn(f"{advice}: made locally until then")
    write_text(settings.project / PUBLISHED, published_text(kept | published))
    return _render(args, context)


def _of_all_architectures(
    registry: Registry, group: Sequence[Cell], digests: Mapping[str, str]
) -> dict[str, str]:
    """Return what the shared tag of an image and its siblings names, by id of the former.

    Empty where one architecture alone is published. A tag that names other images than the
    catalogue is warned about: then amd64's is pinned, as the catalogue has it.
    """
    from wheelyard.registry.indexes import shared_index

    images = {cell.architecture: digests[cell.id] for cell in group if cell.id in digests}
    own = next(cell for cell in group if cell.id == cell.sibling)
    if len(images) == 1 or own.id not in digests:
        return {}
    repository, tag = registry.address.repository(own.repository), own.tags[0]
    index = shared_index(registry, repository, tag.partition(":")[2], images)
    if index is not None:
        return {own.id: index}
    registry.reporter.warn(
        f"{registry.address.reference(tag)} names other images than the catalogue, so the one for "
        f"{own.architecture} alone is pinned; `wheelyard push` moves the tag, then pin again"
    )
    return {}


def _unpin(args: argparse.Namespace, context: Context) -> int:
    from wheelyard.rendering.published import PUBLISHED

    context.settings.require_own("`wheelyard devcontainer unpin`")
    (context.settings.project / PUBLISHED).unlink(missing_ok=True)
    return _render(args, context)


def _render(args: argparse.Namespace, context: Context) -> int:
    from wheelyard.commands.render import write

    write(context, as_json=args.json)
    return 0


def _init(args: argparse.Namespace, context: Context) -> int:
    from wheelyard.projects.table import find_project_table
    from wheelyard.rendering.devcontainers import FILE, SEEN, render_devcontainer
    from wheelyard.system.templates import find_templates, make_environment
    from wheelyard.system.textfiles import write_text

    target = args.output.absolute() / SEEN / FILE
    _check_target(args, target)
    asked = args.framework or args.cuda or args.python
    project = None if asked else find_project_table(args.output.absolute())
    if project is None:
        entry, reason = _chosen(args, context)
        config, make = configuration(entry, args, context), f"wheelyard build {entry.id}"
    else:
        config, make = project_configuration(project, args, context), "wheelyard build"
        reason = f"the project's own: {project.source}"
    published = context.settings.registry is not None
    named = context.settings.project if getattr(args, "project", None) is not None else None
    environment = make_environment(find_templates(named))
    write_text(target, render_devcontainer(environment, config, written=False))
    make = "" if published else f"`{make}`, then "
    seen = {
        "file": str(target), "image": config.image, "reason": reason,
        "next": f'{make}open {args.output} in VS Code: "Reopen in Container"',
    }  # fmt: skip
    _show(args, seen, "file    {file}\nimage   {image}\nreason  {reason}\nnext    {next}")
    return 0


def _chosen(args: argparse.Namespace, context: Context) -> tuple[CatalogueEntry, str]:
    """Choose an image of the set for this machine; return the reason, too."""
    from wheelyard.contract.editor import DEVELOPMENT
    from wheelyard.publish.attest.trust import find_trust
    from wheelyard.servers.choosing import read_entries, require_entry_signed
    from wheelyard.servers.pick import Selection, require_known

    trust = find_trust(args.verify_key, args.signed_as, context)
    entries = read_entries(args.dist, context, trust)
    selection = Selection(args.framework, args.cuda, args.python, DEVELOPMENT)
    require_known(entries, selection)
    choice = _choice(entries, _host(args, context), selection, context)
    if trust is not None:
        require_entry_signed(choice.entry, trust, context)
    return choice.entry, choice.reason


def _choice(
    entries: Sequence[CatalogueEntry], host: Host, selection: Selection, context: Context
) -> Choice:
    """Choose for the host; without a GPU, amd64's image will do, which engines emulate."""
    from wheelyard.servers.pick import pick

    try:
        return pick(entries, host, selection)
    except MachineError as problem:
        if host.driver is not None or host.architecture == DEFAULT.machine:
            raise
        choice = pick(entries, replace(host, architecture=DEFAULT.machine), selection)
        context.reporter.info(f"{problem}; this one is for {DEFAULT.name}, emulated and slow here")
        return choice


def project_configuration(
    project: Project, args: argparse.Namespace, context: Context
) -> Devcontainer:
    """Return the configuration of a project's own image, with its folder over the image's code."""
    from wheelyard.rendering.devcontainers import (
        LEFT_OVER,
        Devcontainer,
        initialize_elsewhere,
        named,
    )

    title = named(project.table.name, requires_gpu=args.require_gpu)
    image, address = f"{project.table.name}:latest", context.settings.registry
    before = initialize_elsewhere(image, "make it in the project: wheelyard build")
    if address is not None:
        image, before = address.reference(image), {"left over": LEFT_OVER}
    return Devcontainer(title, image, before, args.require_gpu, project.table.workdir)


def _feature(args: argparse.Namespace, context: Context) -> int:
    from wheelyard.devcontainers.preparing import write_feature
    from wheelyard.rendering.devcontainers import SEEN

    target = args.output.absolute() / SEEN / "wheelyard"
    _check_target(args, target)
    write_feature(context.settings.project, target)
    line = '{folder}\nin devcontainer.json: "features": {{"./wheelyard": {{}}}}'
    _show(args, {"folder": str(target)}, line)
    return 0


def _check_target(args: argparse.Namespace, target: Path) -> None:
    if args.output.exists() and not args.output.is_dir():
        raise UsageError(f"--output {args.output} is not a folder; name the folder of your project")
    if target.exists() and not args.force:
        raise UsageError(f"{target} exists already; --force replaces it")


def _host(args: argparse.Namespace, context: Context) -> Host:
    """Return what is known about this machine; if nothing is, the newest image is chosen."""
    from wheelyard.servers.choosing import host_of
    from wheelyard.servers.machine import read_gpus
    from wheelyard.servers.pick import Host

    seen = read_gpus()
    if seen.driver is None or args.cuda == "cpu":
        context.reporter.info(f"not chosen for a GPU: {seen.problem or '--cuda cpu'}")
        here = of_machine(platform.machine())
        return Host(None, architecture=platform.machine() if here is None else here.machine)
    return host_of(seen.driver)


def configuration(
    entry: CatalogueEntry, args: argparse.Namespace, context: Context
) -> Devcontainer:
    """Return the configuration of an image, by tag and digest or as loaded in the engine."""
    from wheelyard.rendering.devcontainers import (
        LEFT_OVER,
        Devcontainer,
        clone_advice,
        initialize_elsewhere,
        named,
    )
    from wheelyard.servers.pick import named as image_name

    title = named(f"{image_name(entry)}, Python {entry.python}", requires_gpu=args.require_gpu)
    address = context.settings.registry
    if address is None:
        before = initialize_elsewhere(entry.tags[0], clone_advice(entry.id))
        return Devcontainer(title, entry.tags[0], before, args.require_gpu)
    digest = f"@{entry.digest}" if entry.digest else ""
    image = address.reference(entry.tags[0]) + digest
    return Devcontainer(title, image, {"left over": LEFT_OVER}, args.require_gpu)


_WRITERS = {"init": _init, "feature": _feature}
