"""JSON from untrusted sources: strictly typed, ASCII words, bounded sizes. Pure.

What these models accept can be put into files and terminals: no field holds a line break, an escape
sequence or a variable. Patterns match the whole text, including a line break at its end.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from wheelyard.digests import DIGEST_PATTERN

_LARGEST = 16 << 20  # bytes of one document
_SHOWN = 3  # problems that a message names

# OCI distribution-spec 1.1, "Pulling manifests"; distribution/reference for what is around it.
_NAME = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
_HOST = r"(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?"
_VERSION = r"[0-9]{1,6}(?:\.[0-9]{1,6})+(?:(?:a|b|rc)[0-9]{1,6})?(?:\.post[0-9]{1,6})?"
_WORD = r"[a-z][a-z0-9]*"
_REFERENCE = re.compile(rf"(?:{_HOST}/)?{_NAME}(?:/{_NAME})*(?::{_TAG})?(?:@{DIGEST_PATTERN})?")
_LONGEST = 1024


class Document(BaseModel):
    """An object of such JSON; unknown keys are ignored."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


_Model = TypeVar("_Model", bound=Document)


class UnreadableError(ValueError):
    """A malformed document; the message says where, and is safe to print."""


def read_document(model: type[_Model], data: str | bytes) -> _Model:
    """Read a document as `model`; raise UnreadableError if it does not match."""
    if len(data) > _LARGEST:
        raise UnreadableError(f"larger than {_LARGEST >> 20} MiB")
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        raise UnreadableError(_validation_message(error)) from None


def matching(pattern: str, what: str, longest: int = _LONGEST) -> Callable[[str], str]:
    """Make a validator: the whole text must match `pattern`, otherwise it is not `what`."""
    compiled = re.compile(pattern, re.ASCII)

    def check(text: str) -> str:
        if len(text) > longest:
            raise ValueError(f"{text[:20]!a}... is longer than {longest} characters")
        if not compiled.fullmatch(text):
            raise ValueError(f"{text[:80]!a} is not {what}")
        return text

    return check


def is_digest(text: object) -> bool:
    """Tell whether it is a SHA-256 digest in OCI's spelling."""
    return isinstance(text, str) and re.fullmatch(DIGEST_PATTERN, text) is not None


def is_reference(text: str) -> bool:
    """Tell whether it is an image name, `[HOST/]NAME[:TAG][@DIGEST]`, with nothing to expand."""
    return len(text) <= _LONGEST and _REFERENCE.fullmatch(text) is not None


def _reference(text: str) -> str:
    if not is_reference(text):
        raise ValueError(f"{text[:80]!a} is not an image's name")
    return text


def _pinned(text: str) -> str:
    if not re.search(rf"@{DIGEST_PATTERN}\Z", _reference(text)):
        raise ValueError(f"{text[:80]!a} has no digest")
    return text


def _several(pattern: str) -> str:
    return rf"{pattern}(?:\+{pattern})*"


def _text(pattern: str, what: str, longest: int) -> AfterValidator:
    return AfterValidator(matching(pattern, what, longest))


Sha256 = Annotated[str, AfterValidator(matching(DIGEST_PATTERN, "a SHA-256"))]
Bytes = Annotated[int, Field(ge=0, lt=1 << 50)]
Counter = Annotated[int, Field(ge=0, lt=1 << 62)]
_ImageId = Annotated[str, _text(r"[a-z][a-z0-9.+_-]*", "an image's id", 200)]
image_tag = matching(rf"{_NAME}:{_TAG}", "NAME:TAG", 300)
ImageTag = Annotated[str, AfterValidator(image_tag)]
BaseName = Annotated[str, _text(r"[a-z0-9][a-z0-9.-]*", "a base's name", 100)]
PinnedReference = Annotated[str, AfterValidator(_pinned)]
_Word = Annotated[str, _text(_WORD, "a word of lower-case letters and digits", 64)]
_Words = Annotated[str, _text(_several(_WORD), "words joined by +", 200)]
_Versions = Annotated[str, _text(_several(_VERSION), "versions joined by +", 200)]
_CudaVersion = Annotated[str, _text(r"[0-9]{1,3}\.[0-9]{1,3}|cpu", "a CUDA version, or cpu", 10)]
_CudnnVersion = Annotated[
    str, _text(r"[0-9]{1,3}(?:\.[0-9]{1,4}){1,3}|none", "a cuDNN version, or none", 20)
]
_PythonVersion = Annotated[str, _text(r"[0-9]\.[0-9]{1,3}", "a version of Python such as 3.11", 10)]
Architecture = Annotated[str, _text(r"(?:sm|compute)_[0-9]{2,3}[af]?", "sm_90 or compute_90", 20)]
Processor = Annotated[str, _text(r"[a-z0-9][a-z0-9_.-]*", "an architecture", 32)]
_MediaType = Annotated[str, _text(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+/-]*", "a media type", 255)]


class BlobDescriptor(Document):
    """A descriptor of a blob in a manifest; it keeps unknown keys when it is written again."""

    model_config = ConfigDict(extra="allow")

    digest: Sha256
    size: Bytes
    media_type: _MediaType = Field("", alias="mediaType")
    annotations: dict[str, str] | None = None  # untrusted text

    def annotation(self, name: str) -> str:
        """Return an annotation; empty if there is none."""
        return (self.annotations or {}).get(name, "")


class ImageManifest(Document):
    """A manifest of an image, or of an artifact."""

    config: BlobDescriptor
    layers: tuple[BlobDescriptor, ...] = Field(max_length=512)
    media_type: _MediaType = Field("", alias="mediaType")


class _Rootfs(Document):
    diff_ids: tuple[Sha256, ...] = Field(max_length=512)


class _Settings(Document):
    labels: dict[str, str] | None = Field(None, alias="Labels")


class ConfigDocument(Document):
    """The parts of an image's config that are read."""

    rootfs: _Rootfs
    architecture: Processor | None = None
    config: _Settings | None = None

    def label(self, name: str) -> str | None:
        """Return a label's text, which is untrusted."""
        return ((self.config and self.config.labels) or {}).get(name)


class CellLabel(Document):
    """An image's own description: the label that planning writes into its config."""

    id: _ImageId
    framework: _Words
    framework_version: _Versions
    cuda: _CudaVersion
    cudnn: _CudnnVersion
    python: _PythonVersion
    flavour: _Word


class Platform(Document):
    """The machines that a manifest of an index is for."""

    architecture: Processor
    os: Processor

    def fits(self, architecture: str) -> bool:
        """Tell whether it is Linux on this architecture."""
        return (self.os, self.architecture) == ("linux", architecture)


class PlatformManifest(BlobDescriptor):
    """A manifest of an index; documents that builders add are for no platform, or an unknown."""

    platform: Platform | None = None


class ImageIndex(Document):
    """A list of the images of several architectures."""

    manifests: tuple[PlatformManifest, ...] = Field(max_length=64)
    media_type: _MediaType = Field("", alias="mediaType")


class Listed(BlobDescriptor):
    """A manifest in a list; its digest may use another algorithm than ours."""

    digest: Annotated[str, _text(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[A-Za-z0-9=_-]+", "a digest", 200)]


class Index(Document):
    """A list of manifests."""

    manifests: tuple[Listed, ...] = Field(max_length=8192)


def _validation_message(error: ValidationError) -> str:
    errors = error.errors(include_url=False, include_input=False)
    words = [_one(detail["loc"], str(detail["msg"])) for detail in errors[:_SHOWN]]
    more = [f"and {len(errors) - _SHOWN} more"] if len(errors) > _SHOWN else []
    return "; ".join([*words, *more])


def _one(place: tuple[int | str, ...], message: str) -> str:
    """Format one problem, such as `images.3.python: ... is not ...`; untrusted keys are cut."""
    where = ".".join(ascii(part)[1:-1] if isinstance(part, str) else str(part) for part in place)
    text = "".join(x if x.isprintable() else ascii(x)[1:-1] for x in message)
    text = text.removeprefix("Value error, ")
    return f"{where[:80]}: {text}" if where else text
