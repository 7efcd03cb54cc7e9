"""Driver and GPUs as nvidia-smi tells them, where NVML's Python binding is not installed."""

from __future__ import annotations

import csv
import subprocess
from collections.abc import Mapping, Sequence

from selfcheck.gpu.driver import (
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
    "mig.mode.current", "persistence_mode",
)  # fmt: skip
TIMEOUT = 60  # seconds
# What nvidia-smi prints, and the error of NVML behind it.
PROBLEMS = {
    "Driver/library version mismatch": "NVMLError_LibRmVersionMismatch",
    "couldn't communicate with the NVIDIA driver": "NVMLError_DriverNotLoaded",
    "GPU is lost": "NVMLError_GpuIsLost",
}


def ask_smi() -> Driver:
    """The driver and its GPUs; raises NoDriverError, or BrokenDriverError when it fails."""
    answer = _run(FIELDS)
    if "is not a valid field" in answer.stdout:  # 470 does not know compute_cap (candle#733)
        answer = _run(BASIC)
        _judge(answer)
        return parse_smi(answer.stdout, BASIC)
    _judge(answer)
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


def _judge(answer: subprocess.CompletedProcess[str]) -> None:
    said = (answer.stdout + answer.stderr).strip()
    first = (said.splitlines() or ["no message"])[0]
    for text, kind in PROBLEMS.items():
        if text in said:
            raise not_answering(kind, first, "nvidia-smi")
    if "No devices were found" in said:
        raise NoDriverError(f"nvidia-smi lists no GPU; {START}")
    if answer.returncode:
        raise not_answering("", first, "nvidia-smi")


def parse_smi(text: str, fields: Sequence[str] = FIELDS) -> Driver:
    """Read nvidia-smi's CSV lines of `fields`; raises NoDriverError when it lists no GPU."""
    rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines()) if row]
    if not rows:
        raise NoDriverError(f"nvidia-smi lists no GPU; {START}")
    gpus = tuple(_gpu(dict(zip(fields, row, strict=True))) for row in rows)
    return Driver(rows[0][0], gpus, "nvidia-smi")


def _gpu(row: Mapping[str, str]) -> Gpu:
    return Gpu(
        name=row["name"],
        memory=_number(row["memory.total"]),
        capability=row.get("compute_cap", ""),
        free=_number(row["memory.free"]),
        ecc=_switch(row, "ecc.mode.current"),
        memory_errors=_number(row.get("ecc.errors.uncorrected.volatile.total", "")),
        mig=_switch(row, "mig.mode.current"),
        persistence=_switch(row, "persistence_mode"),
    )


def _number(text: str) -> int | None:
    """A number, or None for "[N/A]" and "[Insufficient Permissions]"."""
    return int(float(text)) if text.replace(".", "", 1).isdigit() else None


def _switch(row: Mapping[str, str], name: str) -> bool | None:
    return {"Enabled": True, "Disabled": False}.get(row.get(name, ""))
