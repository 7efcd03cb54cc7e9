"""The names of blobs: `sha256:` and 64 hex digits, checked before anything else is done with them.

A digest becomes a file's name and a part of a URL, so it is parsed before it is used as either.
Source: OCI image-spec 1.1, descriptor.md, "Digests"; of its algorithms, the one that is in use.
"""

from __future__ import annotations

import re

from wheelyard.errors import StorageError

DIGEST_PATTERN = r"sha256:[0-9a-f]{64}"
_WHOLE = re.compile(DIGEST_PATTERN, re.ASCII)
_SHOWN = 80  # characters of the text that an error shows


class DigestError(StorageError, ValueError):
    """A text that should be a digest and is not."""


class Digest(str):
    """The digest of a blob; only `parse` makes one."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: object) -> Digest:
        """Return `text` as a digest; raises DigestError, which is a ValueError too."""
        if not isinstance(text, str) or _WHOLE.fullmatch(text) is None:
            raise DigestError(
                f"{str(text)[:_SHOWN]!r} is not a SHA-256 digest (sha256: and 64 lower-case hex "
                "digits); its source is damaged or cannot be trusted"
            )
        return cls(text)

    @property
    def sha256(self) -> str:
        """The hex digits: the name of the blob's file."""
        return self.removeprefix("sha256:")
