"""`wheelyard build`: assemble images, or let an engine build their Dockerfiles."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from wheelyard.options import Command, add_bytecode, add_json, add_load, add_output, add_selector

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.dockerfiles.batch import Engine, EngineBuild, Options
    from wheelyard.images.build.results import Built, EngineImage, Failed
    from wheelyard.model import Plan
    from wheelyard.projects.table import Project

    Opener = Callable[
        [Sequence[EngineBuild], Plan, Options, Context], AbstractContextManager[Engine]
    ]

_EXAMPLES = """\
examples:
  wheelyard build cuda12.1                       # every CUDA 12.1 image, into dist/
  wheelyard build pytorch-2.3.1-devel --no-load  # no engine, just the OCI image layout
  wheelyard build pytorch-2.4 --output /srv/oci  # another folder
  wheelyard build all --fail-fast --json         # for programs
  wheelyard build cuda12.8 --prune-wheels        # a slice of the matrix on a small disk
  wheelyard build pytorch-2.3 --engine docker    # the rendered Dockerfile, by the Docker Engine
  wheelyard build cuda12.1 --engine bake         # all of them at once, by BuildKit

One failure does not stop the other images; the exit code is that of the first failure.
After an interruption, run the command again to continue. To load an image into Docker fastest, use
--engine docker; to push it, use the default, assemble.

In a project of your own (`wheelyard init`) no SELECTOR is needed: `wheelyard build` puts the
project's image into dist/ and into the engine, which takes the base from its registry.
"""

COMMAND = Command(
    "build images from their locks",
    "Assemble the chosen images into an OCI image layout, without a daemon; or "
    "with --engine let a container engine build their Dockerfiles.",
    _EXAMPLES,
    needs_project=False,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_selector(parser, default=None)
    parser.add_argument(
        "--engine", choices=("assemble", "docker", "bake"), default="assemble",
        help="assemble (default): no engine; docker: the engine that DOCKER_HOST or the docker "
        "context names; bake: docker buildx bake, on the builder that BUILDX_BUILDER names",
    )  # fmt: skip
    add_output(parser, "image layout to write; engines write logs there")
    add_load(parser, "load into the Docker Engine and tag there")
    parser.add_argument(
        "--prune-wheels",
        action="store_true",
        help="remove each wheel from the cache after the last image of this run that needs it",
    )
    parser.add_argument(
        "--network",
        metavar="MODE",
        help="network of RUN steps, for --engine docker and bake: host, none, default",
    )
    parser.add_argument(
        "--recompute",
        action="store_true",
        help="make every layer of wheels again, inflated and hashed whole; trust neither the "
        "layers in the cache nor images/layers.json",
    )
    add_bytecode(parser)
    parser.add_argument("--fail-fast", action="store_true", help="stop at the first failure")
    add_json(parser)


def run(args: argparse.Namespace, context: Context) -> int:
    """Build the selection; print the results and return the first failure's exit code."""
    from wheelyard.images.build.results import Failed
    from wheelyard.projects.find import own_project

    if project := own_project(args, context, needs="SELECTOR"):
        return _build_project(project, args, context)
    results = _assemble(args, context) if args.engine == "assemble" else _engine(args, context)
    _show(results, as_json=args.json)
    if not args.json:
        _say_where(results, args, context)
    failures = [result for result in results if isinstance(result, Failed)]
    return failures[0].error.exit_code if failures else 0


def _build_project(project: Project, args: argparse.Namespace, context: Context) -> int:
    from wheelyard.console.amounts import amount
    from wheelyard.console.table import show_json, show_table
    from wheelyard.errors import UsageError
    from wheelyard.images.build.loading import find_loader
    from wheelyard.projects.find import project_output
    from wheelyard.projects.local import build_project, load_into_docker

    if args.engine != "assemble":
        raise UsageError("--engine is for images of a set; a project is assembled without one")
    loader = find_loader(args.load, context)
    built = build_project(
        project, project_output(project, args.output), context, bytecode=args.bytecode
    )
    if loader is not None:
        load_into_docker(built, loader, context)
    own = sum(layer.size for layer in built.layers)
    if args.json:
        show_json({"tag": built.tag, "digest": built.manifest.digest, "own_bytes": own})
        return 0
    row = (built.tag, built.manifest.digest[:19], amount(own, "bytes"))
    show_table(("image", "digest", "beside the base"), [row])
    if not built.is_whole:
        context.reporter.info(
            f"{args.output} refers to {built.base_name}, whose layers it does not hold"
        )
    return 0


def _assemble(args: argparse.Namespace, context: Context) -> Sequence[Built | Failed]:
    from wheelyard.images.assemble.pool import warm_up

    warm_up()
    from wheelyard.images.build.build import build_images
    from wheelyard.images.build.loading import find_loader
    from wheelyard.planning.plan import load_plan
    from wheelyard.planning.selector import select

    plan = load_plan(context.settings.project)
    return build_images(
        select(plan, args.selector),
        plan,
        args.output.absolute(),
        context,
        load=find_loader(args.load, context),
        fail_fast=args.fail_fast,
        prune=args.prune_wheels,
        recompute=args.recompute,
    )


def _engine(args: argparse.Namespace, context: Context) -> Sequence[EngineImage | Failed]:
    from wheelyard.dockerfiles.bake import bake_engine
    from wheelyard.dockerfiles.batch import Options, make_jobs, run_batch
    from wheelyard.dockerfiles.docker_engine import docker_engine
    from wheelyard.planning.plan import load_plan
    from wheelyard.planning.selector import select

    context.settings.require_own(f"--engine {args.engine}")
    plan = load_plan(context.settings.project)
    options = Options(args.output.absolute(), args.network, args.load, args.fail_fast)
    cells = select(plan, args.selector)
    jobs, failed = make_jobs(cells, plan, options.output, context)
    if not jobs or (failed and options.fail_fast):
        return failed
    engines: dict[str, Opener] = {"docker": docker_engine, "bake": bake_engine}
    with engines[args.engine](jobs, plan, options, context) as engine:
        results = [*failed, *run_batch(engine, jobs, context, fail_fast=options.fail_fast)]
    return sorted(results, key=lambda result: cells.index(result.cell))


def _say_where(
    results: Sequence[Built | EngineImage | Failed], args: argparse.Namespace, context: Context
) -> None:
    """Say where the images are, whether an engine has them, and what to run next."""
    from wheelyard.images.build.results import Built

    built = [result for result in results if isinstance(result, Built)]
    if not built:
        return
    tag = built[0].cell.tags[0]
    images = "1 image is" if len(built) == 1 else f"{len(built)} images are"
    if all(result.loaded for result in built):
        ending = f"Docker has {'it' if len(built) == 1 else 'them'}"
        following = f"docker run --rm {tag} selfcheck versions libraries"
    else:
        ending = "not loaded: " + (
            "--no-load" if args.load is False else "no Docker Engine can be used"
        )
        following = f"tar -C {args.output} -c . | docker load"
    context.reporter.info(f"{images} in {args.output}; {ending}. Next: {following}")


def _show(results: Sequence[Built | EngineImage | Failed], *, as_json: bool) -> None:
    from wheelyard.console.table import show_json, show_table
    from wheelyard.images.build.results import Failed

    if as_json:
        show_json(
            [
                {"id": r.cell.id, "error": str(r.error), "exit_code": r.error.exit_code}
                if isinstance(r, Failed)
                else _json(r)
                for r in results
            ]
        )
        return
    headers = ("image", "digest", "compressed", "unpacked", "not shared", "time")
    rows = [
        (r.cell.id, "failed", "", "", "", "") if isinstance(r, Failed) else _row(r) for r in results
    ]
    used = [i for i in range(len(headers)) if not rows or i < 2 or any(row[i] for row in rows)]
    show_table([headers[i] for i in used], [[row[i] for i in used] for row in rows])


def _json(result: Built | EngineImage) -> dict[str, object]:
    from wheelyard.images.build.report import engine_json, image_json
    from wheelyard.images.build.results import Built

    return image_json(result) if isinstance(result, Built) else engine_json(result)


def _row(result: Built | EngineImage) -> tuple[str, ...]:
    from wheelyard.console.amounts import amount
    from wheelyard.images.build.results import Built

    time = f"{sum(result.seconds.values()):.1f} s"
    if not isinstance(result, Built):
        return (result.cell.id, result.id[:19], "", amount(result.size, "bytes"), "", time)
    return (
        result.cell.id,
        result.image.manifest.digest[:19],
        amount(result.image.size, "bytes"),
        amount(result.image.unpacked_size, "bytes"),
        amount(result.new_bytes, "bytes"),
        time,
    )
