"""The software bill of materials: every wheel and every Debian package, from the locks. Pure.

Source: CycloneDX 1.6; purl types `pypi` and `deb`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.dependency import Dependency
from cyclonedx.model.license import DisjunctiveLicense, LicenseAcknowledgement, LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from wheelyard.images.inspect.licences import DEB, WHEEL, Licence, Licences
from wheelyard.layers.tarheader import EPOCH

if TYPE_CHECKING:
    from wheelyard.lock.stages import Stage
    from wheelyard.model import LockedDeb, LockedWheel

# Our own name space for serial numbers, so that an image always has the same one.
_SPACE = uuid.UUID("6c1e8a54-6f0f-5d6a-9d0b-6d3c3f1f5a11")


def sbom(
    image: str, digest: str, stages: tuple[Stage, ...], licences: Licences | None = None
) -> str:
    """Return an image's bill of materials as JSON: the same bytes at any time and place.

    `licences` come from the image's files; None if they were not read.
    """
    licences = licences or {}
    top = Component(
        type=ComponentType.CONTAINER, name=image, version=digest, bom_ref=f"{image}@{digest}"
    )
    wheels = {w.sha256: _wheel(w, licences) for stage in stages for w in stage.lock.wheels}
    suite = stages[0].packages.suite
    debs = {d.sha256: _deb(d, suite, licences) for stage in stages for d in stage.packages.packages}
    components = [*wheels.values(), *debs.values()]
    leaves = [Dependency(component.bom_ref) for component in components]
    bom = Bom(
        components=components,
        serial_number=uuid.uuid5(_SPACE, digest),
        metadata=BomMetaData(component=top, timestamp=datetime.fromtimestamp(EPOCH, UTC)),
        dependencies=[Dependency(top.bom_ref, leaves), *leaves],
    )
    return str(JsonV1Dot6(bom).output_as_string(indent=1))


def _wheel(wheel: LockedWheel, licences: Licences) -> Component:
    purl = PackageURL(WHEEL, None, wheel.name, wheel.version, {"file_name": wheel.filename})
    return _component(wheel.name, wheel.version, purl, wheel.sha256, licences)


def _deb(deb: LockedDeb, suite: str, licences: Licences) -> Component:
    told = {"arch": deb.architecture, "distro": suite}
    purl = PackageURL(DEB, "debian", deb.name, deb.version, told)
    return _component(deb.name, deb.version, purl, deb.sha256, licences)


def _component(
    name: str, version: str, purl: PackageURL, sha256: str, licences: Licences
) -> Component:
    return Component(
        name=name,
        version=version,
        purl=purl,
        bom_ref=str(purl),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sha256)],
        licenses=_licences(licences.get((purl.type, name))),
    )


def _licences(licence: Licence | None) -> list[LicenseExpression | DisjunctiveLicense]:
    """Return the declared licences; which of them apply is up to the reader."""
    said = LicenseAcknowledgement.DECLARED
    if licence is None:
        return []
    if licence.is_expression:
        return [LicenseExpression(licence.names[0], acknowledgement=said)]
    return [DisjunctiveLicense(name=name, acknowledgement=said) for name in licence.names]


def components(bill: dict[str, Any]) -> Iterable[tuple[str, str]]:
    """Return name and version of everything in a bill."""
    return ((str(x["name"]), str(x["version"])) for x in bill.get("components", ()))
