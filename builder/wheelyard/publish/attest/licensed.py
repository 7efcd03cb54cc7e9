"""Licences of an image's parts, by kind and name of the part."""

from __future__ import annotations

from collections.abc import Mapping

from wheelyard.images.inspect.licences import Licence

WHEEL, DEB = "pypi", "deb"  # the types of their purls
Licences = Mapping[tuple[str, str], Licence]
