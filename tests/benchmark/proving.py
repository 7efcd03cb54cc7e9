"""What selfcheck costs, and whether training in the image is as fast as outside it."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmark.chroot import require_chroot, run_inside
from tests.benchmark.importing import GROUP, PYTHON, USER, built_image, unpacked
from tests.benchmark.measure import (
    Measurement,
    NotMeasuredError,
    interleaved,
    median,
    rounded,
    timed,
)
from tests.benchmark.place import Place
from tests.image.layout import BuiltImage
from wheelyard.selfcheck.frameworks import MODULES

QUICK, TRAINING, OVERHEAD = 5.0, 90.0, 1 / 0.98
MODELS = ("mlp", "cnn-9216", "cnn-2304", "lstm")
THREADS = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "-1"}


def measure(place: Place, runs: int | None) -> list[Measurement]:
    """selfcheck's two promises, then throughput inside and outside, in turn."""
    require_chroot()
    root, image = unpacked(place), built_image(place)
    inside = partial(_inside, root, {**image.environment, "HOME": "/home/dev"})
    try:
        results = [_quick(inside, image, runs or 5), _training(inside)]
        results += _overhead(place, root, inside, runs or 7)
    finally:
        shutil.rmtree(root)
    return results


def _inside(root: Path, environment: dict[str, str], *argv: str) -> str:
    return run_inside(root, argv, environment, user=USER, group=GROUP)


def _quick(inside: Any, image: BuiltImage, runs: int) -> Measurement:
    """`versions libraries` less the frameworks' import."""
    modules = ", ".join(MODULES[name] for name in image.cell["framework"].split("+"))
    actions = {
        "selfcheck": partial(timed, partial(inside, "selfcheck", "versions", "libraries")),
        "import": partial(timed, partial(inside, PYTHON, "-c", f"import {modules}")),
    }
    for action in actions.values():
        action()  # files into memory
    values = interleaved(runs, actions)
    whole, imported = median(values["selfcheck"]), median(values["import"])
    return Measurement(
        "selfcheck-quick", "selfcheck versions libraries, less the import", whole - imported,
        "seconds", f"import {modules}", imported, QUICK, "value",
        {f"{name}_runs": rounded(seconds) for name, seconds in values.items()},
    )  # fmt: skip


def _training(inside: Any) -> Measurement:
    """All models of the image, once."""
    output: list[str] = []
    seconds = timed(lambda: output.append(inside("selfcheck", "--json", "train")))
    checks = json.loads(output[0])["checks"]
    failed = [check["name"] for check in checks if check["status"] == "fail"]
    if failed:
        raise NotMeasuredError(f"selfcheck train failed: {', '.join(failed)}")
    parts = {check["name"]: round(check["seconds"], 2) for check in checks}
    return Measurement(
        "selfcheck-train", "selfcheck train, all models", seconds, "seconds", "sum of the checks",
        sum(parts.values()), TRAINING, "value", {"checks": parts},
    )  # fmt: skip


def _overhead(place: Place, root: Path, inside: Any, runs: int) -> list[Measurement]:
    """Seconds for a thousand samples, in the image and with the same wheels outside."""
    site = next((root / "opt/venv/lib").glob("python3*/site-packages"))
    if site.parent.name != f"python{'.'.join(platform.python_version_tuple()[:2])}":
        raise NotMeasuredError(f"this Python cannot use the wheels of {site.parent.name}")
    return [_compared(model, partial(inside, "env", *_settings()), place, site, runs)
            for model in MODELS]  # fmt: skip


def _compared(model: str, inside: Any, place: Place, site: Path, runs: int) -> Measurement:
    words = ("bench", "--json", "--device", "cpu", "--model", model)
    actions = {
        "image": partial(_pace, partial(inside, "selfcheck", *words)),
        "outside": partial(_pace, partial(_outside, place, site, words)),
    }
    values = interleaved(runs, actions)
    return Measurement(
        f"overhead-{model}", f"{model}: 1,000 samples in the image", median(values["image"]),
        "seconds", "same wheels outside", median(values["outside"]), OVERHEAD, "ratio",
        {f"{name}_runs": rounded(found) for name, found in values.items()},
    )  # fmt: skip


def _settings() -> list[str]:
    return [f"{name}={value}" for name, value in THREADS.items()]


def _outside(place: Place, site: Path, words: tuple[str, ...]) -> str:
    """The same program and wheels, by this machine's own Python."""
    path = os.pathsep.join((str(place.project / "builder"), str(site)))
    return subprocess.run(
        [sys.executable, "-S", "-m", "wheelyard.selfcheck", *words], check=True,
        capture_output=True, text=True, env={**os.environ, **THREADS, "PYTHONPATH": path},
    ).stdout  # fmt: skip


def _pace(report: Callable[[], str]) -> float:
    """Seconds for a thousand samples."""
    (check,) = json.loads(report())["checks"]
    return 1000.0 / float(check["seen"]["float32"]["samples_per_second"])
