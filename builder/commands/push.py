"""`wheelyard push`: publish built images in a registry, or write them into an offline bundle."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.assemble.layout import Layout
    from builder.attest.keys import PrivateKey
    from builder.context import Context
    from builder.model import Cell, Plan
    from builder.publishing.catalogue import Entry
    from builder.registry.client import Registry
    from builder.registry.push import NotPushed, Publication, Pushed

EXAMPLES = """\
examples:
  wheelyard push cuda12.1 --registry registry.example/team
  wheelyard push all --registry http://127.0.0.1:5000   plain HTTP only where it is written so
  wheelyard push pytorch-2.3.1 --layout torch.tar       for a machine without a network
  wheelyard push cuda12.1 --sign-key sign.pem           for cosign verify, pick --verify-key

Images go to HOST/PREFIX/FRAMEWORK under all their tags. Blobs that are there are not sent, blobs
of sibling repositories are mounted. A tag moves when everything that it names is there; a push
that breaks leaves it where it was, and the next one goes on from there. Logins are those of
`docker login` (credential helpers too) and `podman login`. The passphrase of an encrypted key is
taken from WHEELYARD_SIGN_PASSPHRASE.
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "push",
        help="publish built images in a registry, or as an offline bundle",
        description="Send verified images of an OCI image layout to a registry.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("selector", metavar="SELECTOR", help="see `wheelyard plan --help`")
    parser.add_argument(
        "--output", type=Path, default=Path("dist"), help="image layout to read (default: dist)"
    )
    parser.add_argument(
        "--layout",
        type=Path,
        metavar="PATH",
        help="write a bundle for `wheelyard import` instead: an OCI layout, as FILE.tar or folder",
    )
    parser.add_argument(
        "--unverified", action="store_true", help="also images that no build has inspected"
    )
    parser.add_argument(
        "--attest",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="attach SBOM, provenance and verification to each image (default: yes)",
    )
    parser.add_argument(
        "--sign-key",
        type=Path,
        metavar="FILE",
        help="sign each image as cosign does, with this ECDSA P-256 key (PEM)",
    )
    parser.add_argument("--json", action="store_true", help="print a list of objects")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, context: Context) -> int:
    """Publish the selection; prints what became of it, returns the first failure's exit code."""
    from builder.assemble.layout import Layout
    from builder.attest.keys import load_private_key
    from builder.building.report import read_report
    from builder.errors import UsageError
    from builder.planning.plan import load_inputs
    from builder.planning.selector import select
    from builder.publishing.catalogue import plan_entries
    from builder.publishing.published import publications
    from builder.registry.client import open_registry
    from builder.registry.push import NotPushed, Pushed, push_images

    if args.layout is not None and args.sign_key is not None:
        raise UsageError("--sign-key signs what is in a registry, and a bundle is in none")
    key = None if args.sign_key is None else load_private_key(args.sign_key)
    _matrix, upstream, plan = load_inputs(context.settings.project)
    layout = Layout(args.output.absolute())
    images = publications(
        layout,
        select(plan, args.selector),
        only_built=args.selector == "all",
        unverified=args.unverified,
    )
    if args.layout is not None:
        return _bundle(args, layout, images, context)
    if context.settings.registry is None:
        raise UsageError("name where to: --registry HOST/PREFIX, or --layout FILE.tar")
    siblings = sorted({cell.tags[0].partition(":")[0] for cell in plan.cells})
    with open_registry(context.settings.registry, context.settings, context.reporter) as registry:
        notes = context.settings.cache_dir / "uploads"
        results = push_images(registry, layout, images, siblings, notes)
        if key is not None:
            results = [_signed(registry, result, key) for result in results]
        pushed = {result.id for result in results if isinstance(result, Pushed)}
        if pushed:
            cells = [cell for cell in plan.cells if cell.id in pushed]
            if args.attest:
                _attach(registry, cells, plan, layout, context)
            results += _list(registry, plan_entries(cells, upstream, read_report(layout.folder)))
    _show(results, as_json=args.json)
    failures = [result for result in results if isinstance(result, NotPushed)]
    return failures[0].error.exit_code if failures else 0


def _attach(
    registry: Registry, cells: Sequence[Cell], plan: Plan, layout: Layout, context: Context
) -> None:
    """Attach documents to the images; one that cannot have them is warned about."""
    from builder.assemble.store import LayerStore
    from builder.attest.publish import attach_all
    from builder.building.report import read_report
    from builder.errors import WheelyardError

    store, project = LayerStore(context.settings.cache_dir), context.settings.project
    built = {image["id"]: image for image in read_report(layout.folder)}
    for cell in cells:
        if cell.id not in built:  # pushed with --unverified: nothing is known about it
            continue
        size = layout.blob(built[cell.id]["digest"]).stat().st_size
        try:
            attach_all(registry, cell, plan, project, built[cell.id], size, store)
        except WheelyardError as error:
            context.reporter.warn(f"nothing is attached to the image: {error}")


def _signed(registry: Registry, result: Pushed | NotPushed, key: PrivateKey) -> Pushed | NotPushed:
    """Sign a pushed image; one that cannot be signed does not get into the catalogue."""
    from builder.attest.signatures import sign_image
    from builder.errors import RegistryError
    from builder.registry.push import NotPushed

    if isinstance(result, NotPushed):
        return result
    name = result.references[0].rpartition("/")[2].partition(":")[0]
    try:
        new = sign_image(registry, name, result.digest, key)
    except RegistryError as error:
        registry.reporter.warn(f"{result.id} is there, and not signed: {error}")
        return NotPushed(result.id, error)
    registry.reporter.info(f"{result.id}: {'signed' if new else 'is signed by this key already'}")
    return result


def _list(registry: Registry, entries: Sequence[Entry]) -> list[Pushed | NotPushed]:
    """Put the images into the registry's catalogue; what went wrong with that."""
    from builder.errors import RegistryError
    from builder.registry.catalogue import NAME, publish_catalogue
    from builder.registry.push import NotPushed

    try:
        publish_catalogue(registry, entries)
    except RegistryError as error:
        registry.reporter.warn(f"the images are there, and not in the catalogue: {error}")
        return [NotPushed(NAME, error)]
    return []


def _bundle(
    args: argparse.Namespace, layout: Layout, images: Sequence[Publication], context: Context
) -> int:
    from builder.console.amounts import amount
    from builder.console.table import show_json, show_table
    from builder.publishing.bundle import write_bundle

    size = write_bundle(args.layout.absolute(), layout, images, context.reporter)
    if args.json:
        ids = [image.id for image in images]
        show_json({"bundle": str(args.layout), "bytes": size, "images": ids})
        return 0
    rows = [(image.id, image.manifest[:19], image.tags[0]) for image in images]
    show_table(("image", "digest", f"in {args.layout} ({amount(size, 'bytes')})"), rows)
    return 0


def _show(results: Sequence[Pushed | NotPushed], *, as_json: bool) -> None:
    from builder.console.amounts import amount
    from builder.console.table import show_json, show_table
    from builder.registry.push import NotPushed

    if as_json:
        show_json(list(map(_as_json, results)))
        return
    rows = [
        (r.id, "failed", "", "", "", "", "")
        if isinstance(r, NotPushed)
        else (
            r.id,
            r.digest[:19],
            *(amount(size, "bytes") for size in (r.sent, r.mounted, r.present)),
            f"{len(r.moved)} of {len(r.references)}",
            f"{r.seconds:.1f} s",
        )
        for r in results
    ]
    show_table(("image", "digest", "sent", "mounted", "there", "tags moved", "time"), rows)


def _as_json(result: Pushed | NotPushed) -> dict[str, Any]:
    """One image; sizes in bytes, time in seconds."""
    from builder.registry.push import NotPushed

    if isinstance(result, NotPushed):
        error = result.error
        return {"id": result.id, "error": str(error), "exit_code": error.exit_code}
    return {
        "id": result.id,
        "digest": result.digest,
        "references": list(result.references),
        "moved": list(result.moved),
        "sent_bytes": result.sent,
        "mounted_bytes": result.mounted,
        "present_bytes": result.present,
        "seconds": round(result.seconds, 3),
    }
