"""The set of images that a wheel carries, read-only; a checkout has its own at its top."""

from pathlib import Path

PACKAGED = Path(__file__).parents[1] / "project"  # setup.py fills it
