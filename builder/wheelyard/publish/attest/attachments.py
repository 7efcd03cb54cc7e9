"""The documents attached to an image, made from project, locks and report."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wheelyard.lock.stages import load_stages
from wheelyard.publish.attest import statements
from wheelyard.publish.attest.statements import ProjectSource
from wheelyard.system.distribution import revision
from wheelyard.system.packaged import PACKAGED
from wheelyard.system.subprocesses import run

if TYPE_CHECKING:
    from wheelyard.images.inspect.licences import Licences
    from wheelyard.model import Cell, Plan


# What every verified image has: media type, and in-toto's predicate type.
KINDS: tuple[tuple[str, str | None], ...] = (
    (statements.BILL_TYPE, None),
    (statements.MEDIA_TYPE, statements.PROVENANCE),
    (statements.MEDIA_TYPE, statements.TEST_RESULT),
)
# A checkout's own settings may name programs; these are the ones that git would start.
_GIT = ("git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
# The same as signed statements.
STATEMENTS = tuple(predicate or statements.BILL for _, predicate in KINDS)


@dataclass(frozen=True, slots=True)
class Attachment:
    """A document about an image."""

    media_type: str
    predicate: str | None  # in-toto's predicate type; None: no statement
    content: str

    @property
    def kind(self) -> tuple[str, str | None]:
        """What distinguishes it from the image's other documents."""
        return self.media_type, self.predicate

    def statement(self, name: str, digest: str) -> tuple[str, bytes]:
        """Return predicate type and in-toto statement: what is signed, about the same image."""
        if self.predicate is None:
            return statements.BILL, statements.bill_statement(name, digest, self.content).encode()
        return self.predicate, self.content.encode()


def attachments(
    cell: Cell, plan: Plan, project: Path, built: Mapping[str, Any], licences: Licences
) -> tuple[Attachment, ...]:
    """Make bill of materials, provenance and verification; `built` is from build.json.

    `licences` are those read from the image's files; there may be none. Raises LockError for locks
    that do not match the matrix.
    """
    from wheelyard.publish.attest.sbom import sbom  # its library takes longer than an empty push

    stages = load_stages(cell, plan, project)
    digest, name = str(built["digest"]), cell.repository
    locks = [
        (str(path), hashlib.sha256((project / path).read_bytes()).hexdigest())
        for stage in stages
        for path in (stage.cell.base_lock, stage.cell.lock)
    ]
    origin = statements.provenance_statement(
        name, digest, cell.id, locks, built["layers"], read_source(project)
    )
    attached = [
        Attachment(statements.BILL_TYPE, None, sbom(name, digest, stages, licences)),
        Attachment(statements.MEDIA_TYPE, statements.PROVENANCE, origin),
    ]
    if built.get("inspected"):
        seen = statements.verification_statement(name, digest, built["inspected"])
        attached.append(Attachment(statements.MEDIA_TYPE, statements.TEST_RESULT, seen))
    return tuple(attached)


def read_source(project: Path) -> ProjectSource:
    """Return the project's revision, if it is a git checkout and git is installed."""
    from wheelyard.system.tools import find_tool

    if project == PACKAGED:  # git would tell of a checkout around it
        commit, _, changed = (revision() or "").partition("-")
        return ProjectSource(commit or None, bool(commit) and not changed, version("wheelyard"))
    if find_tool("git") is None:
        return ProjectSource(None, clean=False, version=version("wheelyard"))
    head = run([*_GIT, "rev-parse", "HEAD"], error=None, cwd=project)
    status = run([*_GIT, "status", "--porcelain"], error=None, cwd=project)
    known = head.returncode == 0
    clean = known and status.returncode == 0 and not status.stdout.strip()
    return ProjectSource(head.stdout.strip() if known else None, clean, version("wheelyard"))
