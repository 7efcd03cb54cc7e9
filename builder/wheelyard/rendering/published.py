"""devcontainer/published.json: the dev container images that are in a registry.

This fact is in neither matrix nor locks: a registry's address and a digest. It is committed, so
that rendering stays a function of the checkout.
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
    from wheelyard.rendering.devcontainers import Variant

PUBLISHED = PurePosixPath("devcontainer", "published.json")
_NOTE = (
    "Written by `wheelyard devcontainer pin`; `unpin` removes it. Then: images are made locally."
)


class _Published(Document):
    """The file, which may be malformed after a merge."""

    images: dict[ImageTag, PinnedReference] = Field(max_length=4096)


def load_published(project: Path) -> dict[str, str]:
    """Return full tag -> reference by tag and digest; empty if nothing was published.

    Raises StorageError for a file that `published_text` did not write.
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
    """Return the file's text."""
    return json.dumps({"note": _NOTE, "images": dict(sorted(images.items()))}, indent=2) + "\n"


def find_published(
    variants: Iterable[Variant], digests: Mapping[str, str], address: Address
) -> dict[str, str]:
    """Return the variants' images that are published: full tag -> reference.

    `digests`: id -> digest of the image, or of the index of the images for all architectures.
    """
    return {
        variant.cell.tags[0]: f"{address.reference(variant.cell.tags[0])}@{digest}"
        for variant in variants
        if (digest := digests.get(variant.cell.id)) is not None
    }
