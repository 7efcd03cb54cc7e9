"""The set of images that a wheel carries, read-only; a checkout has its own at its top."""

from pathlib import Path

PACKAGED = Path(__file__).parents[1] / "project"  # setup.py fills it
_CHECKOUT = Path(__file__).parents[3]


def packaged_set() -> Path | None:
    """Return the set that this program came with, in its wheel or its checkout."""
    return next((x for x in (PACKAGED, _CHECKOUT) if (x / "matrix.yaml").is_file()), None)
