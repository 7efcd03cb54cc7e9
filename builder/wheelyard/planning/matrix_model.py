"""The shape of matrix.yaml; the JSON schema for editors is made from these models."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr
from pydantic.json_schema import WithJsonSchema

from wheelyard.architecture import DEFAULT
from wheelyard.planning.yamlmap import Positions

_WORD = r"[a-z][a-z0-9]*"  # no dash: ids and tags are words joined by dashes
_RELEASE = r"\d+(?:\.\d+)+(?:(?:a|b|rc)\d+)?(?:\.post\d+)?"
_FRAMEWORK = rf"{_WORD} {_RELEASE}"


def _requirement(text: str) -> str:
    try:
        Requirement(text)
    except InvalidRequirement as problem:
        raise ValueError(f"{text!r} is not a PEP 508 requirement") from problem
    return text


def _distribution(text: str) -> str:
    requirement = Requirement(_requirement(text))
    if requirement.specifier or requirement.marker or requirement.url:
        raise ValueError(
            f"{text!r} must be a name, optionally with extras: the axis has the version"
        )
    return text


def _specifiers(text: str) -> str:
    try:
        SpecifierSet(text)
    except InvalidSpecifier as problem:
        raise ValueError(f"{text!r} is not a version specifier such as '<2.3'") from problem
    return text


def _listed(value: object) -> object:
    """Accept one value as a list of one."""
    return [value] if isinstance(value, str) else value


_Text = Annotated[str, Field(min_length=1)]
_Word = Annotated[str, Field(pattern=f"^{_WORD}$")]
_Frameworks = Annotated[str, Field(pattern=rf"^{_FRAMEWORK}(?: \+ {_FRAMEWORK})*$")]
_MajorMinor = Annotated[str, Field(pattern=r"^\d+\.\d+$")]
_CudaVersion = Annotated[str, Field(pattern=r"^(\d+\.\d+|cpu)$")]  # cpu: a build without CUDA
_CudaPrefix = Annotated[str, Field(pattern=r"^(\d+(\.\d+)?|cpu)$")]
_CudnnVersion = Annotated[str, Field(pattern=r"^(\d+\.\d+(\.\d+){0,2}|none)$")]
_IndexName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
_LocalVersion = Annotated[str, Field(pattern=r"^[a-z0-9]+(\.[a-z0-9]+)*$")]
_Architecture = Annotated[str, Field(pattern=r"^(amd64|arm64)$")]
Policy = Literal["match-build", "upstream-latest", "follow-cuda"]
_ImageDigest = Annotated[str, Field(pattern=r"^[^\s@]+@sha256:[0-9a-f]{64}$")]
_DebianName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.+-]+$")]
_Address = Annotated[str, Field(pattern=r"^https?://[^\s'\"@]+$")]  # without a login
_Licences = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9.+() -]+$", description='SPDX: "Apache-2.0 AND BSD-3-Clause"'),
]
_RequirementText = Annotated[str, AfterValidator(_requirement)]
_Distribution = Annotated[str, AfterValidator(_distribution)]
_Specifiers = Annotated[str, AfterValidator(_specifiers)]
_OneOrMore = Annotated[
    tuple[_Text, ...],
    BeforeValidator(_listed),
    Field(min_length=1),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1},
            ]
        }
    ),
]


class _Mapping(BaseModel):
    """A mapping of matrix.yaml: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Axes(_Mapping):
    """The values whose cross product is the plan."""

    cuda: Annotated[tuple[_CudaVersion, ...], Field(min_length=1)]
    cudnn: Annotated[tuple[_CudnnVersion, ...], Field(min_length=1)]
    framework: Annotated[
        tuple[_Frameworks, ...],
        Field(min_length=1, description='"pytorch 2.3.1"; several are joined by " + "'),
    ]
    python: Annotated[tuple[_MajorMinor, ...], Field(min_length=1)]
    base: Annotated[tuple[_Word, ...], Field(min_length=1)]
    flavour: Annotated[tuple[_Word, ...], Field(min_length=1)]
    architecture: Annotated[tuple[_Architecture, ...], Field(min_length=1)] = (DEFAULT.name,)


class Bound(_Mapping):
    """A constraint that upstream does not state, with its reason."""

    require: _RequirementText
    reason: _Text


class FrameworkBound(Bound):
    """A bound for the framework's releases that `when` names, or for all."""

    when: _Specifiers | None = None
    flavour: _Word | None = None  # only for this flavour and those that extend it
    cuda: _CudaPrefix | None = None  # only for this CUDA version, or all its minors
    alone: bool = False  # only if it is the image's only framework


class FrameworkTool(_Mapping):
    """A tool for some releases of a framework, or for some Pythons."""

    require: _RequirementText
    when: _Specifiers | None = None
    python: _OneOrMore | None = None


class IndexBuild(_Mapping):
    """An index, by its name, with builds for another CUDA than the default index has.

    Its URL is a setting of the machine (`indexes`) and is never in the matrix or a lock.
    """

    index: _IndexName
    local: _LocalVersion  # "cu118": the local version of its builds, 2.3.1+cu118


class FrameworkEntry(_Mapping):
    """A framework: the distribution that installs it and the bounds its releases need."""

    title: _Text
    distribution: _Distribution
    since: _MajorMinor = "0.0"  # the oldest release that `upstream refresh` reads
    policy: Policy | None = None  # for images that hold it; None: the matrix's
    constraints: tuple[FrameworkBound, ...] = ()
    tools: dict[_Word, tuple[_RequirementText | FrameworkTool, ...]] = {}  # flavour -> what it adds
    indexes: dict[_CudaVersion, IndexBuild] = {}  # CUDA that the default index has no build for


class CudaEntry(_Mapping):
    """Bounds and tools that every image of a CUDA version, or of all its minors, needs."""

    constraints: tuple[Bound, ...] = ()
    tools: dict[_Word, tuple[_RequirementText, ...]] = {}


class BaseEntry(_Mapping):
    """A base: the Debian suite, its Python, and packages for that Python.

    With `image`, the base is a registry's image, by digest: images are built on its layers.
    """

    suite: _Text
    python: _MajorMinor
    image: _ImageDigest | None = None
    packages: tuple[_DebianName, ...] = ()


class FlavourEntry(_Mapping):
    """What a flavour adds to the one it extends."""

    description: _Text
    extends: _Word | None = None
    packages: tuple[_DebianName, ...] = ()
    tools: tuple[_RequirementText, ...] = ()


class When(_Mapping):
    """Conditions on axes, all of which must hold; versions match by leading components."""

    framework: _OneOrMore | None = None
    cuda: _OneOrMore | None = None
    cudnn: _OneOrMore | None = None
    python: _OneOrMore | None = None
    base: _OneOrMore | None = None
    flavour: _OneOrMore | None = None
    architecture: _OneOrMore | None = None


class Exclude(_Mapping):
    """Combinations of the axes that are not images."""

    when: When
    reason: _Text


class Include(_Mapping):
    """Cells outside the cross product; their cuDNN may differ from upstream's pin."""

    framework: _Frameworks
    cuda: _CudaVersion
    cudnn: _CudnnVersion
    python: _MajorMinor
    base: _Word
    flavours: Annotated[tuple[_Word, ...], Field(min_length=1)]
    policy: Policy | None = None  # None: the frameworks', or the matrix's
    architectures: Annotated[tuple[_Architecture, ...], Field(min_length=1)] = (DEFAULT.name,)


class About(_Mapping):
    """What the images' labels say of who makes them, beside what the plan knows itself."""

    source: _Address | None = None  # where this project is
    documentation: _Address | None = None
    licenses: _Licences | None = None  # of all that the images hold


class Matrix(_Mapping):
    """matrix.yaml: the only list of images."""

    version: Literal[1]
    about: About = About()
    policy: Policy = "match-build"  # how requirements that leave a range are met
    axes: Axes
    frameworks: Annotated[dict[_Word, FrameworkEntry], Field(min_length=1)]
    cuda: dict[_CudaPrefix, CudaEntry] = {}
    bases: Annotated[dict[_Word, BaseEntry], Field(min_length=1)]
    flavours: Annotated[dict[_Word, FlavourEntry], Field(min_length=1)]
    exclude: tuple[Exclude, ...] = ()
    include: tuple[Include, ...] = ()
    _source: Positions = PrivateAttr(default_factory=Positions)

    @property
    def source(self) -> Positions:
        """The positions of the values in the file."""
        return self._source

    def located(self, positions: Positions) -> Matrix:
        """Return the same matrix with the positions of its values."""
        copy = self.model_copy()
        copy._source = positions
        return copy


def json_schema() -> str:
    """Return the JSON schema with which editors complete matrix.yaml."""
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Matrix.model_json_schema(),
    }
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    print(json_schema(), end="")
