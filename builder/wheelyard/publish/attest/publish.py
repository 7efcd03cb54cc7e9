"""Attaches the documents about an image to it in a registry, once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

from wheelyard.contract.paths import site_packages
from wheelyard.errors import InspectError, StorageError
from wheelyard.images.inspect.distributions import installed
from wheelyard.images.inspect.licences import DEB, WHEEL, Licences, package_licences
from wheelyard.images.inspect.tree import LayerContents, Tree
from wheelyard.lock.stages import load_stages
from wheelyard.oci.blobs import parse_layer
from wheelyard.oci.layout import MANIFEST_TYPE, Descriptor
from wheelyard.publish.attest.attachments import KINDS, STATEMENTS, attachments
from wheelyard.publish.attest.cosign import add_attestations, fetch_attestations
from wheelyard.publish.attest.envelope import seal, unseal
from wheelyard.registry.referrers import PREDICATE, attach, referrers

if TYPE_CHECKING:
    from wheelyard.images.assemble.store import LayerStore
    from wheelyard.model import Cell, Plan
    from wheelyard.publish.attest.keys import PrivateKey
    from wheelyard.registry.client import Registry


def attach_all(
    registry: Registry,
    cell: Cell,
    plan: Plan,
    project: Path,
    built: Mapping[str, Any],
    size: int,
    store: LayerStore | None,
    made: Mapping[str, Any] | None = None,
    key: PrivateKey | None = None,
) -> int:
    """Attach missing documents; return their number. `size` is the manifest's, in bytes.

    `store` is None if the image was composed from today's locks and need not be compared with them.
    `made` is the report of the same image as it was built, if its layers were recompressed. With
    `key`, each document is published as a signed statement, too, as by `cosign attest`.

    Raises InspectError if the image does not match today's locks, so that no false statement is
    published. Raises RegistryError and LockError.
    """
    repository = registry.address.repository(cell.repository)
    digest = str(built["digest"])
    there = {_kind(entry) for entry in referrers(registry, repository, digest)}
    signed = _signed(registry, repository, digest, key)
    if set(KINDS) <= there and (key is None or set(STATEMENTS) <= signed):
        return 0
    licences: Licences = {}
    if store is not None:
        licences = _require_locked(cell, plan, project, made or built, store)
    documents = attachments(cell, plan, project, built, licences)
    missing = [x for x in documents if x.kind not in there]
    for one in missing:
        told = {} if one.predicate is None else {PREDICATE: one.predicate}
        subject = Descriptor(MANIFEST_TYPE, digest, size)
        attach(registry, repository, subject, one.media_type, one.content.encode(), told)
    if key is not None:
        name = registry.address.reference(cell.repository)
        stated = dict(one.statement(name, digest) for one in documents)
        sealed = {kind: seal(key, data) for kind, data in stated.items() if kind not in signed}
        add_attestations(registry, repository, digest, sealed)
    return len(missing)


def _signed(registry: Registry, repository: str, digest: str, key: PrivateKey | None) -> set[str]:
    """Return the predicate types that this key has signed for an image already."""
    if key is None:
        return set()
    envelopes = fetch_attestations(registry, repository, digest)
    opened = (unseal(envelope, key.public_key()) for envelope in envelopes)
    return {one.kind for one in opened if one is not None and digest in one.digests}


def _kind(entry: Mapping[str, Any]) -> tuple[str, str | None]:
    said = entry.get("annotations") or {}
    return str(entry.get("artifactType")), said.get(PREDICATE)


def _require_locked(
    cell: Cell, plan: Plan, project: Path, built: Mapping[str, Any], store: LayerStore
) -> Licences:
    """Raise InspectError unless the image's distributions match the present locks.

    Returns the licences that its parts state.
    """
    try:
        tree = Tree(
            LayerContents(
                store.blob(layer["digest"]),
                store.entries(parse_layer(layer)),
                layer["title"],
                from_wheels=False,
            )
            for layer in built["layers"]
        )
    except StorageError as error:
        raise InspectError(
            f"{cell.id}: its layers are not in the cache, so it cannot be compared with its "
            "locks; build it here, or push with --no-attest"
        ) from error
    stages = load_stages(cell, plan, project)
    lock = stages[-1].lock
    distributions = installed(tree, site_packages(cell.python))
    seen = {(one.name, one.version) for one in distributions}
    wanted = {(wheel.name, wheel.version) for wheel in lock.wheels}
    if {(canonicalize_name(name), version) for name, version in seen} != wanted:
        raise InspectError(
            f"{cell.id} was built from other locks than the present ones; run `wheelyard build "
            f"{cell.id}`, or push with --no-attest"
        )
    names = sorted({deb.name for stage in stages for deb in stage.packages.packages})
    return {
        **{(WHEEL, canonicalize_name(one.name)): one.licence for one in distributions},
        **{(DEB, name): found for name, found in package_licences(tree, names).items()},
    }
