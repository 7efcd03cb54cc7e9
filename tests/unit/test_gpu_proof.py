"""tools/gpu-proof where nothing can be proven; in an image `--rehearse` runs its steps."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parents[2] / "tools/gpu-proof"


def test_without_pytorch_it_says_so_and_writes_nothing(tmp_path: Path) -> None:
    output = tmp_path / "proof.json"
    command = [sys.executable, "-S", str(TOOL), "--rehearse", str(output)]  # -S: no packages
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, output.exists()) == (2, "", False)
    assert "PyTorch is not installed for" in done.stderr


def test_a_step_that_raises_is_a_failure_and_the_next_is_tried() -> None:
    tool = runpy.run_path(str(TOOL))

    def work() -> None:
        raise RuntimeError("the other process did not start")

    found = tool["tried"](work)
    assert (found["ok"], found["why"]) == (
        False, "RuntimeError: the other process did not start",
    )  # fmt: skip
    assert tool["tried"](lambda: {"ok": True})["ok"] is True


def test_all_its_time_is_under_nine_minutes_and_files_are_named_by_device() -> None:
    tool = runpy.run_path(str(TOOL))
    assert tool["SECONDS"] < 9 * 60
    assert tool["slug"]("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"
