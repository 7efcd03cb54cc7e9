"""BuildKit's plain log, where a build failed."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from wheelyard.dockerfiles.buildkit import SHOWN, explain
from wheelyard.dockerfiles.buildlog import TAIL_LINES

if TYPE_CHECKING:
    from collections.abc import Sequence

KEPT_LINES = 400  # BuildKit shows a failed step's Dockerfile after its words


def describe_failure(log: Sequence[str]) -> list[str]:
    """What the end of a log says of the failure: why, the step, and the step's last words.

    BuildKit repeats those between two lines of dashes; its excerpt of the Dockerfile, which comes
    after them, is left out.
    """
    if not log:
        return []
    dashes = [at for at, line in enumerate(log) if line == "------"]
    found = [log[a + 1 : b] for a, b in pairwise(dashes) if log[a + 1].startswith(" > [")]
    step, *said = found[-1] if found else ["", *log[-TAIL_LINES:-1]]
    why = explain(log[-1], said)
    shown = [f"step: {step.removeprefix(' > ')[:SHOWN]}"] if step else []
    return [why, *shown, *(f"  {line[:SHOWN]}" for line in said[-TAIL_LINES:])]
