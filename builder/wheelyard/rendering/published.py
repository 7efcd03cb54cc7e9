"""devcontainer/published.json: which images of this repository's dev containers are in a registry.

The one fact about them that neither matrix nor locks hold: a registry's address and a digest. It is
committed, so that rendering stays a function of the checkout.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pydantic import Field

from wheelyard.errors import StorageError
from wheelyard.oci.documents import (
    Document,
    ImageTag,
    PinnedReference,
    UnreadableError,
    read_document,
)

if TYPE_CHECKING:
    from wheelyard.oci.address import Address
    from wheelyard.planning.catalogue import CatalogueEntry
    from wheelyard.rendering.devcontainers import Variant

PUBLISHED = PurePosixPath("devcontainer", "published.json")
_NOTE = (
    "Written by `wheelyard devcontainer pin`; `unpin` removes it. Then: images are made locally."
)


class _Published(Document):
    """The file, which a merge or somebody's branch may have changed."""

    images: dict[ImageTag, PinnedReference] = Field(max_length=4096)


def load_published(project: Path) -> dict[str, str]:
    """Full tag -> reference by tag and digest; empty where nothing was published.

    Raises StorageError for a file that is not one of `published_text`.
    """
    path = project / PUBLISHED
    try:
        return dict(read_document(_Published, path.read_bytes()).images)
    except FileNotFoundError:
        return {}
    except (OSError, UnreadableError) as error:
        raise StorageError(
            f"{path} cannot be read ({error}): write it again with `wheelyard devcontainer pin`, "
            "or remove it with `unpin`"
        ) from error


def published_text(images: Mapping[str, str]) -> str:
    """The file's text."""
    return json.dumps({"note": _NOTE, "images": dict(sorted(images.items()))}, indent=2) + "\n"


def find_published(
    variants: Iterable[Variant], entries: Iterable[CatalogueEntry], address: Address
) -> dict[str, str]:
    """The variants' images that a catalogue lists by digest: full tag -> reference."""
    digests = {entry.id: entry.digest for entry in entries}
    return {
        variant.cell.tags[0]: f"{address.reference(variant.cell.tags[0])}@{digest}"
        for variant in variants
        if (digest := digests.get(variant.cell.id)) is not None
    }
