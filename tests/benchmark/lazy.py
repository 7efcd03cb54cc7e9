"""`python -m tests.benchmark.lazy`: bytes and seconds until a container trains, by packing.

One image is pushed as gzip, zstd and eStargz to a registry on loopback, and run by one containerd:
pulled whole, and by the stargz snapshotter, which fetches what is read. The registry counts what it
sends. Registry and containerd share a network namespace, whose loopback may be made slow.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.benchmark.bars import Bar, Heading, draw_bars
from tests.benchmark.engines.projects import REPOSITORY
from tests.benchmark.environment import environment
from tests.benchmark.measure import say
from tests.benchmark.place import IMAGE, Place, build
from tests.benchmark.publication import draw_again
from tests.engines.daemons import temporary_folder
from tests.peers import lazy
from tests.peers.registries import registry
from wheelyard.cli import main as wheelyard
from wheelyard.errors import WheelyardError
from wheelyard.planning.plan import load_plan
from wheelyard.planning.selector import select
from wheelyard.settings import Settings, load_settings
from wheelyard.system.textfiles import write_text

RESULT = REPOSITORY / "docs/results/bench-lazy.json"
PORT = 5000
STEP = """
import torch
model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.Linear(7200, 10))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for _ in range({steps}):
    optimizer.zero_grad()
    seen = model(torch.rand(4, 3, 32, 32))
    torch.nn.functional.cross_entropy(seen, torch.zeros(4).long()).backward()
    optimizer.step()
"""
# What is run one after the other in new containers of one pull; bytes and seconds add up.
PROGRAMS = {
    "import torch": "import torch",
    "first step": STEP.format(steps=1),
    "tenth step": STEP.format(steps=10),
}
WAYS = {"gzip": "overlayfs", "zstd": "overlayfs", "estargz": "stargz"}  # packing -> snapshotter
NAMES = {"gzip": "gzip, whole", "zstd": "zstd, whole", "estargz": "eStargz, lazily"}
_SENT = re.compile(rb'/blobs/\S+ HTTP/1\.1" 20[06] (\d+)')


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.lazy", description=__doc__)
    parser.add_argument("--image", default=IMAGE, metavar="SELECTOR", help=f"default: {IMAGE}")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument(
        "--mbit", nargs="+", type=int, default=[0, 100], help="rates in Mbit/s; 0: loopback's own"
    )
    parser.add_argument("--folder", type=Path, help="scratch folder, with 20 GB free")
    parser.add_argument("--output", type=Path, default=RESULT)
    args = parser.parse_args(argv)
    settings = load_settings({"project": str(REPOSITORY)})
    snapshotter = lazy.program("snapshotter", settings)
    with temporary_folder(args.folder or settings.cache_dir) as folder:
        place = Place(REPOSITORY, settings.cache_dir, folder, args.image)
        machine = environment(place)
        name, sizes = _pushed(place, args, settings)
        runs = []
        for rate in args.mbit:
            for way in args.ways:
                say(f"{way}, {rate or 'loopback, no'} Mbit/s")
                runs.append(_run(folder, snapshotter, way, name, rate) | {"size": sizes[way]})
    for line in _table(runs):
        print(line)
    result = {"environment": machine, "image": args.image, "runs": runs}
    write_text(args.output, json.dumps(result, indent=1) + "\n")
    draw_again(args.output, draw)
    return 0


def draw(report: Mapping[str, Any]) -> str:
    """An SVG with a group of bars for each mark on each line."""
    machine = report["environment"]
    heading = Heading(
        "From nothing to a training step",
        "seconds, and ratio to the image as gzip, pulled whole; "
        f"{machine['processor']}, {machine['cores']} cores",
        "tests.benchmark.lazy", RESULT.name,
    )  # fmt: skip
    groups: dict[str, list[Bar]] = {}
    for run in report["runs"]:
        rate = f"{run['mbit']} Mbit/s" if run["mbit"] else "loopback"
        beside = _beside(run, report["runs"])
        for what, mark in run["marks"].items():
            ratio = None if beside is run else mark["seconds"] / beside["marks"][what]["seconds"]
            bar = Bar(NAMES[run["way"]], mark["seconds"], ratio, run["way"] == "gzip")
            groups.setdefault(f"{rate}: {what}", []).append(bar)
    return draw_bars(heading, groups)


def _beside(run: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the run of gzip on the same line; the run itself without one."""
    return next((x for x in runs if (x["way"], x["mbit"]) == ("gzip", run["mbit"])), run)


def _pushed(
    place: Place, args: argparse.Namespace, settings: Settings
) -> tuple[str, dict[str, int]]:
    """Push the image in every packing; return its tag and bytes by packing."""
    dist = place.folder / "dist"
    build(place, dist, settings.cache_dir)
    (cell,) = select(load_plan(REPOSITORY), args.image)
    sizes = {}
    with registry(place.folder, keep=True) as address:
        for way in args.ways:
            words = ["push", args.image, "--output", str(dist), "--compression", way, "--quiet"]
            words += ["--project", str(REPOSITORY), "--cache-dir", str(settings.cache_dir)]
            code = wheelyard(
                [*words, "--registry", f"http://{address}/{way}", "--no-attest", "--json"]
            )
            if code:
                raise WheelyardError(f"push ended with {code}")
            sizes[way] = _size(place.folder, f"{way}/{cell.repository}")
    shutil.rmtree(dist)
    return cell.tags[0], sizes


def _size(folder: Path, repository: str) -> int:
    """Sum up the layers of the only image of a repository."""
    root = folder / "registry/docker/registry/v2"
    for link in (root / "repositories" / repository / "_manifests/revisions/sha256").iterdir():
        manifest = json.loads(
            (root / "blobs/sha256" / link.name[:2] / link.name / "data").read_bytes()
        )
        return sum(layer["size"] for layer in manifest["layers"])
    raise WheelyardError(f"{repository} has no image")


def _run(folder: Path, snapshotter: Path, way: str, name: str, rate: int) -> dict[str, Any]:
    """Pull and run in a new containerd; return seconds and bytes at each mark."""
    state = folder / "state"
    state.mkdir()
    with _served(folder, state, snapshotter, rate) as (running, sent):
        reference = f"127.0.0.1:{PORT}/{way}/{name}"
        marks: dict[str, dict[str, float]] = {}
        seconds = 0.0

        def mark(what: str, *words: str) -> None:
            nonlocal seconds
            started = time.monotonic()
            done = running.ctr(*words)
            seconds += time.monotonic() - started
            if done.returncode:
                raise WheelyardError(f"{way}: {what}: {done.stderr[-600:]}")
            sizes = sent()
            total = sum(sizes)
            marks[what] = {"seconds": round(seconds, 2), "bytes": total, "requests": len(sizes)}
            say(f"  {what}: {seconds:.1f} s, {total / 1e6:,.0f} MB, {len(sizes):,} requests")

        if WAYS[way] == "stargz":
            mark("pulled", "image", "rpull", "--plain-http", reference)
        else:
            mark("pulled", "image", "pull", "--plain-http", reference)
        for number, (what, program) in enumerate(PROGRAMS.items()):
            options = ("--rm", "--net-host", "--snapshotter", WAYS[way])
            mark(what, "run", *options, reference, f"c{number}", "python", "-c", program)
        memory = _memory(running)
    used = sum(
        x.stat().st_blocks * 512 for x in state.rglob("*") if x.is_file() and not x.is_symlink()
    )
    shutil.rmtree(state)
    return {"way": way, "mbit": rate, "marks": marks, "disk": used, "memory": memory}


def _memory(running: lazy.Containerd) -> dict[str, int]:
    """Return the most bytes that each of the daemons has held."""
    peaks = {}
    for line in running.inside("sh", "-c", "cat /proc/[0-9]*/status").stdout.splitlines():
        key, _, value = line.partition(":")
        if key == "Name":
            name = value.strip().partition("-")[0]
        elif key == "VmHWM" and name in ("containerd", "snapshotter"):
            peaks[name] = int(value.split()[0]) << 10
    return peaks


@contextmanager
def _served(
    folder: Path, state: Path, snapshotter: Path, rate: int
) -> Iterator[tuple[lazy.Containerd, Callable[[], list[int]]]]:
    """Start registry and containerd in a network of their own, of that rate."""
    log = state / "registry.log"
    config = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": f"{folder}/registry"}},
        "http": {"addr": f"127.0.0.1:{PORT}"},
    }
    (state / "registry.yml").write_text(json.dumps(config))
    slow = f"tc qdisc add dev lo root tbf rate {rate}mbit burst 256kb latency 400ms" if rate else ""
    first = f"ip link set lo up\n{slow}\ndocker-registry serve {state}/registry.yml >{log} 2>&1 &"
    with lazy.containerd(state, snapshotter, first, ["--net"]) as running:
        yield running, lambda: [int(size) for size in _SENT.findall(log.read_bytes())]


def _table(runs: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Print every run; bytes as shares of the image, seconds as ratios to gzip pulled whole."""
    yield f"{'Mbit/s':>8} {'packing':<8} {'size':>9}" + "".join(
        f" {what:>24}" for what in ("pulled", *PROGRAMS)
    )
    for run in runs:
        beside = _beside(run, runs)
        cells = [
            f"{mark['seconds']:8.1f} s {mark['seconds'] / beside['marks'][what]['seconds']:4.2f} x"
            f" {mark['bytes'] / run['size']:4.0%}"
            for what, mark in run["marks"].items()
        ]
        rate = run["mbit"] or "loopback"
        yield f"{rate:>8} {run['way']:<8} {run['size'] / 1e6:6,.0f} MB" + "".join(
            f" {cell:>24}" for cell in cells
        )


if __name__ == "__main__":
    raise SystemExit(main())
