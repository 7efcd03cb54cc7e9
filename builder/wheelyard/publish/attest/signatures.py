"""Signs pushed images, and verifies images before they are pulled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wheelyard.console.plain import one_line
from wheelyard.contract.imageconfig import CELL_LABEL, OCI
from wheelyard.errors import RegistryError, SignatureError
from wheelyard.fetching.replies import Gone
from wheelyard.oci.documents import (
    CellLabel,
    ConfigDocument,
    UnreadableError,
    read_document,
)
from wheelyard.publish.attest.cosign import add_signature, fetch_signatures, referred_signatures
from wheelyard.publish.attest.envelope import vouches
from wheelyard.publish.attest.signing import fault, make_signature, require_signature
from wheelyard.registry.client import Registry, get_config, get_manifest

if TYPE_CHECKING:
    from wheelyard.planning.catalogue import CatalogueEntry
    from wheelyard.publish.attest.keys import PrivateKey
    from wheelyard.publish.attest.trust import Trust


def sign_image(registry: Registry, name: str, digest: str, key: PrivateKey) -> bool:
    """Sign an image in the repository `name`; return False if this key has signed it already.

    Raises RegistryError.
    """
    repository, full = registry.address.repository(name), registry.address.reference(name)
    there = fetch_signatures(registry, repository, digest)
    if any(fault(one, [key.public_key()], full, digest) is None for one in there):
        return False
    signature = make_signature(key, full, digest)
    add_signature(registry, repository, digest, signature)
    return True


def require_signed(registry: Registry, name: str, digest: str, trust: Trust) -> None:
    """Raise SignatureError unless a key has signed the image under its name; RegistryError.

    Most signatures are under the image's signature tag; referrers are queried only without one.
    """
    repository = registry.address.repository(name)
    what = trust.name(registry.address, name), digest
    there = fetch_signatures(registry, repository, digest)
    if any(fault(one, trust.keys, *what) is None for one in there):
        return
    attached, envelopes = referred_signatures(registry, repository, digest)
    if any(vouches(envelope, trust.keys, *what) for envelope in envelopes):
        return
    require_signature((*there, *attached), trust.keys, *what)


def require_entry(registry: Registry, entry: CatalogueEntry, trust: Trust) -> None:
    """Raise SignatureError unless an entry's image is signed and matches the entry.

    A signature covers the manifest, which covers the config, whose label says which cell it is: so
    a signed image cannot be passed off as another one.
    """
    if entry.digest is None:
        raise SignatureError(
            f"{entry.id} has no digest that could be signed: it is not in a catalogue; "
            "`wheelyard push --sign-key` publishes it"
        )
    name = entry.tags[0].partition(":")[0]
    require_signed(registry, name, entry.digest, trust)
    config = _fetch_config(registry, registry.address.repository(name), entry.digest)
    _require_cell(config, entry, f"{registry.address.reference(name)}@{entry.digest}")


def _fetch_config(registry: Registry, repository: str, digest: str) -> ConfigDocument:
    """Return the config of an image; raise RegistryError if it cannot be read."""
    try:
        return get_config(registry, repository, get_manifest(registry, repository, digest))
    except (Gone, UnreadableError) as error:
        raise RegistryError(f"{registry.address}: {repository}@{digest}: {error}") from error


def _require_cell(config: ConfigDocument, entry: CatalogueEntry, image: str) -> None:
    """Raise SignatureError unless the image's own label matches the entry."""
    try:
        label = read_document(CellLabel, config.label(CELL_LABEL) or "")
    except UnreadableError as error:
        raise SignatureError(
            f"{image} is signed, but not verifiable as {entry.id}: its label {CELL_LABEL} "
            "cannot be "
            f"read ({error})"
        ) from error
    told = [f"{name} {value}" for name, value in label if value != getattr(entry, name)]
    tag = f"{entry.tags[0].partition(':')[0]}:{config.label(f'{OCI}.version')}"
    if told or tag != entry.tags[0]:
        what = ", ".join(told) or one_line(tag)
        raise SignatureError(
            f"{image} is signed, but it is not {entry.id}: its label says {what}. It may have "
            "been substituted; do not run it until the cause is known"
        )
