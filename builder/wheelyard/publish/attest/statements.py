"""In-toto statements about an image: its origin, and its verification. Pure.

Source: in-toto Statement v1, SLSA Provenance v1, in-toto Test Result v0.1; cosign's predicates.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MEDIA_TYPE = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"
BILL_TYPE = "application/vnd.cyclonedx+json"  # of the bill itself, without a statement
BILL = "https://cyclonedx.org/bom"  # what cosign's `--type cyclonedx` means
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
_BUILD_TYPE = "urn:wheelyard:assemble:v1"


@dataclass(frozen=True, slots=True)
class ProjectSource:
    """The project that an image was built from."""

    revision: str | None  # git commit; None: not a checkout
    clean: bool  # no file differs from the revision
    version: str  # of wheelyard


def provenance_statement(
    name: str,
    digest: str,
    image_id: str,
    locks: Sequence[tuple[str, str]],
    layers: Sequence[Mapping[str, Any]],
    source: ProjectSource,
) -> str:
    """State what an image was made of; `locks` are (path, SHA-256), `layers` from build.json."""
    materials = [{"uri": path, "digest": {"sha256": sha256}} for path, sha256 in locks]
    if source.revision is not None:
        commit = {"gitCommit": source.revision}
        materials.append({"uri": "git+file:.", "digest": commit})
    predicate = {
        "buildDefinition": {
            "buildType": _BUILD_TYPE,
            "externalParameters": {"image": image_id},
            "internalParameters": {"clean": source.clean},
            "resolvedDependencies": materials,
        },
        "runDetails": {
            "builder": {"id": "urn:wheelyard", "version": {"wheelyard": source.version}},
            "byproducts": [
                {"name": layer["title"], "digest": {"sha256": _hex(str(layer["digest"]))}}
                for layer in layers
            ],
        },
    }
    return _statement(name, digest, PROVENANCE, predicate)


def verification_statement(name: str, digest: str, seen: Mapping[str, str]) -> str:
    """State what the build read back; `seen` is property -> value, from build.json."""
    predicate = {
        "result": "PASSED",  # an image that fails is never published
        "configuration": [],
        "passedTests": sorted(seen),
        "failedTests": [],
        "warnedTests": [],
        "seen": dict(sorted(seen.items())),
    }
    return _statement(name, digest, TEST_RESULT, predicate)


def bill_statement(name: str, digest: str, bill: str) -> str:
    """Return the bill of materials (CycloneDX, JSON) as a statement, which can be signed."""
    return _statement(name, digest, BILL, json.loads(bill))


def _statement(name: str, digest: str, kind: str, predicate: Mapping[str, Any]) -> str:
    statement = {
        "_type": _STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": _hex(digest)}}],
        "predicateType": kind,
        "predicate": predicate,
    }
    return json.dumps(statement, indent=1, sort_keys=True) + "\n"


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")
