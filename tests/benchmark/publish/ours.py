"""`wheelyard build`, then `wheelyard push`, of layers as they are built and as zstd."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace

from tests.benchmark.engines.projects import copy_file
from tests.benchmark.publish.report import Run
from tests.benchmark.publish.site import Site

COMPRESSIONS = ("gzip", "zstd")
RECORD = "images/layers.json"


def reference(site: Site, address: str, compression: str, image: str) -> str:
    """The image's full tag in the registry."""
    return f"{address}/{compression}/{site.cells[image].tags[0]}"


def publish(
    site: Site, images: Sequence[str], address: str, compressions: Sequence[str]
) -> Iterator[Run]:
    """Build each image once, push it in each compression; then once more what is all there."""
    cache, output = site.new_cache(), site.folder / "dist"
    common = ["--project", str(site.project), "--cache-dir", str(cache), "--output", str(output)]
    environment = site.environment()

    def wheelyard(verb: str, image: str, *options: str) -> list[str]:
        return [sys.executable, "-m", "wheelyard", verb, site.cells[image].id, *options, *common]

    def push(compression: str, image: str, *options: str) -> list[str]:
        to = ("--registry", f"http://{address}/{compression}")
        return wheelyard("push", image, *to, "--compression", compression, *options)

    try:
        for image in images:
            command = wheelyard("build", image, "--no-load")
            built = Run.of(site, compressions[0], image, "build", command, environment)
            for compression in compressions:
                yield replace(built, way=compression)
                command = push(compression, image)
                yield Run.of(site, compression, image, "push", command, environment)
        if images[0] == "first":
            copy_file(RECORD, site.project)
            for compression in compressions:
                command = push(compression, "first", "--known")
                yield Run.of(site, compression, "first", "again", command, environment)
    finally:
        for folder in (cache, output):
            shutil.rmtree(folder, ignore_errors=True)
