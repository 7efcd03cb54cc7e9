"""`wheelyard push`: publish built images in a registry, or write them into an offline bundle."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wheelyard.options import (
    Command,
    add_bytecode,
    add_json,
    add_output,
    add_selector,
    add_verify_key,
)

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.model import Plan
    from wheelyard.oci.layout import Layout
    from wheelyard.planning.facts import Upstream
    from wheelyard.projects.table import Project
    from wheelyard.publish.attest.keys import PrivateKey, PublicKey
    from wheelyard.publish.published import PublicationSource
    from wheelyard.registry.push import NotPushed, Publication, Pushed

_EXAMPLES = """\
examples:
  wheelyard push cuda12.1 --registry registry.example/team
  wheelyard push all --registry http://127.0.0.1:5000   # plain HTTP only with an explicit http://
  wheelyard push pytorch-2.3.1 --layout torch.tar       # for a machine without a network
  wheelyard push cuda12.1 --sign-key sign.pem           # for cosign verify, pick --verify-key
  wheelyard push cuda12.1 --known                       # only missing layers are built

Images go to HOST/PREFIX/FRAMEWORK under all their tags. Existing blobs are not sent again; blobs
of sibling repositories are mounted. A tag moves only after its image is complete; a push
that fails leaves it unchanged, and the next push continues. Logins are those of `wheelyard login`,
`docker login` (credential helpers too) and `podman login`. The passphrase of an encrypted key is
taken from WHEELYARD_SIGN_PASSPHRASE.

In a project of your own (`wheelyard init`) no SELECTOR is needed: its base image plus what it adds
is pushed, without pulling or running anything, as HOST/PREFIX/NAME:latest and under the project's
version, or else its revision in git.

  wheelyard push --registry registry.example/team
  wheelyard push --tag staging                          # this tag alone
  wheelyard push --watch                                # again after every change, until Ctrl-C
"""

COMMAND = Command(
    "publish built images in a registry, or as an offline bundle",
    "Send verified images of an OCI image layout to a registry.",
    _EXAMPLES,
    needs_project=False,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_selector(parser, default=None)
    add_output(parser, "image layout to read")
    parser.add_argument(
        "--layout", type=Path, metavar="PATH",
        help="write a bundle for `wheelyard import` instead: an OCI layout, as FILE.tar or folder",
    )  # fmt: skip
    parser.add_argument(
        "--known",
        action="store_true",
        help="compose the images from images/layers.json, not from a layout; only layers that "
        "it or the registry lacks are made",
    )
    parser.add_argument(
        "--verify-known",
        action="store_true",
        help="like --known, but first make every layer again from its wheels and compare",
    )
    parser.add_argument(
        "--compression", choices=("gzip", "zstd", "estargz"), default="gzip",
        help="pack layers again, once. zstd: smaller and faster to unpack, for engines from "
        "Docker 23 on, and podman can fetch only the files that it lacks; estargz: containerd's "
        "stargz snapshotter starts containers before the image has arrived (default: gzip, as "
        "they are built)",
    )  # fmt: skip
    parser.add_argument(
        "--unverified", action="store_true", help="also push images that no build has inspected"
    )
    parser.add_argument(
        "--attest", action=argparse.BooleanOptionalAction, default=True,
        help="attach SBOM, provenance and verification to each image (default: yes)",
    )  # fmt: skip
    parser.add_argument(
        "--sign-key", type=Path, metavar="FILE",
        help="sign each image and the catalogue as cosign does, or a bundle, with this "
        "ECDSA P-256 key (PEM)",
    )  # fmt: skip
    add_verify_key(
        parser,
        "with --sign-key: also accept a catalogue that this older key signed; in a project: refuse "
        "a base that this key has not signed",
    )
    parser.add_argument(
        "--tag", action="append", metavar="TAG",
        help="in a project: this tag instead of latest and the version; may be repeated",
    )  # fmt: skip
    add_bytecode(parser)
    parser.add_argument(
        "--watch", action="store_true", help="in a project: push again after every change"
    )
    add_json(parser)


def run(args: argparse.Namespace, context: Context) -> int:
    """Publish the selection; print the results and return the first failure's exit code."""
    from wheelyard.projects.find import own_project

    project = own_project(args, context, needs="SELECTOR")
    return _push_set(args, context) if project is None else _push_project(project, args, context)


def _push_project(project: Project, args: argparse.Namespace, context: Context) -> int:
    from wheelyard.errors import UsageError, WheelyardError
    from wheelyard.projects.find import project_output
    from wheelyard.projects.publish import PushOptions, push_project, watched
    from wheelyard.publish.attest.trust import find_trust
    from wheelyard.registry.client import open_registry

    address = context.settings.require_registry("the destination")
    for option in ("known", "verify_known", "layout", "unverified"):
        if getattr(args, option):
            raise UsageError(f"--{option.replace('_', '-')} is for images of a set")
    key = None
    if args.sign_key is not None:
        from wheelyard.publish.attest.keys import load_private_key

        key = load_private_key(args.sign_key)
    options = PushOptions(
        tuple(args.tag or ()),
        project_output(project, args.output),
        key,
        find_trust(args.verify_key, None, context),
        args.bytecode,
    )
    with open_registry(address, context.settings, context.reporter) as registry:
        if not args.watch:
            pushed = push_project(project, registry, options, context)
            _show([pushed], as_json=args.json)
            how = "signed" if key is not None else "not signed (--sign-key)"
            name = pushed.references[0]
            context.reporter.info(f"{name} is {how}. It starts by: docker run --gpus all {name}")
            return 0
        for current in watched(project, context):
            try:
                _show([push_project(current, registry, options, context)], as_json=args.json)
            except WheelyardError as error:  # the next change may fix it
                context.reporter.warn(str(error))
    return 0


def _push_set(args: argparse.Namespace, context: Context) -> int:
    from wheelyard.errors import UsageError
    from wheelyard.planning.plan import load_inputs
    from wheelyard.publish.attest.keys import load_private_key, load_public_key

    args.known |= args.verify_known
    if args.layout is None and context.settings.registry is None:
        raise UsageError("the destination is missing: --registry HOST/PREFIX, or --layout FILE.tar")
    if args.layout is not None and args.known:
        raise UsageError("a bundle holds every layer: build the images, and leave out --known")
    if args.layout is not None and args.compression != "gzip":
        raise UsageError("a bundle has its layers as they were built: leave out --compression")
    if args.verify_key and args.sign_key is None:
        raise UsageError(
            "--verify-key needs --sign-key: it is for the catalogue that is signed again"
        )
    key = None if args.sign_key is None else load_private_key(args.sign_key)
    older = tuple(map(load_public_key, args.verify_key))
    _matrix, upstream, plan = load_inputs(context.settings.project)
    with _packed(args, plan, context) as source:
        return _publish(args, source, (key, older), upstream, plan, context)


@contextmanager
def _packed(args: argparse.Namespace, plan: Plan, context: Context) -> Iterator[PublicationSource]:
    with _source(args, plan, context) as source:
        if args.compression == "gzip":
            yield source
            return
        from wheelyard.publish.recompress import PACKINGS
        from wheelyard.publish.repacked import repacked_images

        with repacked_images(source, PACKINGS[args.compression], context) as packed:
            yield packed


@contextmanager
def _source(args: argparse.Namespace, plan: Plan, context: Context) -> Iterator[PublicationSource]:
    """Return where images come from: a layout that a build wrote, or the record of layers."""
    from wheelyard.oci.layout import Layout
    from wheelyard.planning.selector import select
    from wheelyard.publish.known import known_images
    from wheelyard.publish.published import PublicationSource, publications

    cells = select(plan, args.selector)
    every = args.selector == "all"
    if args.known:
        with known_images(
            cells,
            plan,
            context,
            only_recorded=every,
            verify=args.verify_known,
            unverified=args.unverified,
        ) as source:
            yield source
        return
    layout = Layout(args.output.absolute())
    images = publications(layout, cells, only_built=every, unverified=args.unverified)
    yield PublicationSource(layout, images)


def _publish(
    args: argparse.Namespace,
    source: PublicationSource,
    keys: tuple[PrivateKey | None, tuple[PublicKey, ...]],
    upstream: Upstream,
    plan: Plan,
    context: Context,
) -> int:
    from wheelyard.publish.release import PublishOptions, release
    from wheelyard.registry.client import open_registry
    from wheelyard.registry.push import NotPushed

    address = context.settings.registry
    if args.layout is not None or address is None:
        return _bundle(args, source.layout, source.images, keys[0], context)
    belongings = PublishOptions(*keys, attest=args.attest, compare=not args.known)
    with open_registry(address, context.settings, context.reporter) as registry:
        results = release(registry, source, plan, upstream, belongings, context)
    _show(results, as_json=args.json)
    failures = [result for result in results if isinstance(result, NotPushed)]
    return failures[0].error.exit_code if failures else 0


def _bundle(
    args: argparse.Namespace,
    layout: Layout,
    images: Sequence[Publication],
    key: PrivateKey | None,
    context: Context,
) -> int:
    from wheelyard.console.amounts import amount
    from wheelyard.console.table import show_json, show_table
    from wheelyard.publish.bundle import write_bundle

    size = write_bundle(args.layout.absolute(), layout, images, context.reporter, key)
    if args.json:
        ids = [image.id for image in images]
        show_json({"bundle": str(args.layout), "bytes": size, "images": ids})
        return 0
    rows = [(image.id, image.manifest[:19], image.tags[0]) for image in images]
    show_table(("image", "digest", f"in {args.layout} ({amount(size, 'bytes')})"), rows)
    return 0


def _show(results: Sequence[Pushed | NotPushed], *, as_json: bool) -> None:
    from wheelyard.console.amounts import amount
    from wheelyard.console.table import show_json, show_table
    from wheelyard.registry.push import NotPushed

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
    """Return one image for programs; sizes in bytes, time in seconds."""
    from wheelyard.registry.push import NotPushed

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
