"""Files that strangers write, mutated; the same every time, unlike those of `make fuzz`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_two_thousand_mutants() -> None:
    """In a process of its own, which has 500 MB."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--mutants", "2000", "--seed", "0"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests/unit")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.endswith("2000 mutants from seed 0: 0 failures\n"), done.stderr[-4000:]
    assert done.returncode == 0
