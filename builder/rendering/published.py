"""devcontainer/published.json: which images of this repository's dev containers are in a registry.

The one fact about them that neither matrix nor locks hold: a registry's address and a digest. It is
committed, so that rendering stays a function of the checkout.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from builder.errors import StorageError

if TYPE_CHECKING:
    from builder.publishing.catalogue import Entry
    from builder.registry.address import Address
    from builder.rendering.devcontainers import Variant

PUBLISHED = PurePosixPath("devcontainer", "published.json")
NOTE = "Written by `wheelyard devcontainer pin`; `unpin` removes it. Then: images are made locally."


def load_published(project: Path) -> dict[str, str]:
    """Full tag -> reference by tag and digest; empty where nothing was published.

    Raises StorageError for a file that is not one of `published_text`.
    """
    path = project / PUBLISHED
    try:
        images = json.loads(path.read_text(encoding="utf-8"))["images"]
        return {str(tag): str(reference) for tag, reference in images.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageError(
            f"{path} cannot be read ({error!r}): write it again with `wheelyard devcontainer pin`, "
            "or remove it with `unpin`"
        ) from error


def published_text(images: Mapping[str, str]) -> str:
    """The file's text."""
    return json.dumps({"note": NOTE, "images": dict(sorted(images.items()))}, indent=2) + "\n"


def find_published(
    variants: Iterable[Variant], entries: Iterable[Entry], address: Address
) -> dict[str, str]:
    """The variants' images that a catalogue lists by digest: full tag -> reference."""
    digests = {entry.id: entry.digest for entry in entries}
    return {
        variant.cell.tags[0]: f"{address.reference(variant.cell.tags[0])}@{digest}"
        for variant in variants
        if (digest := digests.get(variant.cell.id)) is not None
    }
