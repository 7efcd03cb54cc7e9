"""`wheelyard pull`: pick the best image for this machine and fetch it."""

from __future__ import annotations

import argparse

from wheelyard.commands import pick
from wheelyard.context import Context
from wheelyard.options import Command

_EXAMPLES = """\
examples:
  wheelyard pull --registry registry.example/team
  wheelyard pull --registry registry.example/team --framework pytorch-2.3 --flavour devel

`wheelyard pick` with the same options says what is chosen, and why. The exact image that the
catalogue lists is pulled by its digest, and then tagged. With --verify-key it is pulled only if
that digest is signed.
"""

COMMAND = Command(
    "pull the image that `pick` chooses",
    "Pick the best image for this machine and pull it into the engine.",
    _EXAMPLES,
    needs_project=False,
)

add_arguments = pick.add_arguments


def run(args: argparse.Namespace, context: Context) -> int:
    """Pull the choice with Docker, else podman; print how to start it."""
    from wheelyard.console.table import show_json, show_text
    from wheelyard.publish.attest.trust import find_trust
    from wheelyard.servers.choosing import choose
    from wheelyard.servers.pulling import pull_image

    context.settings.require_registry("the registry to pull from")
    trust = find_trust(args.verify_key, args.signed_as, context)
    choice = choose(pick.request_of(args), trust, context)
    for note in choice["notes"]:
        context.reporter.warn(note)
    context.reporter.info(f"{choice['image']}: {choice['reason']}")
    choice["pulled"] = pull_image(
        choice["tag"], choice["digest"], choice["runtime"], context.settings, context.reporter
    )
    if args.json:
        show_json(choice)
    else:
        show_text(choice["run"])
    return 0
