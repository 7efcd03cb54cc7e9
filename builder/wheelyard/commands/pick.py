"""`wheelyard pick`: the best image for a GPU server, why, and how to start it."""

from __future__ import annotations

import argparse
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wheelyard.options import Command, add_json, add_output, add_verify_options

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.contract.runtimes import Runtime
    from wheelyard.planning.catalogue import Entry
    from wheelyard.publish.attest.trust import Trust
    from wheelyard.selfcheck.gpu.driver import Driver
    from wheelyard.servers.machine import Engine
    from wheelyard.servers.pick import Choice, Host

EXAMPLES = """\
examples:
  wheelyard pick                                  for this machine
  wheelyard pick --driver 535.104 --gpu sm_90     for another one
  wheelyard pick --framework tensorflow --json    for programs
  wheelyard pick --framework pytorch-2.3 --registry registry.example/team
  wheelyard pick --registry registry.example/team --verify-key cosign.pub

Images come from the matrix of the project, else from the catalogue that `wheelyard push` keeps
beside the images in --registry. Exit code 17 with the condition that fails if none runs.
"""

COMMAND = Command(
    "find the best image for a GPU server, and how to start it",
    "Read driver, GPUs and container runtime; print the best image and why.",
    EXAMPLES,
    needs_project=False,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `pick` takes, and `pull` as well."""
    from wheelyard.contract.runtimes import COMMANDS

    parser.add_argument("--driver", metavar="VERSION", help="NVIDIA driver of another machine")
    parser.add_argument(
        "--gpu", action="append", default=[], metavar="SM", help="its compute capability: sm_90"
    )
    parser.add_argument("--runtime", choices=COMMANDS, help="its container runtime")
    parser.add_argument("--framework", metavar="NAME[-VERSION]", help="such as pytorch-2.3")
    parser.add_argument("--cuda", metavar="VERSION", help="only images with this CUDA, or cpu")
    parser.add_argument("--python", metavar="VERSION", help="only images with this Python")
    parser.add_argument("--flavour", default="runtime", metavar="NAME", help="default: runtime")
    add_output(parser, "built images")
    add_verify_options(parser)
    add_json(parser, "an object")


def run(args: argparse.Namespace, context: Context) -> int:
    """Print the choice; raises MachineError where nothing runs."""
    from wheelyard.console.plain import one_line
    from wheelyard.console.table import show_json

    found = choose(args, context)
    if args.json:
        show_json(found)
        return 0
    for name in ("image", "reason", "build", "run"):
        if found[name] is not None:
            print(f"{name:<8}{one_line(found[name])}")
    print(f"{'pull':<8}{_pull_text(found)}")
    for note in found["notes"]:
        print(f"{'note':<8}{one_line(note)}")
    return 0


def choose(args: argparse.Namespace, context: Context) -> dict[str, Any]:
    """The choice as an object: id, image, cuda, reason and what else is known."""
    from wheelyard.planning.facts import CPU
    from wheelyard.servers.machine import Engine, read_engine
    from wheelyard.servers.pick import Wish, pick

    elsewhere = args.driver is not None or bool(args.gpu)
    wish = Wish(args.framework, args.cuda, args.python, args.flavour)
    trust = find_trust(args, context)
    entries = read_entries(args.output, context, trust)
    host = _host(args, cpu=any(entry.cuda == CPU for entry in entries))
    choice = pick(entries, host, wish)
    if trust is not None:
        require_entry_signed(choice.entry, trust, context)
    engine = Engine(None) if elsewhere else read_engine()
    runtime = _runtime(args, engine, elsewhere=elsewhere)
    return _as_json(choice, host, engine, runtime, context, signed=trust is not None)


def find_trust(args: argparse.Namespace, context: Context) -> Trust | None:
    """Read before anything is asked for; None: signatures do not matter."""
    from wheelyard.errors import UsageError
    from wheelyard.oci.address import parse_address
    from wheelyard.publish.attest.keys import load_public_key
    from wheelyard.publish.attest.trust import FOLDER, Trust

    if not args.verify_key:
        if args.signed_as is not None:
            raise UsageError("--signed-as is of signatures: name the key with --verify-key")
        return None
    if context.settings.registry is None:
        raise UsageError("--verify-key needs the registry with the signatures: --registry")
    try:
        signed_as = None if args.signed_as is None else parse_address(args.signed_as)
    except ValueError as error:
        raise UsageError(f"--signed-as: {error}") from None
    keys = tuple(map(load_public_key, args.verify_key))
    return Trust(keys, context.settings.cache_dir / FOLDER, signed_as)


def require_entry_signed(entry: Entry, trust: Trust, context: Context) -> None:
    """Raise SignatureError unless the very digest that is going to be pulled is signed."""
    from wheelyard.errors import SignatureError
    from wheelyard.publish.attest.signatures import require_entry
    from wheelyard.registry.client import open_registry

    address = context.settings.registry
    if address is None:
        raise SignatureError(f"{entry.id} is in no registry, and so are its signatures")
    with open_registry(address, context.settings, context.reporter) as registry:
        require_entry(registry, entry, trust)


def _host(args: argparse.Namespace, *, cpu: bool) -> Host:
    """What the options say of another machine, else what this one is; `cpu`: such images exist."""
    from wheelyard.errors import MachineError
    from wheelyard.servers.machine import read_gpus
    from wheelyard.servers.pick import Host, check_driver, parse_gpu

    if args.driver is not None or args.gpu:
        driver = None if args.driver is None else check_driver(args.driver)
        return Host(driver, tuple(map(parse_gpu, args.gpu)))
    if args.cuda == "cpu":
        return Host(None, architecture=platform.machine())
    seen = read_gpus()
    if seen.driver is None:
        without = "--cuda cpu" if cpu else "any image, started without GPUs (`wheelyard plan`)"
        raise MachineError(
            f"{seen.problem}; for another machine: --driver 550.54.14 --gpu sm_90, "
            f"for none: {without}"
        )
    return host_of(seen.driver)


def host_of(driver: Driver) -> Host:
    """Describe this machine; what its driver does not say is not held against an image."""
    from wheelyard.servers.pick import Host

    known = dict.fromkeys(gpu.capability for gpu in driver.gpus if gpu.capability)
    return Host(driver.version or None, tuple(known), platform.machine())


def read_entries(dist: Path, context: Context, trust: Trust | None = None) -> tuple[Entry, ...]:
    """The catalogue of the registry that is named, else the project's matrix.

    Raises RegistryError where the registry has none: an image of the matrix is not there.
    """
    from wheelyard.errors import RegistryError, UsageError
    from wheelyard.images.build.report import read_report
    from wheelyard.planning.catalogue import plan_entries
    from wheelyard.planning.plan import load_inputs
    from wheelyard.publish.catalogue import fetch_catalogue
    from wheelyard.registry.client import open_registry

    settings = context.settings
    if settings.registry is not None:
        with open_registry(settings.registry, settings, context.reporter) as registry:
            published = fetch_catalogue(registry, trust)
        if published is None:
            raise RegistryError(
                f"{settings.registry} has no catalogue, so nothing was published there: "
                "`wheelyard push` does, and without --registry the project's matrix is read"
            )
        return published
    if not (settings.project / "matrix.yaml").is_file():
        raise UsageError(
            "no matrix.yaml here and no catalogue: name the registry (--registry HOST/PREFIX) or "
            "the project (--project FOLDER)"
        )
    _matrix, upstream, plan = load_inputs(settings.project)
    return plan_entries(plan.cells, upstream, read_report(dist.absolute()))


def _runtime(args: argparse.Namespace, engine: Engine, *, elsewhere: bool) -> Runtime:
    from wheelyard.contract.runtimes import Runtime, best, find_runtimes
    from wheelyard.servers.machine import has_cdi, read_programs

    if args.runtime is not None:
        return Runtime(args.runtime, gpus=True)
    if elsewhere:
        return Runtime("docker", gpus=True)
    found = best(find_runtimes(engine.facts, read_programs(), cdi=has_cdi()))
    return found or Runtime("docker", gpus=False, advice="install Docker, podman or apptainer")


def _as_json(
    choice: Choice,
    host: Host,
    engine: Engine,
    runtime: Runtime,
    context: Context,
    *,
    signed: bool,
) -> dict[str, Any]:
    """The object; a signed image is named by its digest, as a tag may move."""
    from wheelyard.contract.runtimes import run_line
    from wheelyard.oci.address import pinned
    from wheelyard.planning.catalogue import pull_bytes

    entry, address = choice.entry, context.settings.registry
    tag = entry.tags[0] if address is None else address.reference(entry.tags[0])
    image = pinned(tag, entry.digest) if signed and entry.digest else tag
    size = pull_bytes(entry, engine.layers)
    return {
        "id": entry.id,
        "image": image,
        "tag": tag,
        "cuda": entry.cuda,
        "reason": choice.reason,
        "framework": entry.framework,
        "framework_version": entry.framework_version,
        "python": entry.python,
        "digest": entry.digest,
        "driver": host.driver,
        "gpus": list(host.gpus),
        "runtime": runtime.name,
        # In no registry and not in the engine: it has to be made before it can run.
        "build": f"wheelyard build {entry.id}" if address is None and size != 0 else None,
        "run": run_line(runtime.name, image),
        "pull_bytes": size,
        "image_bytes": pull_bytes(entry, ()),
        "notes": _notes(entry.unpacked, size, engine, runtime),
        "passed_over": [{"id": name, "reason": why} for name, why in choice.passed_over],
    }


def _notes(unpacked: int | None, size: int | None, engine: Engine, runtime: Runtime) -> list[str]:
    from wheelyard.console.amounts import amount

    notes = [] if runtime.gpus else [f"{runtime.name} cannot hand out GPUs: {runtime.advice}"]
    if engine.problem is not None:
        notes.append(engine.problem)
    needed = (unpacked or 0) + (size or 0)
    if size and engine.free is not None and engine.free < needed:
        notes.append(
            f"the disk is too small: the image needs up to {amount(needed, 'bytes')}, "
            f"{amount(engine.free, 'bytes')} are free; `docker system prune` makes room"
        )
    return notes


def _pull_text(found: dict[str, Any]) -> str:
    from wheelyard.console.amounts import amount

    if found["pull_bytes"] is None:
        return "not known: the image was not built here and is in no catalogue"
    pull, whole = amount(found["pull_bytes"], "bytes"), amount(found["image_bytes"], "bytes")
    return f"{pull} of {whole}" if pull != whole else whole
