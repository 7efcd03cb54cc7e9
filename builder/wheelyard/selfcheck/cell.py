"""The image's own description, written into it when it was built."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path

CELL_FILE = Path("/opt/wheelyard/cell.json")
CPU = "cpu"  # stands where a CUDA version would, in an image without CUDA
CPU_ONLY = "CPU only: this image brings no CUDA and uses no GPU"


class CellError(Exception):
    """The cell file cannot be read or does not have the agreed keys."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What the image is meant to hold; versions as the matrix writes them."""

    id: str
    framework: str  # "pytorch"; several are joined by "+"
    framework_version: str  # "2.3.1"; several are joined by "+", in the order of `framework`
    cuda: str  # "12.1", or CPU
    cudnn: str  # "8.9"; "none" beside CPU
    python: str  # "3.11"
    flavour: str
    base: str

    @property
    def frameworks(self) -> dict[str, str]:
        """Version by framework name."""
        return dict(zip(self.framework.split("+"), self.framework_version.split("+"), strict=True))


def load_cell(path: Path | None) -> Cell | None:
    """Read the cell at `path`, or the image's own; None where there is no image around us."""
    if path is None and not CELL_FILE.exists():
        return None
    source = path or CELL_FILE
    try:
        data = json.loads(source.read_text(encoding="utf-8"))
        return Cell(**{field.name: str(data[field.name]) for field in fields(Cell)})
    except OSError as error:
        raise CellError(f"{source}: {error.strerror}; name a readable file with --cell") from error
    except (ValueError, KeyError, TypeError) as error:
        detail = f"{type(error).__name__} {error}"
        raise CellError(f"{source} is not a cell file ({detail}); rebuild the image") from error
