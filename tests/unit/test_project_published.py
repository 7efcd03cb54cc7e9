"""What a published base says about itself: by manifest, config, and one small layer."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wheelyard.contract.paths import LOCK
from wheelyard.errors import ProjectError, StorageError
from wheelyard.lock.lockfile import render_requirements_lock
from wheelyard.model import LockedWheel, RequirementsLock
from wheelyard.oci.layout import (
    CONFIG_TYPE,
    LAYER_TYPE,
    MANIFEST_TYPE,
    ZSTD_TYPE,
    Layout,
    canonical,
    digest_of,
)
from wheelyard.projects.published import Documents, base_from_layout

TAG = "pytorch:2.3.1-cuda12.1"
WHEEL = LockedWheel("torch", "2.3.1", "torch-2.3.1-py3-none-any.whl", "0" * 64, 10)
TEXT = render_requirements_lock(RequirementsLock("pytorch-2.3.1-runtime", "1" * 64, (WHEEL,)))
FACTS = {
    "id": "pytorch-2.3.1-runtime", "framework": "pytorch", "framework_version": "2.3.1",
    "cuda": "12.1", "cudnn": "8.9", "python": "3.11", "flavour": "runtime",
    "overrides": ["nvidia-nccl-cu12==2.21"],
}  # fmt: skip


def layer(files: dict[str, str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return gzip.compress(packed.getvalue(), mtime=0)


def publish(
    folder: Path,
    blob: bytes,
    *,
    labels: dict[str, str] | None = None,
    kind: str = LAYER_TYPE,
    history: str = "wheelyard: Debian trixie, trixie-runtime",
) -> Layout:
    layout = Layout(folder)
    layout.create()
    config = {
        "config": {"Labels": {"wheelyard.cell": json.dumps(FACTS)} if labels is None else labels},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(b"tar")]},
        "history": [{"created_by": history}],
    }
    path = layout.blob(digest_of(blob))
    path.write_bytes(blob)
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": layout.put(canonical(config), CONFIG_TYPE).as_json(),
        "layers": [{"mediaType": kind, "digest": digest_of(blob), "size": len(blob)}],
    }
    layout.set_references({TAG: layout.put(canonical(manifest), MANIFEST_TYPE)})
    return layout


def test_all_that_a_project_needs(tmp_path: Path) -> None:
    constraints = "# what makes this image\ntorch==2.3.1\nfsspec<=2026.6.0  # Datasets 5.0\n"
    blob = layer({LOCK: TEXT, "./etc/pip/constraint.txt": constraints})
    base = base_from_layout(publish(tmp_path, blob), TAG)
    assert (base.reference, base.repository, base.python) == (TAG, "pytorch", "3.11")
    assert base.wheels == (WHEEL,)
    assert base.constraints == ("torch==2.3.1", "fsspec<=2026.6.0")
    assert base.overrides == ("nvidia-nccl-cu12==2.21",)
    assert base.platform == "x86_64-manylinux_2_40"
    assert base.manifest["layers"][0]["digest"] == digest_of(blob)
    assert base.digest == digest_of(canonical(base.manifest))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda folder: publish(folder, layer({LOCK: TEXT}), labels={}), "no label wheelyard.cell"),
        (
            lambda folder: publish(folder, layer({LOCK: TEXT}), labels={"wheelyard.cell": "[]"}),
            "cannot be read",
        ),
        (lambda folder: publish(folder, layer({})), "older wheelyard"),
        (lambda folder: publish(folder, layer({LOCK: TEXT + " "})), "changed by hand"),
        (lambda folder: publish(folder, b"no gzip"), "last layer cannot be read"),
        (lambda folder: publish(folder, layer({LOCK: TEXT})[:-9]), "is cut off"),
        (lambda folder: publish(folder, gzip.compress(bytes(80 << 20))), "unpacks to more than"),
        (lambda folder: publish(folder, layer({LOCK: TEXT}), kind=ZSTD_TYPE), "--compression"),
        (
            lambda folder: publish(folder, layer({LOCK: TEXT.replace("torch-2", "../torch-2")})),
            "changed by hand",
        ),
    ],
)
def test_what_is_refused(tmp_path: Path, change: Callable[[Path], Layout], what: str) -> None:
    with pytest.raises(ProjectError, match=what):
        base_from_layout(change(tmp_path), TAG)


def test_a_wheel_that_would_be_put_elsewhere(tmp_path: Path) -> None:
    away = LockedWheel("torch", "2.3.1", "../../torch-2.3.1-py3-none-any.whl", "0" * 64, 10)
    text = render_requirements_lock(RequirementsLock("a-cell", "1" * 64, (away,)))
    with pytest.raises(ProjectError, match="is not the name of a wheel"):
        base_from_layout(publish(tmp_path, layer({LOCK: text})), TAG)


def test_what_is_not_there_or_damaged(tmp_path: Path) -> None:
    layout = publish(tmp_path, layer({LOCK: TEXT}))
    with pytest.raises(ProjectError, match="has no pytorch:9; build it"):
        base_from_layout(layout, "pytorch:9")
    config = layout.read_json(layout.references()[TAG].digest)["config"]["digest"]
    layout.blob(config).write_text("{}")
    with pytest.raises(StorageError, match="damaged"):
        base_from_layout(layout, TAG)


def test_kept_documents_are_checked_again(tmp_path: Path) -> None:
    kept = Documents(tmp_path)
    kept.put(digest_of(b"one"), b"one")
    assert kept.get(digest_of(b"one")) == b"one"
    next((tmp_path / "documents").iterdir()).write_bytes(b"two")
    assert kept.get(digest_of(b"one")) is None
