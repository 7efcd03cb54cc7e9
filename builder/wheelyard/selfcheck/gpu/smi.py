"""Driver and GPUs as nvidia-smi tells them, where NVML's Python binding is not installed."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence

from ..gpu.driver import (
    START,
    BrokenDriverError,
    Driver,
    Gpu,
    NoDriverError,
    not_answering,
)

BASIC = ("driver_version", "index", "name", "memory.total", "memory.free")
FIELDS = (
    *BASIC, "compute_cap", "ecc.mode.current", "ecc.errors.uncorrected.volatile.total",
    "mig.mode.current", "persistence_mode", "uuid",
)  # fmt: skip
TIMEOUT = 60  # seconds
# Anything else, such as the "[N/A]" of Jetson's nvidia-smi, is not known.
_VERSION = re.compile(r"[0-9]+(\.[0-9]+){1,2}")
_CAPABILITY = re.compile(r"[0-9]{1,2}\.[0-9]")
# What nvidia-smi prints, and the error of NVML behind it.
PROBLEMS = {
    "Driver/library version mismatch": "NVMLError_LibRmVersionMismatch",
    "couldn't communicate with the NVIDIA driver": "NVMLError_DriverNotLoaded",
    "GPU is lost": "NVMLError_GpuIsLost",
}


def ask_smi() -> Driver:
    """Ask for driver and GPUs; raise NoDriverError, or BrokenDriverError when it fails."""
    answer = _run(FIELDS)
    if "is not a valid field" in answer.stdout:  # 470 does not know compute_cap (candle#733)
        answer = _run(BASIC)
        _judge(answer, BASIC)
        return parse_smi(answer.stdout, BASIC)
    _judge(answer, FIELDS)
    return parse_smi(answer.stdout)


def _run(fields: Sequence[str]) -> subprocess.CompletedProcess[str]:
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=TIMEOUT
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise BrokenDriverError(
            f"nvidia-smi did not answer within {TIMEOUT} s: a GPU hangs; look for Xid lines in the "
            "host's dmesg, then restart the host"
        ) from None


def _judge(answer: subprocess.CompletedProcess[str], fields: Sequence[str]) -> None:
    said = (answer.stdout + answer.stderr).strip()
    rows, remarks = _split(said, fields)
    first = [*remarks, *(", ".join(row) for row in rows), "no message"][0]
    for text, kind in PROBLEMS.items():
        if text in said:
            raise not_answering(kind, first, "nvidia-smi")
    if "No devices were found" in said:
        raise NoDriverError(f"nvidia-smi lists no GPU; {START}")
    if answer.returncode:
        raise not_answering("", first, "nvidia-smi")


def parse_smi(text: str, fields: Sequence[str] = FIELDS) -> Driver:
    """Read nvidia-smi's CSV lines of `fields`; raises NoDriverError when it lists no GPU.

    Other lines, such as a warning about one GPU's infoROM, are kept as the driver's remarks.
    """
    rows, remarks = _split(text, fields)
    if not rows:
        said = f" ({remarks[0]})" if remarks else ""
        raise NoDriverError(f"nvidia-smi lists no GPU{said}; {START}")
    gpus = tuple(_gpu(dict(zip(fields, row, strict=True))) for row in rows)
    version = rows[0][0] if _VERSION.fullmatch(rows[0][0]) else ""
    return Driver(version, gpus, "nvidia-smi", remarks=tuple(remarks))


def _split(text: str, fields: Sequence[str]) -> tuple[list[list[str]], list[str]]:
    """Tell the lines that describe a GPU, by their number of cells and its index, from others."""
    rows: list[list[str]] = []
    remarks: list[str] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) == len(fields) and cells[fields.index("index")].isdigit():
            rows.append(cells)
        else:
            remarks.append(line)
    return rows, remarks


def _gpu(row: Mapping[str, str]) -> Gpu:
    capability = row.get("compute_cap", "")
    return Gpu(
        name=row["name"],
        memory=_number(row["memory.total"]),
        capability=capability if _CAPABILITY.fullmatch(capability) else "",
        free=_number(row["memory.free"]),
        ecc=_switch(row, "ecc.mode.current"),
        memory_errors=_number(row.get("ecc.errors.uncorrected.volatile.total", "")),
        mig=_switch(row, "mig.mode.current"),
        persistence=_switch(row, "persistence_mode"),
        uuid=uuid if (uuid := row.get("uuid", "")).startswith(("GPU-", "MIG-")) else None,
    )


def _number(text: str) -> int | None:
    """Read a number; None for "[N/A]" and "[Insufficient Permissions]"."""
    return int(float(text)) if text.replace(".", "", 1).isdigit() else None


def _switch(row: Mapping[str, str], name: str) -> bool | None:
    return {"Enabled": True, "Disabled": False}.get(row.get(name, ""))
