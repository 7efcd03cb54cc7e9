"""What somebody who may write to a registry puts into a catalogue, and a place to put it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import planning
from referring import Shelf, digest_of, referring_registry

from wheelyard.contract.imageconfig import CELL_LABEL, OCI
from wheelyard.model import Cell
from wheelyard.oci.layout import CONFIG_TYPE, LAYER_TYPE, MANIFEST_TYPE
from wheelyard.planning.catalogue import plan_entries, to_json
from wheelyard.planning.tags import axes
from wheelyard.publish.catalogue import NAME, TAG, TYPE

PROJECT = Path(__file__).parents[2]
DIGEST = f"sha256:{'ab' * 32}"
FULL = "pytorch:2.3.1-cuda12.1-cudnn8.9-py3.11"

# Each is more than a text to one of the readers: systemd, YAML, compose, Apptainer, a dev container
# program, Kubernetes, a shell, a terminal.
TEXTS = {
    "unit": "3.11\n\n[Service]\nExecStartPre=/bin/sh -c id\n#",
    "last line break": "3.11\n",
    "carriage return": "3.11\r[Service]",
    "continued line": "3.11\\",
    "specifier": "%h/.ssh",
    "document": "x\n---\napiVersion: v1\nkind: Pod\n#",
    "privileged": "x\n    privileged: true\n#",
    "comment ends": "x # y",
    "section": "x\n%setup\n    id > /pwned\n",
    "build argument": "{{ secret }}",
    "compose variable": "${AWS_SECRET_ACCESS_KEY}",
    "compose command": "$(id)",
    "host variable": "${localEnv:AWS_SECRET_ACCESS_KEY}",
    "kubernetes variable": "$(KUBERNETES_SERVICE_HOST)",
    "shell": "x; id",
    "quoted": "x' \"; id",
    "options": "--privileged",
    "escape": "\x1b[2J\x1b]0;title\x07",
    "C1 escape": "\x9b2J",
    "forged line": "x\nrun     docker run --privileged evil",
    "line separator": "x\u2028y",
    "direction": "\u202egnp.exe",
    "other digits": "\u0663.11",
    "other letters": "pytorch\u0430",
    "null": "x\x00y",
    "path": "../../etc/passwd",
    "host": "evil.example/pytorch:latest",
    "empty": "",
    "long": "9" * 100_000,
}
WRONG: dict[str, Any] = {
    "nothing": None,
    "number": 7,
    "negative": -1,
    "huge": 10**400,
    "fraction": 1.5,
    "truth": True,
    "list": ["x"],
    "deep": [[[[[["x"]]]]]],
    "object": {"x": "y"},
}
FIELDS = (
    "id", "tags", "framework", "framework_version", "cuda", "cudnn", "python", "flavour",
    "architectures", "special", "digest", "layers", "unpacked",
)  # fmt: skip


def listed() -> dict[str, Any]:
    """A catalogue of two images as it should be, as JSON, the one called FULL first."""
    _matrix, upstream, plan = planning.committed()
    cells = sorted(plan.cells, key=lambda cell: cell.tags[0] != FULL)[:2]
    images = to_json(plan_entries(cells, upstream, []))
    for image in images["images"]:
        image["digest"] = DIGEST
        image["layers"] = [[DIGEST, 10]]
        image["unpacked"] = 20
    found: dict[str, Any] = json.loads(json.dumps(images))
    return found


def placed(image: dict[str, Any], field: str, value: Any) -> dict[str, Any]:
    """The image with a value in a field; a text goes into a list where one is wanted."""
    if isinstance(value, str) and field == "tags":
        value = [value]
    elif isinstance(value, str) and field == "architectures":
        value = [[value]]
    elif isinstance(value, str) and field == "layers":
        value = [[value, 10]]
    return image | {field: value}


def put(shelf: Shelf, content: bytes) -> None:
    """Let the registry's catalogue be this."""
    shelf.blobs[digest_of(content)] = content
    layer = {"mediaType": TYPE, "digest": digest_of(content), "size": len(content)}
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": layer, "layers": [layer]}
    shelf.manifests[TAG] = json.dumps(manifest).encode()


@contextmanager
def catalogue(content: object) -> Iterator[Shelf]:
    """A registry with it, as JSON unless it is bytes already."""
    with referring_registry(NAME) as shelf:
        put(shelf, content if isinstance(content, bytes) else json.dumps(content).encode())
        yield shelf


def put_image(shelf: Shelf, cell: Cell, salt: str = "") -> str:
    """An image of that cell in a registry of any repositories, without its layers; its digest."""
    tag = cell.tags[0].partition(":")[2]
    labels = {
        CELL_LABEL: json.dumps({"id": cell.id, **axes(cell)}),
        f"{OCI}.version": tag,
        "salt": salt,
    }
    config = json.dumps({"config": {"Labels": labels}, "rootfs": {"diff_ids": [DIGEST]}}).encode()
    told = {"mediaType": CONFIG_TYPE, "digest": digest_of(config), "size": len(config)}
    layer = {"mediaType": LAYER_TYPE, "digest": DIGEST, "size": 10}
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": told, "layers": [layer]}
    data = json.dumps(manifest).encode()
    shelf.blobs[digest_of(config)] = config
    for reference in (digest_of(data), tag):
        shelf.manifests[f"{cell.repository}/{reference}"] = data
    return digest_of(data)
