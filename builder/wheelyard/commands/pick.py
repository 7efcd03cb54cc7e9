"""`wheelyard pick`: the best image for a GPU server, why, and how to start it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from wheelyard.options import Command, add_json, add_output, add_verify_options

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.servers.choosing import PickRequest

_EXAMPLES = """\
examples:
  wheelyard pick                                  # for this machine
  wheelyard pick --driver 535.104 --gpu sm_90     # for another one
  wheelyard pick --framework tensorflow --json    # for programs
  wheelyard pick --framework pytorch-2.3 --registry registry.example/team
  wheelyard pick --registry registry.example/team --verify-key cosign.pub

Images come from the project's matrix, or else from the catalogue that `wheelyard push` keeps
beside the images in --registry. If no image runs, exit code 17 and the condition that fails.
"""

COMMAND = Command(
    "find the best image for a GPU server, and how to start it",
    "Read driver, GPUs and container runtime; print the best image and why.",
    _EXAMPLES,
    needs_project=False,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `pick`, which `pull` has, too."""
    from wheelyard.architecture import ARCHITECTURES, DEFAULT
    from wheelyard.contract.runtimes import COMMANDS

    parser.add_argument("--driver", metavar="VERSION", help="NVIDIA driver of another machine")
    parser.add_argument(
        "--gpu",
        action="append",
        default=[],
        metavar="SM",
        help="its compute capability, such as sm_90",
    )
    parser.add_argument(
        "--architecture", choices=tuple(ARCHITECTURES), default=DEFAULT.name,
        help=f"its processor's (default: {DEFAULT.name})",
    )  # fmt: skip
    parser.add_argument("--runtime", choices=COMMANDS, help="its container runtime")
    parser.add_argument("--framework", metavar="NAME[-VERSION]", help="such as pytorch-2.3")
    parser.add_argument("--cuda", metavar="VERSION", help="only images with this CUDA, or cpu")
    parser.add_argument("--python", metavar="VERSION", help="only images with this Python")
    parser.add_argument("--flavour", default="runtime", metavar="NAME", help="default: runtime")
    add_output(parser, "built images")
    add_verify_options(parser)
    add_json(parser, "an object")


def run(args: argparse.Namespace, context: Context) -> int:
    """Print the choice; raise MachineError if no image runs."""
    from wheelyard.console.plain import one_line
    from wheelyard.console.table import show_json, show_text
    from wheelyard.publish.attest.trust import find_trust
    from wheelyard.servers.choosing import choose

    choice = choose(request_of(args), find_trust(args.verify_key, args.signed_as, context), context)
    if args.json:
        show_json(choice)
        return 0
    for name in ("image", "reason", "build", "run"):
        if choice[name] is not None:
            show_text(f"{name:<8}{one_line(choice[name])}")
    show_text(f"{'pull':<8}{_pull_text(choice)}")
    for note in choice["notes"]:
        show_text(f"{'note':<8}{one_line(note)}")
    return 0


def request_of(args: argparse.Namespace) -> PickRequest:
    """Return what the options request."""
    from wheelyard.servers.choosing import PickRequest
    from wheelyard.servers.pick import Selection

    selection = Selection(args.framework, args.cuda, args.python, args.flavour)
    other = args.driver, tuple(args.gpu), args.runtime, args.architecture
    return PickRequest(selection, args.output, *other)


def _pull_text(choice: dict[str, Any]) -> str:
    from wheelyard.console.amounts import amount

    if choice["pull_bytes"] is None:
        return "unknown: the image was not built here and is not in a catalogue"
    pull, whole = amount(choice["pull_bytes"], "bytes"), amount(choice["image_bytes"], "bytes")
    return f"{pull} of {whole}" if pull != whole else whole
