# ruff: noqa: N999 - the command has this name
"""`wheelyard import`: import images from an offline bundle."""

from __future__ import annotations

import argparse
from pathlib import Path

from wheelyard.context import Context
from wheelyard.options import Command, add_json, add_load, add_output, add_verify_key, refusing

_EXAMPLES = """\
examples:
  wheelyard import torch.tar                      # into dist/, and into the engine if one answers
  wheelyard import torch.tar --load --output oci  # another folder; fails without an engine
  wheelyard import torch.tar --no-load            # just the OCI image layout
  wheelyard import torch.tar --verify-key sign.pub    # only if that key signed the bundle

Bundles are made by `wheelyard push SELECTOR --layout FILE.tar`. Every blob is checked against its
digest; neither a repository nor a network is needed. A bundle's inspection results count only with
--verify-key, if the bundle was made with --sign-key; otherwise `push` requires --unverified.
"""

COMMAND = Command(
    "import images from an offline bundle",
    "Check a bundle and import its images into a layout and an engine.",
    _EXAMPLES,
    needs_project=False,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a .tar file, or a folder")
    add_output(parser, "layout to add to")
    add_load(parser)
    add_verify_key(parser, refusing("a bundle"))
    add_json(parser)


def run(args: argparse.Namespace, context: Context) -> int:
    """Import the bundle and print its content."""
    from wheelyard.console.amounts import amount
    from wheelyard.console.table import show_json, show_table
    from wheelyard.images.build.loading import find_loader
    from wheelyard.images.build.report import unpacked_sizes
    from wheelyard.oci.layout import Layout
    from wheelyard.publish.attest.keys import load_public_key
    from wheelyard.publish.unbundle import import_bundle

    layout = Layout(args.output.absolute())
    keys = tuple(map(load_public_key, args.verify_key))
    images = import_bundle(args.bundle.absolute(), layout, context.reporter, keys)
    loader = find_loader(args.load, context)
    sizes = unpacked_sizes(layout.folder)
    for image in images:
        if loader is not None:
            loader.manifest(layout, image.manifest.digest, image.tags, sizes)
    if args.json:
        show_json(
            [
                {
                    "digest": image.manifest.digest,
                    "tags": list(image.tags),
                    "new_bytes": image.new_bytes,
                    "loaded": loader is not None,
                }
                for image in images
            ]
        )
        return 0
    rows = [(x.tags[0], x.manifest.digest[:19], amount(x.new_bytes, "bytes")) for x in images]
    show_table(("image", "digest", "new here"), rows)
    return 0
