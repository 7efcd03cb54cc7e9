"""Signing what was pushed, and holding what is to be pulled against a key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.attest.envelope import vouches
from builder.attest.signing import fault, make_signature, require_signature
from builder.registry.referred import referred_signatures
from builder.registry.signatures import add_signature, fetch_signatures

if TYPE_CHECKING:
    from builder.attest.keys import PrivateKey, PublicKey
    from builder.registry.client import Registry


def sign_image(registry: Registry, name: str, digest: str, key: PrivateKey) -> bool:
    """Sign an image in the repository `name` below the prefix; False: it is signed by the key.

    Raises RegistryError.
    """
    repository, public = registry.address.repository(name), key.public_key()
    there = fetch_signatures(registry, repository, digest)
    if any(fault(one, public, digest) is None for one in there):
        return False
    signature = make_signature(key, registry.address.reference(name), digest)
    add_signature(registry, repository, digest, signature)
    return True


def require_signed(registry: Registry, name: str, digest: str, key: PublicKey) -> None:
    """Raise SignatureError unless the image is signed by the key; RegistryError.

    Most signatures are under the image's tag for them; referrers are asked for only without one.
    """
    repository = registry.address.repository(name)
    there = fetch_signatures(registry, repository, digest)
    if any(fault(one, key, digest) is None for one in there):
        return
    attached, envelopes = referred_signatures(registry, repository, digest)
    if any(vouches(envelope, key, digest) for envelope in envelopes):
        return
    require_signature((*there, *attached), key, registry.address.reference(name), digest)
