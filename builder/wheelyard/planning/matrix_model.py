"""The shape of matrix.yaml; the JSON schema for editors is made from these models."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr
from pydantic.json_schema import WithJsonSchema

from wheelyard.planning.yamlmap import Source

WORD = r"[a-z][a-z0-9]*"  # no dash: ids and tags are words joined by dashes
RELEASE = r"\d+(?:\.\d+)+(?:(?:a|b|rc)\d+)?(?:\.post\d+)?"
FRAMEWORK = rf"{WORD} {RELEASE}"


def _requirement(text: str) -> str:
    try:
        Requirement(text)
    except InvalidRequirement as problem:
        raise ValueError(f"{text!r} is not a PEP 508 requirement") from problem
    return text


def _distribution(text: str) -> str:
    requirement = Requirement(_requirement(text))
    if requirement.specifier or requirement.marker or requirement.url:
        raise ValueError(f"{text!r} must be a name, with extras at most: the axis has the version")
    return text


def _specifiers(text: str) -> str:
    try:
        SpecifierSet(text)
    except InvalidSpecifier as problem:
        raise ValueError(f"{text!r} is not a version specifier such as '<2.3'") from problem
    return text


def _listed(value: object) -> object:
    """Let one value stand for a list of one."""
    return [value] if isinstance(value, str) else value


Text = Annotated[str, Field(min_length=1)]
Word = Annotated[str, Field(pattern=f"^{WORD}$")]
Frameworks = Annotated[str, Field(pattern=rf"^{FRAMEWORK}(?: \+ {FRAMEWORK})*$")]
MajorMinor = Annotated[str, Field(pattern=r"^\d+\.\d+$")]
CudaVersion = Annotated[str, Field(pattern=r"^(\d+\.\d+|cpu)$")]  # cpu: a build without CUDA
CudaPrefix = Annotated[str, Field(pattern=r"^(\d+(\.\d+)?|cpu)$")]
CudnnVersion = Annotated[str, Field(pattern=r"^(\d+\.\d+(\.\d+){0,2}|none)$")]
IndexName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
LocalVersion = Annotated[str, Field(pattern=r"^[a-z0-9]+(\.[a-z0-9]+)*$")]
Policy = Literal["match-build", "upstream-latest"]
ImageDigest = Annotated[str, Field(pattern=r"^[^\s@]+@sha256:[0-9a-f]{64}$")]
DebianName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.+-]+$")]
RequirementText = Annotated[str, AfterValidator(_requirement)]
Distribution = Annotated[str, AfterValidator(_distribution)]
Specifiers = Annotated[str, AfterValidator(_specifiers)]
OneOrMore = Annotated[
    tuple[Text, ...],
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


class Entry(BaseModel):
    """A mapping of matrix.yaml: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Axes(Entry):
    """The values whose cross product is the plan."""

    cuda: Annotated[tuple[CudaVersion, ...], Field(min_length=1)]
    cudnn: Annotated[tuple[CudnnVersion, ...], Field(min_length=1)]
    framework: Annotated[
        tuple[Frameworks, ...],
        Field(min_length=1, description='"pytorch 2.3.1"; several are joined by " + "'),
    ]
    python: Annotated[tuple[MajorMinor, ...], Field(min_length=1)]
    base: Annotated[tuple[Word, ...], Field(min_length=1)]
    flavour: Annotated[tuple[Word, ...], Field(min_length=1)]


class Bound(Entry):
    """A constraint that upstream does not state, with its reason."""

    require: RequirementText
    reason: Text


class FrameworkBound(Bound):
    """A bound for the framework's releases that `when` names; for all without it."""

    when: Specifiers | None = None
    flavour: Word | None = None  # only for this flavour and those that extend it
    alone: bool = False  # only where the framework has an image to itself


class FrameworkTool(Entry):
    """A tool that only some releases of a framework get, or only some Pythons."""

    require: RequirementText
    when: Specifiers | None = None
    python: OneOrMore | None = None


class IndexBuild(Entry):
    """Where builds for another CUDA than the default index's are: an index by its name.

    Its URL is a setting of the machine (`indexes`), and never stands in the matrix or a lock.
    """

    index: IndexName
    local: LocalVersion  # "cu118": the local version of its builds, 2.3.1+cu118


class FrameworkEntry(Entry):
    """A framework: the distribution that installs it and the bounds its releases need."""

    title: Text
    distribution: Distribution
    since: MajorMinor = "0.0"  # the oldest release that `upstream refresh` reads
    constraints: tuple[FrameworkBound, ...] = ()
    tools: dict[Word, tuple[RequirementText | FrameworkTool, ...]] = {}  # flavour -> what it adds
    indexes: dict[CudaVersion, IndexBuild] = {}  # CUDA that the default index has no build for


class CudaEntry(Entry):
    """Bounds and tools that every image of a CUDA version, or of all its minors, needs."""

    constraints: tuple[Bound, ...] = ()
    tools: dict[Word, tuple[RequirementText, ...]] = {}


class BaseEntry(Entry):
    """A base: the Debian suite, the Python that it holds, and packages for that Python.

    With `image` it is a registry's image, by digest: images are built on its layers.
    """

    suite: Text
    python: MajorMinor
    image: ImageDigest | None = None
    packages: tuple[DebianName, ...] = ()


class FlavourEntry(Entry):
    """What a flavour adds to the one it extends."""

    description: Text
    extends: Word | None = None
    packages: tuple[DebianName, ...] = ()
    tools: tuple[RequirementText, ...] = ()


class When(Entry):
    """Conditions on axes, all of which must hold; versions match by leading components."""

    framework: OneOrMore | None = None
    cuda: OneOrMore | None = None
    cudnn: OneOrMore | None = None
    python: OneOrMore | None = None
    base: OneOrMore | None = None
    flavour: OneOrMore | None = None


class Exclude(Entry):
    """Combinations of the axes that are not images."""

    when: When
    reason: Text


class Include(Entry):
    """One cell outside the cross product; its cuDNN may differ from upstream's pin."""

    framework: Frameworks
    cuda: CudaVersion
    cudnn: CudnnVersion
    python: MajorMinor
    base: Word
    flavours: Annotated[tuple[Word, ...], Field(min_length=1)]
    policy: Policy | None = None  # None: the matrix's


class Matrix(Entry):
    """matrix.yaml: the one list of images."""

    version: Literal[1]
    policy: Policy = "match-build"  # how requirements that leave a range are met
    axes: Axes
    frameworks: Annotated[dict[Word, FrameworkEntry], Field(min_length=1)]
    cuda: dict[CudaPrefix, CudaEntry] = {}
    bases: Annotated[dict[Word, BaseEntry], Field(min_length=1)]
    flavours: Annotated[dict[Word, FlavourEntry], Field(min_length=1)]
    exclude: tuple[Exclude, ...] = ()
    include: tuple[Include, ...] = ()
    _source: Source = PrivateAttr(default_factory=Source)

    @property
    def source(self) -> Source:
        """Where each value stands in the file."""
        return self._source

    def located(self, source: Source) -> Matrix:
        """Return the same matrix, knowing its lines."""
        copy = self.model_copy()
        copy._source = source
        return copy


def json_schema() -> str:
    """Return the JSON schema that editors complete matrix.yaml with."""
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Matrix.model_json_schema(),
    }
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    print(json_schema(), end="")
