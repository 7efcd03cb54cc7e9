"""`wheelyard run`: start an image with this folder, this user and the GPUs there are."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.options import Command, add_output, completed, port

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.contract.runtimes import Runtime
    from wheelyard.projects.table import Project
    from wheelyard.servers.running import Start

_EXAMPLES = """\
examples:
  wheelyard run pytorch-2.3                          # a shell in this folder
  wheelyard run pytorch-2.3 python train.py          # your program
  wheelyard run --port 8888 pytorch-2.3-devel jupyter lab
  wheelyard run --registry registry.example/team tensorflow
  wheelyard run --print pytorch-2.3                  # the line, for a script

IMAGE is a selector (see `wheelyard plan --help`), a tag, or any image's name. Where several images
are meant, it is the one that `wheelyard pick` takes for this machine. What the engine lacks is
pulled from --registry, or else built. The current folder is at /workspace, files that are written
there are yours, and GPUs are passed on if there are any.

In a project of your own (`wheelyard init`) IMAGE is `.`, or nothing: the project's image with its
folder mounted over the code, and its ports.

  wheelyard run                                      # the project's command
  wheelyard run . python train.py                    # another one
  wheelyard run --image-code                         # what would be published: nothing is mounted
"""

COMMAND = Command(
    "start an image, with this folder and the GPUs that are here",
    "Build or pull an image if needed, and start it with the current folder at /workspace.",
    _EXAMPLES,
    needs_project=False,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    completed(
        parser.add_argument(
            "image",
            metavar="IMAGE",
            nargs="?",
            help="selector, tag, or name of an image; `.` or nothing: your own project",
        )
    )
    parser.add_argument(
        "command_line", metavar="CMD", nargs=argparse.REMAINDER,
        help="what to run there, with its arguments (default: what the image starts)",
    )  # fmt: skip
    parser.add_argument("--flavour", default="runtime", metavar="NAME", help="default: runtime")
    parser.add_argument(
        "--port", action="append", type=port, default=[], metavar="N",
        help="reach this port on 127.0.0.1; may be given more than once",
    )  # fmt: skip
    parser.add_argument("--runtime", choices=("docker", "podman"), help="default: what is here")
    parser.add_argument("--no-gpus", action="store_true", help="leave the GPUs alone")
    parser.add_argument(
        "--image-code", action="store_true",
        help="in a project: run the code that is in the image, as --no-mount does",
    )  # fmt: skip
    parser.add_argument("--no-mount", action="store_true", help="do not mount this folder")
    parser.add_argument(
        "--print", action="store_true", help="print the line instead; builds and pulls nothing"
    )
    add_output(parser, "images that are built")


def run(args: argparse.Namespace, context: Context) -> int:
    """Become the engine's command; returns only with --print."""
    from wheelyard.errors import UsageError
    from wheelyard.projects.find import own_project
    from wheelyard.servers import running
    from wheelyard.servers.pick import Selection

    if args.command_line and args.command_line[0].startswith("-"):
        raise UsageError(
            f"{args.command_line[0]}: options go before IMAGE; what follows IMAGE is run in it"
        )
    args.image = None if args.image == "." else args.image
    project = own_project(args, context, needs="IMAGE") if args.image is None else None
    if project is not None:
        return _run_project(project, running.find_runtime(args.runtime), args, context)
    dist = args.output.absolute()
    image, plan = running.find_image(args.image, Selection(flavour=args.flavour), dist, context)
    runtime = running.find_runtime(args.runtime)
    if not args.print:
        running.bring(image, plan, runtime, dist, context)
    start = _start(running.engine_name(image, runtime), runtime, args, context)
    return _become(runtime, start, only_print=args.print)


def _run_project(
    project: Project, runtime: Runtime, args: argparse.Namespace, context: Context
) -> int:
    """Build the project's image, load it, and start it with the project's folder."""
    from dataclasses import replace

    from wheelyard.errors import EngineError
    from wheelyard.images.build.loading import find_loader
    from wheelyard.projects.find import project_output
    from wheelyard.projects.local import build_project, load_into_docker, load_into_podman

    args.no_mount |= args.image_code
    table = project.table
    name = f"{table.name}:latest"
    if runtime.name == "podman":
        name = f"localhost/{name}"
    if not args.print:
        built = build_project(project, project_output(project, args.output), context)
        if runtime.name == "podman":
            load_into_podman(built, context)
        elif loader := find_loader(wanted=True, context=context):
            load_into_docker(built, loader, context)
        else:
            raise EngineError("no Docker Engine answers; start one, or use --runtime podman")
    start = _start(name, runtime, args, context)
    folder = None if args.no_mount else project.folder
    ports = tuple(dict.fromkeys((*table.ports, *start.ports)))
    start = replace(start, folder=folder, ports=ports, place=table.workdir)
    return _become(runtime, start, only_print=args.print)


def _start(image: str, runtime: Runtime, args: argparse.Namespace, context: Context) -> Start:
    import os
    import sys

    from wheelyard.servers import running

    return running.Start(
        image,
        tuple(args.command_line),
        None if args.no_mount else Path.cwd(),
        (os.getuid(), os.getgid()),
        gpus=not args.no_gpus and running.uses_gpus(runtime, context),
        ports=tuple(args.port),
        terminal=args.print or (sys.stdin.isatty() and sys.stdout.isatty()),
        rootless=os.geteuid() != 0,
    )


def _become(runtime: Runtime, start: Start, *, only_print: bool) -> int:
    import os
    import shlex
    import sys

    from wheelyard.servers import running

    line = running.start_line(runtime.name, start)
    if only_print:
        print(shlex.join(line))
        return 0
    sys.stdout.flush()
    os.execvp(line[0], line)  # noqa: S606 - signals, terminal and exit code are the engine's
    raise AssertionError("execvp returned")
