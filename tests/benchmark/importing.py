"""`import torch` in the image, beside the same wheels installed by pip onto the same base."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.benchmark.chroot import require_chroot, run_inside
from tests.benchmark.measure import (
    Measurement,
    NotMeasuredError,
    interleaved,
    median,
    rounded,
    say,
    timed,
)
from tests.benchmark.place import Place, prepared, stage_of, wheel_files
from tests.image.layout import BuiltImage, matches, read_built
from wheelyard.oci.unpack import make_mount_points, unpack
from wheelyard.system.storage import link_or_copy

LIMIT = 1.1
USER, GROUP = 1000, 900
WHEELS = "wheels"  # folder in the root that pip installs into, gone before anything is timed
PYTHON = "/opt/venv/bin/python"
_DROP = Path("/proc/sys/vm/drop_caches")


def measure(place: Place, runs: int | None) -> list[Measurement]:
    """With files in memory, and right after the page cache was dropped."""
    require_chroot()
    roots = {"image": unpacked(place), "pip": _installed_by_pip(place)}
    environment = {**built_image(place).environment, "PYTHONDONTWRITEBYTECODE": "1"}
    run = partial(_import, environment=environment)
    versions = {name: run(root, "torch.__version__") for name, root in roots.items()}
    if len(set(versions.values())) != 1:
        raise NotMeasuredError(f"the environments differ: {versions}")
    run(roots["image"]), run(roots["pip"])
    warm = {name: partial(timed, partial(run, root)) for name, root in roots.items()}
    values = interleaved(runs or 21, warm)
    results = [_result("import", "import torch, files in memory", values, LIMIT)]
    if os.access(_DROP, os.W_OK):
        cold = {name: partial(_after_drop, action) for name, action in warm.items()}
        values = interleaved(min(runs or 3, 3), cold)
        results.append(_result("import-cold", "import torch, nothing in memory", values, None))
    for root in roots.values():
        shutil.rmtree(root)
    return results


def _result(
    name: str, what: str, values: dict[str, list[float]], limit: float | None
) -> Measurement:
    return Measurement(
        name, what, median(values["image"]), "seconds", "same wheels installed by pip",
        median(values["pip"]), limit, "ratio",
        {f"{name}_runs": rounded(seconds) for name, seconds in values.items()},
    )  # fmt: skip


def _import(root: Path, show: str = "''", *, environment: dict[str, str]) -> str:
    argv = [PYTHON, "-c", f"import torch; print({show})"]
    return run_inside(root, argv, environment, user=USER, group=GROUP).strip()


def _after_drop(action: Callable[[], float]) -> float:
    os.sync()
    _DROP.write_text("3")
    return action()


def built_image(place: Place) -> BuiltImage:
    """The image that is measured."""
    built = read_built(prepared(place))
    (image,) = (image for image in built if matches(image, place.image))
    return image


def unpacked(place: Place) -> Path:
    """The image's files in a new folder."""
    say("unpacking the image")
    image, root = built_image(place), place.new("root")
    root.chmod(0o755)
    unpack([image.blob(digest) for digest in image.layers], root)
    make_mount_points(root)
    return root


def _installed_by_pip(place: Place) -> Path:
    """The image's base, its empty environment filled by pip as pip does by default."""
    say("installing the same wheels by pip")
    image, root = built_image(place), place.new("root")
    root.chmod(0o755)
    unpack([image.blob(image.layers[0])], root)
    make_mount_points(root)
    folder = root / WHEELS
    folder.mkdir()
    for path in wheel_files(place):
        link_or_copy(path, folder / path.name)
    lock = place.project / "images" / stage_of(place).cell.id / "requirements.lock"
    shutil.copyfile(lock, folder / "requirements.txt")
    (pip,) = folder.glob("pip-*.whl")
    argv = [
        PYTHON, f"/{WHEELS}/{pip.name}/pip", "install", "--no-index", "--no-deps", "--no-cache-dir",
        "--require-hashes", "--find-links", f"/{WHEELS}", "-r", f"/{WHEELS}/requirements.txt",
    ]  # fmt: skip
    run_inside(root, argv, {**image.environment, "HOME": "/root"}, user=0, group=0)
    shutil.rmtree(folder)
    return root
