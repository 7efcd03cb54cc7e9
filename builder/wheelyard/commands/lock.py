"""`wheelyard lock`: resolve versions over the network and pin them, or check the locks."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from wheelyard.console.table import show_json, show_table, show_text
from wheelyard.errors import DriftError, LockError, UsageError
from wheelyard.options import Command, add_json, add_selector

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.lock.changes import LockChange
    from wheelyard.lock.state import LockProblem
    from wheelyard.projects.ground import Ground
    from wheelyard.projects.lock import Resolution
    from wheelyard.projects.model import BaseImage, ProjectLock
    from wheelyard.projects.table import Project
    from wheelyard.projects.wheels import WheelBuilder

_EXAMPLES = """\
Only this command changes versions. It keeps the versions that are locked already
if they still fit; --upgrade takes the newest ones. An image's lock holds the pins of the
image it extends, so a whole family is locked together.

examples:
  wheelyard lock                    # after a change of matrix.yaml: resolve what is new
  wheelyard lock pytorch-2.3        # the images of PyTorch 2.3 and their bases
  wheelyard lock --upgrade          # take the newest versions that the matrix allows
  wheelyard lock --bases-only       # the Debian packages alone (security updates: --upgrade)
  wheelyard lock --check            # offline: which locks no longer match the matrix

In a project of your own (`wheelyard init`) it writes pylock.toml (PEP 751), which pip and uv read:
what the project requires, with the versions of its base image wherever they fit.
The image is that of --registry, else of the set in --project.

  wheelyard lock                    # after a change of pyproject.toml or requirements.txt
  wheelyard lock --upgrade          # the newest versions of what the image does not have
  wheelyard lock --check            # offline: exit 6 if table, requirements or image have changed
"""

COMMAND = Command(
    "resolve every version and pin it by hash",
    "Write images/<id>/requirements.lock and the package lock of each base, or, in a project of "
    "your own, pylock.toml.",
    _EXAMPLES,
    needs_project=False,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_selector(parser, default=None)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument(
        "--check", action="store_true", help="write nothing; exit 6 if a lock does not match"
    )
    mode.add_argument("--upgrade", action="store_true", help="take the newest versions")
    parser.add_argument(
        "--bases-only", action="store_true", help="only the Debian packages of the bases"
    )
    add_json(parser)


def run(args: argparse.Namespace, context: Context) -> int:
    """Lock the selection (default: everything) or the user's own project, or check it."""
    from wheelyard.projects.find import own_project

    project = own_project(args, context)
    if project is None:
        return _check(args, context) if args.check else _lock(args, context)
    if args.bases_only:
        raise UsageError(f"--bases-only is for a set of images; {project.source} is a project")
    act = _check_project if args.check else _lock_project
    return act(project, args, context)


def _lock_project(project: Project, args: argparse.Namespace, context: Context) -> int:
    from wheelyard.projects.ground import find_ground
    from wheelyard.projects.lock import lock_project
    from wheelyard.projects.pylock import previous_lock, render_lock
    from wheelyard.system.textfiles import write_text

    before = previous_lock(project.lock)
    ground = find_ground(project, context)
    kept = None if args.upgrade else before

    def builder() -> WheelBuilder | None:
        try:
            from wheelyard.projects.places import Places
            from wheelyard.projects.wheels import WheelBuilder
        except ImportError:  # on Windows
            return None
        places = Places(project, ground.base, ground.entries, context)
        return WheelBuilder(project, ground.base, places, context)

    with context.reporter.task(f"lock {project.table.name}", 1, "items") as task:
        made = lock_project(project, ground.base, kept, ground.entries, context.settings, builder)
        if project.table.packages:
            made = _with_packages(made, project, ground, kept, context)
        task.advance(1)
    text = render_lock(made.lock)
    if not project.lock.is_file() or project.lock.read_text(encoding="utf-8") != text:
        write_text(project.lock, text)
    for note in made.notes:
        context.reporter.info(note)
    for older in made.older:
        context.reporter.warn(str(older))
    _show_project(project, ground.base, made, before, as_json=args.json)
    where = "push" if context.settings.registry else "push --registry HOST/PREFIX"
    context.reporter.info(f"Next: wheelyard {where}, or wheelyard run to try it here")
    return 0


def _with_packages(
    made: Resolution, project: Project, ground: Ground, kept: ProjectLock | None, context: Context
) -> Resolution:
    from dataclasses import replace

    try:
        from wheelyard.projects.packages import lock_packages
        from wheelyard.projects.places import Places
    except ImportError as missing:  # on Windows
        raise LockError(
            f"{project.source}: Debian packages are locked with apt, on Linux: use WSL"
        ) from missing
    places = Places(project, ground.base, ground.entries, context)
    before = None if kept is None else kept.debian
    debian = lock_packages(project, places, before, context)
    return replace(made, lock=replace(made.lock, debian=debian))


def _show_project(
    project: Project,
    base: BaseImage,
    made: Resolution,
    before: ProjectLock | None,
    *,
    as_json: bool,
) -> None:
    """Print what changed, and what the project adds to its base."""
    from wheelyard.console.amounts import amount

    added = made.lock.added(base)
    old = {} if before is None else {w.wheel.name: w.wheel.version for w in before.wheels}
    new = {w.wheel.name: w.wheel.version for w in made.lock.wheels}
    changes = [
        {"name": name, "before": old.get(name), "after": new.get(name)}
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
    size = sum(item.wheel.size for item in added)
    debs = made.lock.debian.packages if made.lock.debian is not None else ()
    if as_json:
        show_json(
            {
                "lock": str(project.lock),
                "image": base.reference,
                "digest": base.digest or None,
                "pins": len(new),
                "added": {item.wheel.name: item.wheel.version for item in added},
                "added_bytes": size,
                "packages": {deb.name: deb.version for deb in debs},
                "replaced": {wheel.name: wheel.version for wheel in made.lock.shadowed},
                "changes": changes,
                "older": [asdict(older) for older in made.older],
                "notes": list(made.notes),
            }
        )
        return
    if before is not None and changes:
        rows = [(c["name"] or "", c["before"] or "-", c["after"] or "-") for c in changes]
        show_table(("name", "before", "after"), rows)
    packages = f", with {len(debs)} Debian packages" if debs else ""
    show_text(
        f"{project.lock}: distributions: {len(new)}; of them not in {base.reference}, and added: "
        f"{len(added)} ({amount(size, 'bytes')}){packages}"
    )


def _check_project(project: Project, args: argparse.Namespace, context: Context) -> int:
    from wheelyard.planning.plan import load_plan
    from wheelyard.projects.base import planned_base
    from wheelyard.projects.find import set_folder
    from wheelyard.projects.pylock import read_lock
    from wheelyard.projects.state import lock_problems

    try:
        lock = read_lock(project.lock)
    except LockError as unusable:
        problems = [str(unusable)]
    else:
        # A published image is named by its digest: a matrix that is here says nothing of it.
        folder = None if lock.base_digest else set_folder(context)
        base = None
        if folder is not None:
            base = planned_base(project.table.image, load_plan(folder), folder)
        problems = lock_problems(project, lock, base)
    if args.json:
        show_json([{"lock": str(project.lock), "message": problem} for problem in problems])
    if problems:
        listed = "".join(f"\n  {problem}" for problem in problems)
        raise DriftError(f"{project.lock} is out of date; run `wheelyard lock`:{listed}")
    context.reporter.info(f"{project.lock} matches the project")
    return 0


def _change_as_json(change: LockChange) -> dict[str, Any]:
    """Return the result of one lock for programs."""
    return {
        "lock": str(change.path),
        "pins": change.pins,
        "written": change.written,
        "created": change.created,
        "changes": [
            {"name": pin.name, "kind": pin.kind, "before": pin.before, "after": pin.after}
            for pin in change.changes
        ],
    }


def _lock(args: argparse.Namespace, context: Context) -> int:
    from wheelyard.lock.inputs import cells_by_id
    from wheelyard.lock.stage import LockRun, families, lock_bases, lock_images
    from wheelyard.planning.plan import load_plan
    from wheelyard.planning.selector import select

    settings = context.settings
    settings.require_own("`wheelyard lock`")
    plan = load_plan(settings.project)
    cells = families(select(plan, args.selector or "all"), plan.cells)
    lock_run = LockRun(
        settings.project, cells_by_id(plan.cells), settings, context.reporter, args.upgrade
    )
    changes = () if args.bases_only else lock_images(lock_run, cells)
    _show_changes((*changes, *lock_bases(lock_run, cells)), args.json)
    return 0


def _check(args: argparse.Namespace, context: Context) -> int:
    from wheelyard.lock.state import BASES, lock_problems
    from wheelyard.planning.plan import load_plan
    from wheelyard.planning.selector import select

    plan = load_plan(context.settings.project)
    selected = None if args.selector is None else select(plan, args.selector)
    problems = [
        problem
        for problem in lock_problems(context.settings.project, plan.cells, selected)
        if not args.bases_only or problem.path.is_relative_to(BASES)
    ]
    if args.json:
        show_json([_problem_as_json(problem) for problem in problems])
    elif problems:
        show_table(("lock", "state"), [(problem.path, problem.kind) for problem in problems])
    if problems:
        listed = "".join(f"\n  {problem.message}" for problem in problems)
        raise DriftError(f"{len(problems)} lock(s) do not match matrix.yaml:{listed}")
    context.reporter.info("every lock matches matrix.yaml")
    return 0


def _show_changes(changes: Sequence[LockChange], as_json: bool) -> None:
    if as_json:
        show_json([_change_as_json(change) for change in changes])
        return
    rows = [row for change in changes for row in _rows(change)]
    if rows:
        show_table(("lock", "change", "name", "before", "after"), rows)
    else:
        print(f"{len(changes)} locks, no version changed")


def _rows(change: LockChange) -> list[tuple[str, ...]]:
    """Return one row per changed pin; a new lock is one row."""
    if change.created:
        return [(str(change.path), "new", f"{change.pins} pins", "-", "-")]
    return [
        (str(change.path), pin.kind, pin.name, pin.before or "-", pin.after or "-")
        for pin in change.changes
    ]


def _problem_as_json(problem: LockProblem) -> dict[str, str]:
    return {"lock": str(problem.path), "kind": problem.kind, "message": problem.message}
