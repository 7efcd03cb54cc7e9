"""`wheelyard inspect`: read built images back and compare them with their cells."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from wheelyard.options import Command, add_json, add_output, add_selector

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.images.inspect.inspect import Finding

_EXAMPLES = """\
examples:
  wheelyard inspect pytorch-2.3.1-runtime        # what the image in dist/ holds
  wheelyard inspect all --json                   # for programs

Every blob is hashed and every layer's contents are read from the blob itself.
Exit code 11 if an image does not match its cell. In a project of your own, the image that
`wheelyard build` left is compared with its lock and its base.
"""

COMMAND = Command(
    "read built images back and compare them with the matrix",
    "Compare the images of an OCI image layout with the cells of the matrix.",
    _EXAMPLES,
    needs_project=False,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_selector(parser, default=None)
    add_output(parser, "image layout to read")
    add_json(parser)


def run(args: argparse.Namespace, context: Context) -> int:
    """Print a table an image, a row a property; exit code 11 if one is wrong."""
    from wheelyard.errors import StorageError
    from wheelyard.projects.find import own_project, project_output

    if project := own_project(args, context):
        from wheelyard.projects.inspect import inspect_project

        dist = project_output(project, args.output)
        with context.reporter.task(project.table.name, None, "bytes") as task:
            found = inspect_project(project, dist, context, task.advance)
        return _show([(project.table.name, found)], as_json=args.json)
    images = list(_inspected(args, context))
    if not images:
        raise StorageError(
            f"{args.output} contains no image of the matrix; build one with `wheelyard build`, or "
            "name the layout with --output"
        )
    return _show(images, as_json=args.json)


def _inspected(
    args: argparse.Namespace, context: Context
) -> Iterator[tuple[str, tuple[Finding, ...]]]:
    """Inspect the selected images of the set; yield each id with what was found."""
    from wheelyard.errors import StorageError
    from wheelyard.images.inspect.inspect import inspect_layout_image
    from wheelyard.lock.stages import load_stages
    from wheelyard.oci.layout import Layout
    from wheelyard.planning.plan import load_plan
    from wheelyard.planning.selector import select

    plan = load_plan(context.settings.project)
    layout = Layout(args.output.absolute())
    references = layout.references()
    selector = args.selector or "all"
    for cell in select(plan, selector):
        manifest = references.get(cell.tags[0])
        if manifest is None:
            if selector == "all":
                continue
            raise StorageError(
                f"{args.output} does not contain {cell.tags[0]}; run: wheelyard build {cell.id}"
            )
        lock = load_stages(cell, plan, context.settings.project)[-1].lock
        with context.reporter.task(cell.id, None, "bytes") as task:
            findings = inspect_layout_image(cell, lock, layout, manifest.digest, task.advance)
        yield cell.id, findings


def _show(results: Sequence[tuple[str, tuple[Finding, ...]]], *, as_json: bool) -> int:
    from wheelyard.console.table import show_json, show_table
    from wheelyard.errors import InspectError

    if as_json:
        show_json(
            [
                {
                    "id": name,
                    "ok": all(f.ok for f in findings),
                    "findings": [
                        {"name": f.name, "expected": f.expected, "seen": f.seen, "ok": f.ok}
                        for f in findings
                    ],
                }
                for name, findings in results
            ]
        )
    else:
        for name, findings in results:
            print(f"{name}:")
            rows = [
                ("ok" if f.ok else "WRONG", f.name, f.expected or "-", f.seen or "-")
                for f in findings
            ]
            show_table(("state", "property", "expected", "seen"), rows)
    wrong = any(not f.ok for _, findings in results for f in findings)
    return InspectError.exit_code if wrong else 0
