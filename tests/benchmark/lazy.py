"""`python -m tests.benchmark.lazy`: bytes and seconds until a container trains, by packing.

PyTorch 2.3.1 is pushed to a registry on loopback: by Docker, as the Dockerfile that most people
write makes it, and by Wheelyard as gzip, zstd and eStargz. One containerd runs each, pulled whole,
and by the stargz snapshotter, which fetches what is read; then the release beside it, 2.3.0, where
the first one is. The registry counts what it sends. Registry and containerd share a network
namespace, whose loopback may be made slow. `partial` pulls the zstd image, which is zstd:chunked,
into podman's storage, which fetches only the files that it lacks, and runs nothing. The ways with
1.7 in their names have the containerd of Debian trixie instead of this machine's.

The Dockerfile's 2.3.0 is not pulled: it shares its base alone with 2.3.1, and costs as much.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.benchmark.bars import Bar, Heading, draw_bars
from tests.benchmark.engines.projects import REPOSITORY, wheelyard
from tests.benchmark.environment import environment
from tests.benchmark.measure import NotMeasuredError, say
from tests.benchmark.place import Place
from tests.benchmark.publication import draw_again, run_as_program
from tests.benchmark.publish import usual
from tests.benchmark.publish.site import Site, prepare
from tests.engines import trixie
from tests.engines.daemons import temporary_folder
from tests.peers import lazy
from tests.peers.partial import Partial
from tests.peers.registries import registry
from wheelyard.settings import load_settings
from wheelyard.system.textfiles import write_text

RESULT = REPOSITORY / "docs/results/bench-lazy.json"
PORT = 5000
IMAGES = {"first": "2.3.1", "next": "2.3.0"}
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
NEXT_PROGRAMS = {"first step": PROGRAMS["first step"]}
SHOWN = ("pulled", "first step")  # in the plot
USUAL, PARTIAL = "usual", "partial"


@dataclass(frozen=True, slots=True)
class Way:
    """How an image is packed and pulled."""

    name: str
    packing: str
    snapshotter: str = "overlayfs"
    newer: bool = False  # by Debian trixie's containerd, 1.7; on loopback alone


WAYS = {
    USUAL: Way("pip in a Dockerfile, whole", ""),
    "gzip": Way("gzip, whole", "gzip"),
    "zstd": Way("zstd, whole", "zstd"),
    "estargz": Way("eStargz, lazily", "estargz", "stargz"),
    "gzip-1.7": Way("gzip, whole, containerd 1.7", "gzip", newer=True),
    "zstd-1.7": Way("zstd, whole, containerd 1.7", "zstd", newer=True),
    "estargz-1.7": Way("eStargz, lazily, containerd 1.7", "estargz", "stargz", newer=True),
    PARTIAL: Way("zstd:chunked, lacking files", "zstd"),
}
_SENT = re.compile(rb'/blobs/\S+ HTTP/1\.1" 20[06] (\d+)')
Run = dict[str, Any]
Marks = dict[str, dict[str, float]]


def main() -> int:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.lazy", description=__doc__)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument(
        "--mbit", nargs="+", type=int, default=[0, 1000, 100],
        help="rates in Mbit/s; 0: loopback's own",
    )  # fmt: skip
    parser.add_argument("--folder", type=Path, help="scratch folder, with 20 GB free")
    parser.add_argument(
        "--stores", type=Path, help="for 12 of them: where engines unpack, such as a tmpfs"
    )
    parser.add_argument("--output", type=Path, default=RESULT, help="JSON; the plot beside it")
    parser.add_argument(
        "--add", action="store_true", help="to what the output holds; replaces what is taken again"
    )
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clean up, then, too
    settings = load_settings({"project": str(REPOSITORY)})
    snapshotter = lazy.program("snapshotter", settings)
    with temporary_folder(args.folder or settings.cache_dir) as folder:
        machine = environment(Place(REPOSITORY, settings.cache_dir, folder))
        site = prepare(folder, settings, trixie.classic(settings), IMAGES)
        site = replace(site, stores=args.stores)
        runs = earlier(args.output) if args.add else []
        for way in args.ways:
            for run in _measured(site, way, args.mbit, snapshotter):
                runs = [x for x in runs if (x["way"], x["mbit"]) != (way, run["mbit"])] + [run]
                result = {"environment": machine, "images": IMAGES, "runs": in_order(runs)}
                write_text(args.output, json.dumps(result, indent=1) + "\n")
    for line in table(in_order(runs)):
        print(line)
    draw_again(args.output, draw)
    return 0


def earlier(output: Path) -> list[Run]:
    """Return the runs of a report on disk, if there is one."""
    return list(json.loads(output.read_text())["runs"]) if output.exists() else []


def in_order(runs: Sequence[Run]) -> list[Run]:
    """Sort runs by line, the fastest first, and by way."""
    ways = list(WAYS)
    return sorted(runs, key=lambda x: (-(x["mbit"] or 1 << 30), ways.index(x["way"])))


def draw(report: Mapping[str, Any]) -> str:
    """An SVG with a group of bars for each mark on each line."""
    machine = report["environment"]
    loads = [run["load_before"][0] for run in report["runs"]]
    heading = Heading(
        "From nothing to a training step, and to that of another patch release",
        "seconds, and ratio to a Dockerfile with pip, pulled whole; "
        f"{machine['processor']}, {machine['cores']} cores, "
        f"load {min(loads):.0f} to {max(loads):.0f}",
        "tests.benchmark.lazy", RESULT.name,
    )  # fmt: skip
    groups: dict[str, list[Bar]] = {}
    for run in report["runs"]:
        rate = f"{run['mbit']} Mbit/s" if run["mbit"] else "loopback"
        for which, title in (("marks", ""), ("next", "another release, ")):
            for what in SHOWN:
                if (mark := run[which].get(what)) is None:
                    continue
                ratio = _ratio(run, report["runs"], what, mark["seconds"])
                ratio = None if run["way"] == USUAL else ratio
                bar = Bar(WAYS[run["way"]].name, mark["seconds"], ratio, run["way"] == USUAL)
                groups.setdefault(f"{rate}: {title}{what}", []).append(bar)
    return draw_bars(heading, groups)


def _ratio(run: Run, runs: Sequence[Run], what: str, seconds: float) -> float | None:
    """Return the seconds as a ratio to the usual image's on the same line, if that was measured.

    Its next release shares its base alone with it, and costs what the first did (bench-publish).
    """
    for other in runs:
        if (other["way"], other["mbit"]) == (USUAL, run["mbit"]) and what in other["marks"]:
            return float(seconds / other["marks"][what]["seconds"])
    return None


def _measured(site: Site, way: str, rates: Sequence[int], snapshotter: Path) -> Iterator[Run]:
    """Push both images in one way, and pull them on each line; keep nothing."""
    try:
        names = _pushed_by_docker(site) if way == USUAL else _pushed(site, way)
        size = _size(site.folder, names["first"])
        for rate in [0] if way == PARTIAL or WAYS[way].newer else rates:
            say(f"{way}, {rate or 'loopback, no'} Mbit/s")
            before = {"way": way, "mbit": rate, "size": size, "load_before": list(os.getloadavg())}
            yield before | (
                _lacking(site, names) if way == PARTIAL
                else _run(site, snapshotter, way, names, rate)
            )  # fmt: skip
    finally:
        shutil.rmtree(site.folder / "registry", ignore_errors=True)


def _pushed_by_docker(site: Site) -> dict[str, str]:
    """Build the Dockerfile's first image and push it; return its name."""
    with registry(site.folder, keep=True) as address, usual.builder(site) as here:
        here.provide("first")
        name = usual.reference(site, address, "first")
        here.docker(*here.build_command(f"--tag={name}")[1:])
        here.forget_steps()
        here.docker("push", "--quiet", name)
    shutil.rmtree(site.folder / "context")
    return {"first": usual.reference(site, "", "first")[1:]}


def _pushed(site: Site, way: str) -> dict[str, str]:
    """Build both images and push them in one packing; return their names."""
    dist = site.folder / "dist"
    wheelyard(site.project, "build", "all", "--no-load", "--output", str(dist))
    packing = WAYS[way].packing
    with registry(site.folder, keep=True) as address:
        to = ("--registry", f"http://{address}/{packing}", "--compression", packing)
        wheelyard(site.project, "push", "all", *to, "--no-attest", "--output", str(dist))
    shutil.rmtree(dist)
    return {image: f"{packing}/{site.cells[image].tags[0]}" for image in IMAGES}


def _size(folder: Path, name: str) -> int:
    """Sum up the layers of an image in the registry."""
    root = folder / "registry/docker/registry/v2"
    repository, _, tag = name.partition(":")
    link = root / "repositories" / repository / "_manifests/tags" / tag / "current/link"
    sha256 = link.read_text().partition(":")[2]
    manifest = json.loads((root / "blobs/sha256" / sha256[:2] / sha256 / "data").read_bytes())
    return sum(layer["size"] for layer in manifest["layers"])


def _lacking(site: Site, names: Mapping[str, str]) -> Run:
    """Pull both images into podman's storage; return seconds and bytes of each."""
    root = trixie.trixie_root(site.settings, trixie.TOOLS)
    pulled = {}
    with (
        temporary_folder(site.stores or site.folder) as folder,
        registry(site.folder, keep=True) as address,
    ):
        storage = Partial(root, folder / "podman", site.folder / "registry.log")
        for image, name in names.items():
            started = time.monotonic()
            done, sent = storage.pull(f"{address}/{name}")
            seconds = time.monotonic() - started
            if done.returncode:
                raise NotMeasuredError(f"{name}: {done.stderr[-600:]}")
            pulled[image] = {"seconds": round(seconds, 2), "bytes": sum(sent.values())}
            say(f"  {image}: {seconds:.1f} s, {sum(sent.values()) / 1e6:,.0f} MB")
    return {"marks": {"pulled": pulled["first"]}, "next": {"pulled": pulled["next"]}}


def _run(site: Site, snapshotter: Path, way: str, names: Mapping[str, str], rate: int) -> Run:
    """Pull and run in a new containerd; return seconds and bytes at each mark."""
    kind = WAYS[way]
    with (
        temporary_folder(site.stores or site.folder) as state,
        _served(site, state, snapshotter, kind, rate) as (running, sent),
    ):
        references = {image: f"127.0.0.1:{PORT}/{name}" for image, name in names.items()}
        marks = _marks(running, sent, kind.snapshotter, references["first"], PROGRAMS)
        memory = _memory(running)
        used = _disk(state)
        following: Marks = {}
        if "next" in references:
            following = _marks(running, sent, kind.snapshotter, references["next"], NEXT_PROGRAMS)
    return {"marks": marks, "next": following, "disk": used, "memory": memory}


def _marks(
    running: lazy.Containerd,
    sent: Callable[[], list[int]],
    snapshotter: str,
    reference: str,
    programs: Mapping[str, str],
) -> Marks:
    """Pull an image and run each program in a new container; count from here."""
    marks: Marks = {}
    seconds, before = 0.0, sent()

    def mark(what: str, *words: str) -> None:
        nonlocal seconds
        started = time.monotonic()
        _ctr(running, *words)
        seconds += time.monotonic() - started
        sizes = sent()[len(before) :]
        marks[what] = {"seconds": round(seconds, 2), "bytes": sum(sizes), "requests": len(sizes)}
        say(f"  {what}: {seconds:.1f} s, {sum(sizes) / 1e6:,.0f} MB, {len(sizes):,} requests")

    pull = "rpull" if snapshotter == "stargz" else "pull"
    mark("pulled", "image", pull, "--plain-http", reference)
    for number, (what, program) in enumerate(programs.items()):
        options = ("--rm", "--net-host", "--snapshotter", snapshotter)
        mark(what, "run", *options, reference, f"c{number}", "python", "-c", program)
    return marks


def _ctr(running: lazy.Containerd, *words: str) -> None:
    done = running.ctr(*words)
    if done.returncode:
        raise NotMeasuredError(f"{' '.join(words[:4])}: {done.stderr[-600:]}")


def _disk(folder: Path) -> int:
    """Count what the files below take on the disk; containerd may be removing some of them."""
    used = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                used += Path(parent, name).lstat().st_blocks * 512
    return used


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
    site: Site, state: Path, snapshotter: Path, way: Way, rate: int
) -> Iterator[tuple[lazy.Containerd, Callable[[], list[int]]]]:
    """Start registry and containerd in a network of their own, of that rate."""
    log = state / "registry.log"
    config = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": f"{site.folder}/registry"}},
        "http": {"addr": f"127.0.0.1:{PORT}"},
    }
    (state / "registry.yml").write_text(json.dumps(config))
    slow = f"tc qdisc add dev lo root tbf rate {rate}mbit burst 256kb latency 400ms" if rate else ""
    first = f"ip link set lo up\n{slow}\ndocker-registry serve {state}/registry.yml >{log} 2>&1 &"
    root = trixie.trixie_root(site.settings) if way.newer else None
    with lazy.containerd(state, snapshotter, first, ["--net"], root=root) as running:
        yield running, lambda: [int(size) for size in _SENT.findall(log.read_bytes())]


def table(runs: Sequence[Run]) -> Iterator[str]:
    """Print every run; bytes as shares of the image, seconds as ratios to the usual image's."""
    yield f"{'Mbit/s':>8} {'packing':<11} {'size':>8} {'image':<5}" + "".join(
        f" {what:>24}" for what in ("pulled", *PROGRAMS)
    )
    for run in runs:
        for which, image in (("marks", "first"), ("next", "next")):
            if not run[which]:
                continue
            cells = []
            for what in ("pulled", *PROGRAMS):
                if (mark := run[which].get(what)) is None:
                    cells.append("")
                    continue
                ratio = _ratio(run, runs, what, mark["seconds"])
                beside = "      " if ratio is None else f"{ratio:4.2f} x"
                share = mark["bytes"] / run["size"]
                cells.append(f"{mark['seconds']:8.1f} s {beside} {share:4.0%}")
            rate = run["mbit"] or "loopback"
            size = f"{run['size'] / 1e6:,.0f} MB"
            yield f"{rate:>8} {run['way']:<11} {size:>8} {image:<5}" + "".join(
                f" {cell:>24}" for cell in cells
            )


if __name__ == "__main__":
    run_as_program(main)
