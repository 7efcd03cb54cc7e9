"""Runs selfcheck in images and keeps a record of each."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wheelyard.errors import VerifyError
from wheelyard.system.distribution import version_line
from wheelyard.system.failures import reported
from wheelyard.system.subprocesses import Result, failure
from wheelyard.verify.places import Answer, Place, Run, opened
from wheelyard.verify.record import Record, read_record, write_record

if TYPE_CHECKING:
    from wheelyard.console.tasks import Reporter, Task
    from wheelyard.model import Cell
    from wheelyard.oci.layout import Layout

_SEEN_INSIDE = ("date", "cpu", "device", "driver", "selfcheck", "level")  # of selfcheck's header
_KILLED = 137  # 128 + SIGKILL: the kernel's out-of-memory killer
_RUNNING = re.compile(r"selfcheck: running (\S{1,100})\s*$")  # on its errors, with --json
Opener = Callable[..., AbstractContextManager[Run]]


@dataclass(frozen=True, slots=True)
class Request:
    """What is requested of every image."""

    groups: tuple[str, ...]  # of selfcheck
    require_gpu: bool
    again: bool  # also test an image whose digest is unchanged
    folder: Path  # for records
    unpack: Path  # for an unpacked image

    @property
    def command(self) -> list[str]:
        """The command that runs inside."""
        demanding = ["--require-gpu"] if self.require_gpu else []
        return ["selfcheck", "--json", *demanding, *self.groups]


def verify(
    cells: Sequence[Cell],
    layout: Layout,
    place: Place,
    request: Request,
    reporter: Reporter,
    open_image: Opener = opened,
) -> list[tuple[Record, bool]]:
    """Yield one record per image, and whether it existed already.

    An image that cannot be run does not stop the others: its record says why. Raises VerifyError if
    the layout lacks an image that was named explicitly.
    """
    references = layout.references()
    missing = [cell.id for cell in cells if cell.tags[0] not in references]
    if missing:
        raise VerifyError(
            f"{layout.folder} does not contain {', '.join(missing)}; run: wheelyard build "
            f"{missing[0]}"
        )
    request.folder.mkdir(parents=True, exist_ok=True)  # before minutes of checks
    results = []
    for cell in cells:
        digest = references[cell.tags[0]].digest
        known = read_record(request.folder, digest)
        asked = (place.backend, place.gpu, request.groups, request.require_gpu, place.machine)
        if known and not request.again and known.answers(*asked):
            reporter.info(f"{cell.id}: unchanged since it was tested")
            results.append((known, True))
            continue
        reporter.info(f"{cell.id}: {' '.join(request.groups)} ({place.backend})")
        record = _checked(cell, digest, layout, place, request, reporter, open_image)
        record = replace(record, earlier=known.history if known else ())
        write_record(request.folder, record)
        results.append((record, False))
    return results


def _checked(
    cell: Cell, digest: str, layout: Layout, place: Place, request: Request, reporter: Reporter,
    open_image: Opener,
) -> Record:  # fmt: skip
    start = time.monotonic()
    said: dict[str, Any] = {"checks": []}
    problem = None
    try:
        with open_image(place, digest, cell.tags, layout, request.unpack, reporter) as run:
            start = time.monotonic()
            with reporter.task(f"{cell.id}: checks", None, "items") as task:
                followed = _Followed(task)
                said = parse(run(request.command, followed))
                task.advance(len(said["checks"]) - followed.ended)
    except Exception as error:  # noqa: BLE001 - the next image is checked whatever it was
        problem = str(reported(error, cell.id, reporter))
    seconds = round(time.monotonic() - start, 1)
    return Record(
        cell.id, digest, cell.tags, place.backend, place.gpu, request.groups, seconds,
        tuple(said["checks"]), problem, request.require_gpu, place.machine, _made(said, place),
    )  # fmt: skip


def _made(said: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """Return when, where and by what; a container's own name says nothing, so the host's is taken.

    selfcheck knows the devices, as it ran where they are; an old one says less.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    seen = {name: said[name] for name in _SEEN_INSIDE if said.get(name) is not None}
    return {"date": now, "host": place.host, "wheelyard": version_line(), **seen}


class _Followed:
    """Shows in an image's progress which check runs, and how many have ended."""

    def __init__(self, task: Task) -> None:
        self._task, self._started = task, 0

    @property
    def ended(self) -> int:
        """How many checks were followed by another one."""
        return max(0, self._started - 1)

    def __call__(self, line: str) -> None:
        if started := _RUNNING.search(line):
            self._started += 1
            self._task.at(started[1])
            self._task.advance(int(self._started > 1))


def parse(answer: Answer) -> dict[str, Any]:
    """Return the report that selfcheck printed; otherwise VerifyError with the end of its log."""
    try:
        report = json.loads(answer.stdout)
        return {**report, "checks": list(report["checks"])}
    except (ValueError, KeyError, TypeError):
        result = Result(("selfcheck",), answer.code, answer.stdout, answer.stderr)
        killed = (
            " (killed, probably because it ran out of memory)" if answer.code == _KILLED else ""
        )
        raise VerifyError(failure(result, f"selfcheck in the image{killed}")) from None
