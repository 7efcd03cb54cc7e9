"""Feed mutants to every reader (`make fuzz`).

Anything but the project's own errors, and anything written outside the reader's folder, is a
failure. What brings the same bytes again is printed. Memory and time are bounded.
"""

from __future__ import annotations

import argparse
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.fuzz.targets import TARGETS
from wheelyard.errors import WheelyardError

MEMORY = 500 << 20  # bytes of data, of the whole process
SECONDS = 20  # for one mutant, on a busy machine


class OutsideError(Exception):
    """A mutant left something outside the folder that it was given."""


def main() -> int:
    """Run; 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--only", choices=TARGETS, action="append", help="one reader")
    parser.add_argument("--seed", type=int, help="of the first mutant (default: the time)")
    parser.add_argument("--mutants", type=int, help="of all readers together; else --minutes count")
    parser.add_argument("--minutes", type=float, default=5.0)
    args = parser.parse_args()
    seed = int(time.time()) * 1000 if args.seed is None else args.seed
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, _too_long)
    names = args.only or list(TARGETS)
    samples = {name: TARGETS[name].sample() for name in names}
    end = time.monotonic() + args.minutes * 60
    failed = count = 0
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        for name in names:
            _feed(name, samples[name], Path(folder))  # unchanged, it is read
        while count < args.mutants if args.mutants else time.monotonic() < end:
            name = names[count % len(names)]
            failed += not _survives(name, samples[name], seed + count // len(names), Path(folder))
            count += 1
    print(f"{count} mutants from seed {seed}: {failed} failures")
    return 1 if failed else 0


def _survives(name: str, sample: bytes, seed: int, folder: Path) -> bool:
    data = TARGETS[name].mutate(sample, random.Random(f"{name} {seed}"))
    signal.alarm(SECONDS)
    try:
        _feed(name, data, folder)
    except WheelyardError:
        return True
    except Exception:  # noqa: BLE001 - whatever it is
        traceback.print_exc()
        print(f'again: make fuzz ARGS="--only {name} --seed {seed} --mutants 1"', file=sys.stderr)
        return False
    finally:
        signal.alarm(0)
    return True


def _feed(name: str, data: bytes, folder: Path) -> None:
    own = folder / "own"
    own.mkdir()
    try:
        TARGETS[name].feed(data, own)
    finally:
        others = sorted(x.name for x in folder.iterdir() if x != own)
        shutil.rmtree(own)
        if others:
            raise OutsideError(f"{name} wrote {others} outside its folder")


def _too_long(_signal: int, _frame: object) -> None:
    raise TimeoutError(f"longer than {SECONDS} seconds")


if __name__ == "__main__":
    sys.exit(main())
