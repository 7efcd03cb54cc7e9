"""The image's compressed size beside that of its wheels."""

from __future__ import annotations

from tests.benchmark.measure import Measurement
from tests.benchmark.place import Place, prepared, record, stage_of

SLACK = 1.03
BASE = 120e6  # bytes


def measure(place: Place, _runs: int | None) -> list[Measurement]:
    """Compressed bytes: what a pull onto an empty machine costs."""
    image = record(prepared(place))
    wheels = sum(wheel.size for wheel in stage_of(place).lock.wheels)
    return [
        Measurement(
            "size", "compressed size of the image", float(image["compressed_bytes"]), "bytes",
            "1.03 x its wheels + 120 MB", SLACK * wheels + BASE, 1.0, "ratio",
            {
                "wheel_bytes": wheels,
                "unpacked_bytes": image["unpacked_bytes"],
                "layers": {x["title"]: x["size"] for x in image["layers"]},
            },
        )
    ]  # fmt: skip
