"""`python -m tests.benchmark.publish`: from wheels on disk to the first training step elsewhere.

Three images of one CUDA set are built and pushed to a registry on loopback one after the other,
then pulled in the same order into an engine that keeps the one before, where each trains one step:
by `docker build` and `docker push` of the Dockerfile that most people write, and by
`wheelyard build` and `wheelyard push`, with layers of gzip and of zstd. Docker pulls all of them.
"""

from __future__ import annotations

import argparse
import json
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from tests.benchmark.engines.projects import REPOSITORY
from tests.benchmark.environment import environment
from tests.benchmark.measure import NotMeasuredError, say
from tests.benchmark.place import Place
from tests.benchmark.publication import draw_again, publish, run_as_program
from tests.benchmark.publish import ours, usual
from tests.benchmark.publish.cost import adopt_orphans
from tests.benchmark.publish.engine import pull
from tests.benchmark.publish.plot import draw
from tests.benchmark.publish.report import COLUMNS, IMAGES, USUAL, WAYS, Run, measurements, read_run
from tests.benchmark.publish.site import Site, prepare
from tests.engines import trixie
from tests.engines.daemons import INSTALLED, Kind, temporary_folder
from tests.peers.island import leave_the_network
from tests.peers.registries import registry
from wheelyard.errors import WheelyardError
from wheelyard.settings import Settings, load_settings

RESULT = REPOSITORY / "docs" / "results" / "bench-publish.json"
ENGINES: dict[str, Callable[[Settings], Kind]] = {
    "docker-26.1": trixie.classic,
    "docker-26.1-containerd": trixie.containerd,
    "docker-20.10": lambda _settings: INSTALLED,  # reads no zstd
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON and plot; 0, or with --strict 1 if a target is missed."""
    args = parse(argv)
    if args.plot:
        draw_again(args.output, draw)
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clean up, then, too
    settings = load_settings({"project": str(REPOSITORY)})
    with temporary_folder(args.folder or settings.cache_dir) as folder:
        machine = environment(Place(REPOSITORY, settings.cache_dir, folder))
        site = prepare(folder, settings, ENGINES[args.engine](settings))
        leave_the_network()
        adopt_orphans()
        taken, failures = take(args, site)
    runs = [*(earlier(args.output, taken) if args.add else ()), *taken]
    results = measurements(runs)
    is_good = publish(args.output, machine, runs, failures, results, COLUMNS, draw)
    return 1 if not results or (args.strict and not is_good) else 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmark.publish",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=list(WAYS), metavar="WAY", default=list(WAYS),
                        help=f"some of {', '.join(WAYS)}")  # fmt: skip
    parser.add_argument("--images", nargs="+", choices=list(IMAGES), metavar="IMAGE",
                        default=list(IMAGES), help=f"some of {', '.join(IMAGES)}")  # fmt: skip
    parser.add_argument("--engine", choices=list(ENGINES), default="docker-26.1",
                        help="builds the usual way, and pulls (default: docker-26.1)")  # fmt: skip
    parser.add_argument("--add", action="store_true",
                        help="to what the output holds; replaces what is taken again")  # fmt: skip
    parser.add_argument("--output", type=Path, default=RESULT, help="JSON; the plot beside it")
    parser.add_argument("--folder", type=Path, help="for 20 GB (default: the cache's folder)")
    parser.add_argument("--plot", action="store_true", help="only draw the plot again")
    parser.add_argument("--strict", action="store_true", help="a missed target is a failure")
    return parser.parse_args(argv)


def earlier(output: Path, taken: Sequence[Run]) -> list[Run]:
    """The steps of a report on disk, if there is one, that were not taken again."""
    if not output.exists():
        return []
    again = {(x.engine, x.way, x.image, x.phase) for x in taken}
    found = [read_run(entry) for entry in json.loads(output.read_text())["runs"]]
    return [x for x in found if (x.engine, x.way, x.image, x.phase) not in again]


def take(args: argparse.Namespace, site: Site) -> tuple[list[Run], dict[str, str]]:
    """All steps, and why a way could not be measured; one that fails does not stop the other."""
    images = [image for image in IMAGES if image in args.images]
    compressions = [name for name in ours.COMPRESSIONS if name in args.only]
    sides: dict[str, Callable[[Site, list[str]], Iterator[Run]]] = {}
    if USUAL in args.only:
        sides[USUAL] = the_usual
    if compressions:
        sides["wheelyard"] = partial(the_other, compressions=compressions)
    runs: list[Run] = []
    failures: dict[str, str] = {}
    for name, side in sides.items():
        try:
            for run in side(site, images):
                runs.append(run)  # at once: what fails later does not take it away
        except (NotMeasuredError, WheelyardError, OSError, AssertionError) as error:
            say(f"{name} was not measured to the end: {error}")
            failures[name] = str(error).splitlines()[0]
    return runs, failures


def the_usual(site: Site, images: list[str]) -> Iterator[Run]:
    """By Docker, with a registry of its own."""
    with registry(site.folder) as address:
        yield from usual.publish(site, images, address)
        yield from pull(site, USUAL, images, partial(usual.reference, site, address))


def the_other(site: Site, images: list[str], compressions: Sequence[str]) -> Iterator[Run]:
    """By Wheelyard, with a registry of its own; pulled by Docker."""
    with registry(site.folder) as address:
        yield from ours.publish(site, images, address, compressions)
        for compression in compressions:
            name = partial(ours.reference, site, address, compression)
            yield from pull(site, compression, images, name)


if __name__ == "__main__":
    run_as_program(main)
