"""`wheelyard deploy`: files that run a chosen image on servers."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.options import Command, add_json, add_output, add_verify_options, completed, port
from wheelyard.rendering.deployments import KINDS, Deployment
from wheelyard.settings import expanded

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.planning.catalogue import CatalogueEntry
    from wheelyard.projects.table import Project
    from wheelyard.publish.attest.trust import Trust

_EXAMPLES = """\
examples:
  wheelyard deploy pytorch:2.3.1-devel --kind compose --registry registry.example/team
  wheelyard deploy pytorch:2.3.1 --kind compose --command "python train.py" --workspace ./
  wheelyard deploy pytorch:2.3.1 --kind job --command "python train.py" --workspace pvc:project
  wheelyard deploy pytorch:2.3.1 --kind quadlet --command "python serve.py" --port 8000
  wheelyard deploy pytorch:2.3.1 --kind apptainer --output slurm
  wheelyard deploy pytorch:2.3.1 --kind job --registry registry.example/team --verify-key cosign.pub

The image is named by its digest if the registry's catalogue or a local build has it. Without
--command, a devel image runs JupyterLab; any other image and every Job run `selfcheck`. JupyterLab
requires a token, which it generates unless JUPYTER_TOKEN is set. Without a token it does not start
on an address that others can reach.

In a project of your own (`wheelyard init`) no IMAGE is needed: the pushed image, with the table's
command and port.

  wheelyard deploy --kind compose --registry registry.example/team
"""

COMMAND = Command(
    "write the files that run an image with compose, Kubernetes, podman, Apptainer",
    "Render a compose file, a Kubernetes manifest, a quadlet or a definition.",
    _EXAMPLES,
    needs_project=False,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    completed(
        parser.add_argument(
            "image",
            metavar="IMAGE",
            nargs="?",
            help="id or tag, as listed by `wheelyard plan`; nothing: your own project",
        )
    )
    parser.add_argument("--kind", required=True, choices=KINDS, help="what to write files for")
    parser.add_argument(
        "--output",
        type=expanded,
        default=Path(),
        metavar="DIR",
        help="folder to write to (default: .)",
    )
    parser.add_argument("--force", action="store_true", help="replace existing files")
    parser.add_argument("--command", metavar="WORDS", dest="words", help="command to run")
    parser.add_argument("--port", type=port, metavar="N", help="port that the command listens on")
    parser.add_argument(
        "--listen",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address of this host (default: 127.0.0.1)",
    )
    parser.add_argument(
        "--gpus",
        type=_count,
        metavar="N",
        help="number of GPUs, or 0 (default: all; Kubernetes: 1)",
    )
    parser.add_argument(
        "--workspace",
        metavar="WHAT",
        help="content of /workspace: a folder, volume, image (its own), pvc:NAME, configmap:NAME "
        "(default: volume for JupyterLab, else image)",
    )
    parser.add_argument("--name", help="name of service, unit, container (default: the image's)")
    add_output(parser, "built images", option="--dist")
    add_verify_options(parser)
    add_json(parser, "an object")


def run(args: argparse.Namespace, context: Context) -> int:
    """Write the files; print their paths."""
    from wheelyard.console.table import show_json
    from wheelyard.errors import UsageError
    from wheelyard.projects.find import own_project
    from wheelyard.publish.attest.trust import find_trust
    from wheelyard.rendering.deployments import ARRIVAL, render_deployment
    from wheelyard.servers.choosing import read_entries, require_entry_signed
    from wheelyard.system.templates import make_environment
    from wheelyard.system.textfiles import write_text

    trust = find_trust(args.verify_key, args.signed_as, context)
    project = own_project(args, context, needs="IMAGE") if args.image is None else None
    if project is not None:
        deployment = _project_deployment(project, args, context, trust)
    else:
        if context.settings.registry is None:
            context.mention_packaged()
        entry = _find(read_entries(args.dist, context, trust), args.image)
        if trust is not None:
            require_entry_signed(entry, trust, context)
        deployment = _deployment(entry, args, context)
    environment = make_environment(_templates(args, context))
    files = render_deployment(environment, deployment)
    folder = args.output.absolute()
    there = [str(folder / name) for name in files if (folder / name).exists()]
    if there and not args.force:
        raise UsageError(f"{', '.join(there)} exists already; --force replaces it")
    for name, text in files.items():
        write_text(folder / name, text)
    notes = [ARRIVAL[args.kind]] if args.kind in ARRIVAL and not deployment.local else []
    if args.json:
        written = [str(folder / name) for name in files]
        told = {"image": deployment.image, "command": deployment.command, "files": written}
        show_json({**told, "notes": notes})
    else:
        print(*(folder / name for name in files), sep="\n")
        for note in notes:
            context.reporter.info(note)
    _warn(deployment, context)
    return 0


def _templates(args: argparse.Namespace, context: Context) -> Path:
    """Return the named project's templates; mention those of the current folder's project."""
    from wheelyard.system.templates import find_templates

    project = context.settings.project
    if getattr(args, "project", None) is not None:
        return find_templates(project)
    templates, here = find_templates(None), project / "templates"
    if (here / "deploy").is_dir() and not here.samefile(templates):
        context.reporter.info(f"{here} is not used; --project {project} would use its templates")
    return templates


def _find(entries: Sequence[CatalogueEntry], wanted: str) -> CatalogueEntry:
    import difflib

    from wheelyard.errors import SelectionError

    for entry in entries:
        if wanted in (entry.id, *entry.tags):
            return entry
    near = difflib.get_close_matches(wanted, [name for e in entries for name in (e.id, *e.tags)])
    hint = f"; did you mean {', '.join(near)}?" if near else "; `wheelyard plan` lists them"
    raise SelectionError(f"there is no image {wanted!r}{hint}")


def _deployment(entry: CatalogueEntry, args: argparse.Namespace, context: Context) -> Deployment:
    from wheelyard.contract.editor import DEVELOPMENT
    from wheelyard.oci.address import pinned
    from wheelyard.planning.facts import CPU
    from wheelyard.rendering.deployments import IMAGE, JUPYTER_PORT, VOLUME, Deployment
    from wheelyard.servers.pick import named

    address, tag = context.settings.registry, entry.tags[0]
    reference = tag if address is None else address.reference(tag)
    known = address is not None and entry.digest is not None
    gpus = entry.cuda != CPU and args.gpus != 0
    jupyter = args.words is None and args.kind != "job" and entry.flavour == DEVELOPMENT
    return Deployment(
        kind=args.kind,
        name=args.name or tag.partition(":")[0],
        title=f"{named(entry)}, Python {entry.python}",
        tag=tag,
        image=pinned(reference, str(entry.digest)) if known else reference,
        local=address is None,
        command=_command(args, jupyter=jupyter, gpus=gpus),
        jupyter=jupyter,
        port=JUPYTER_PORT if jupyter else args.port,
        listen=args.listen,
        with_gpus=gpus,
        gpus=args.gpus or None,
        architecture=entry.architecture,
        workspace=args.workspace or (VOLUME if jupyter else IMAGE),
    )


def _project_deployment(
    project: Project, args: argparse.Namespace, context: Context, trust: Trust | None
) -> Deployment:
    """Describe the project's image as it was pushed, or without a registry as it was loaded."""
    from wheelyard.errors import ProjectError, UsageError
    from wheelyard.oci.address import pinned
    from wheelyard.planning.facts import CPU
    from wheelyard.projects.pylock import read_lock
    from wheelyard.publish.attest.signatures import require_signed
    from wheelyard.registry.client import manifest_digest, open_registry
    from wheelyard.rendering.deployments import IMAGE, Deployment

    table, address = project.table, context.settings.registry
    image = tag = f"{table.name}:latest"
    base = read_lock(project.lock).base
    if address is not None:
        with open_registry(address, context.settings, context.reporter) as registry:
            digest = manifest_digest(registry, address.repository(table.name), "latest")
            if digest is None:
                raise ProjectError(f"{address.reference(tag)} does not exist; run: wheelyard push")
            if trust is not None:
                require_signed(registry, table.name, digest, trust)
        image = pinned(address.reference(tag), digest)
    command = table.command if args.words is None else _command(args, jupyter=False, gpus=False)
    if not command:
        raise UsageError(f"no command is given: add `command` to {project.source}, or --command")
    gpus = f"-{CPU}-" not in f"{base}-" and args.gpus != 0
    return Deployment(
        kind=args.kind,
        name=args.name or table.name.rpartition("/")[2],
        title=f"{table.name} on {base}".replace(":", " ").replace("/", " "),
        tag=tag,
        image=image,
        local=address is None,
        command=command,
        jupyter=False,
        port=args.port or next(iter(table.ports), None),
        listen=args.listen,
        with_gpus=gpus,
        gpus=args.gpus or None,
        workspace=args.workspace or IMAGE,
    )


def _command(args: argparse.Namespace, *, jupyter: bool, gpus: bool) -> tuple[str, ...]:
    import shlex

    from wheelyard.errors import UsageError
    from wheelyard.rendering.deployments import jupyter_command

    if jupyter:
        if args.port is not None:
            raise UsageError("--port needs --command; JupyterLab has its own port")
        return jupyter_command(args.kind, args.listen)
    if args.words is None and args.kind == "deployment":
        raise UsageError(
            "a Deployment restarts a program that ends: name a server with --command, take a devel "
            "image for JupyterLab, or use --kind job"
        )
    if args.words is None:
        return ("selfcheck", "--require-gpu") if gpus else ("selfcheck",)
    try:
        words = tuple(shlex.split(args.words))
    except ValueError as error:
        raise UsageError(f"--command {args.words}: {error}") from None
    if not words:
        raise UsageError("--command is empty")
    return words


def _warn(deployment: Deployment, context: Context) -> None:
    """Warn about what the files cannot solve."""
    import ipaddress

    if deployment.local:
        context.reporter.warn(
            f"{deployment.image} is known only to engines that loaded it; --registry HOST/PREFIX "
            "names it for other machines"
        )
    elif "@" not in deployment.image:
        context.reporter.warn(
            f"{deployment.image} is named by its tag, which may move: the catalogue has no "
            "digest of it"
        )
    if deployment.port and not ipaddress.ip_address(deployment.listen).is_loopback:
        context.reporter.warn(
            f"port {deployment.port} will be reachable from elsewhere, without encryption: put a "
            "reverse proxy with TLS before it"
        )


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not a number of GPUs")
    return int(text)
