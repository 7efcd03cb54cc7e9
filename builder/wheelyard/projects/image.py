"""A project's image: the base's config and manifest, continued."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wheelyard.contract.imageconfig import OCI
from wheelyard.errors import ProjectError
from wheelyard.oci.layout import CONFIG_TYPE, LAYER_TYPE, MANIFEST_TYPE, Descriptor, canonical

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wheelyard.images.assemble.image import ImageLayer
    from wheelyard.oci.layout import Layout
    from wheelyard.projects.model import BaseImage, ProjectLock
    from wheelyard.projects.table import Project

PROJECT_LABEL = "wheelyard.project"
_OF_BASE = ("title", "description", "version", "source", "url", "documentation", "revision")
_ENV, _LABELS = "Env", "Labels"


@dataclass(frozen=True, slots=True)
class ProjectImage:
    """A project's image in a layout; the base's layers may be elsewhere."""

    manifest: Descriptor
    layers: tuple[ImageLayer, ...]  # the project's own, lowest first
    inherited: frozenset[str]  # digests of the base's layers


def describe_project_image(
    layout: Layout,
    project: Project,
    base: BaseImage,
    lock: ProjectLock,
    layers: Sequence[ImageLayer],
    base_name: str,
) -> ProjectImage:
    """Put config and manifest into `layout`; no reference is set yet.

    `base_name` is how anyone finds the base: "registry.example/team/pytorch:2.3.1-cuda12.1".
    """
    config = project_config(project, base, lock, layers, base_name)
    descriptors = [
        Descriptor(LAYER_TYPE, x.stored.layer.digest, x.stored.layer.size).as_json() for x in layers
    ]
    labels: dict[str, str] = config["config"][_LABELS]
    annotations = {name: text for name, text in labels.items() if name.startswith(f"{OCI}.")}
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": layout.put(canonical(config), CONFIG_TYPE).as_json(),
        "layers": [*base.manifest["layers"], *descriptors],
        "annotations": annotations | {f"{OCI}.base.digest": base.digest},
    }
    return ProjectImage(
        layout.put(canonical(manifest), MANIFEST_TYPE),
        tuple(layers),
        frozenset(layer["digest"] for layer in base.manifest["layers"]),
    )


def project_config(
    project: Project,
    base: BaseImage,
    lock: ProjectLock,
    layers: Sequence[ImageLayer],
    base_name: str,
) -> dict[str, Any]:
    """Return the image's config: a function of the base, the table and the layers only."""
    table = project.table
    inherited: dict[str, Any] = base.config.get("config") or {}
    config = dict(inherited)
    env = dict(_pair(text) for text in inherited.get(_ENV) or ())
    env.update(sorted(table.env.items()))
    config[_ENV] = [f"{name}={value}" for name, value in env.items()]
    config[_LABELS] = _labels(project, base, lock, base_name)
    config["WorkingDir"] = table.workdir
    # The image's own entry point gives any user a home and an environment, and then starts what
    # follows: a project's is started by it.
    if table.entrypoint is not None:
        config["Entrypoint"] = [*(inherited.get("Entrypoint") or ()), *table.entrypoint]
        config["Cmd"] = []
    if table.command is not None:
        config["Cmd"] = list(table.command)
    if table.ports:
        config["ExposedPorts"] = {f"{port}/tcp": {} for port in sorted(table.ports)}
    created = base.config.get("created")
    history = [{"created": created, "created_by": f"wheelyard: {x.title}"} for x in layers]
    return {
        **base.config,
        "config": config,
        "rootfs": {
            "type": "layers",
            "diff_ids": [
                *base.config["rootfs"]["diff_ids"],
                *(x.stored.layer.diff_id for x in layers),
            ],
        },
        "history": [*(base.config.get("history") or ()), *history],
    }


def _labels(project: Project, base: BaseImage, lock: ProjectLock, base_name: str) -> dict[str, str]:
    table, metadata = project.table, project.metadata
    inherited: dict[str, str] = (base.config.get("config") or {}).get(_LABELS) or {}
    kept = {
        name: text
        for name, text in inherited.items()
        if name not in {f"{OCI}.{word}" for word in _OF_BASE}
    }
    about = {
        "title": table.name,
        "base.name": base_name,
        **{
            word: str(metadata[key])
            for word, key in (("version", "version"), ("description", "description"))
            if metadata.get(key)
        },
    }
    facts = {"name": table.name, "base": base.reference, "base_digest": base.digest}
    return dict(
        sorted(
            {
                **kept,
                **{f"{OCI}.{word}": text for word, text in about.items()},
                PROJECT_LABEL: json.dumps({**facts, "lock": lock.inputs}, separators=(",", ":")),
                **table.labels,
            }.items()
        )
    )


def _pair(text: object) -> tuple[str, str]:
    name, equals, value = str(text).partition("=")
    if not equals:
        raise ProjectError(f"the base image has a malformed environment variable: {text!r}")
    return name, value
