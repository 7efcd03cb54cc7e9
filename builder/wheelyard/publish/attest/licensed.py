"""Licences of an image's parts, by the kind of the part and its name."""

from __future__ import annotations

from collections.abc import Mapping

from wheelyard.images.inspect.licences import Licence

WHEEL, DEB = "pypi", "deb"  # the types of their purls
Licences = Mapping[tuple[str, str], Licence]
