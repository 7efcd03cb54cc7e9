"""The results of an image's own checks, kept by the image's digest."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from wheelyard.system.textfiles import write_text

VERSION = 3
_MOST_EARLIER = 50


@dataclass(frozen=True, slots=True)
class Earlier:
    """One earlier run of the same image, in a line."""

    date: str
    host: str
    device: str
    driver: str
    backend: str
    asked: str  # groups of selfcheck, and whether a GPU was required
    result: str
    failed: str  # the checks that failed, or why there are no results


@dataclass(frozen=True, slots=True)
class Record:
    """One image, checked in one place."""

    id: str
    digest: str  # the manifest's
    tags: tuple[str, ...]
    backend: str  # "docker" or "chroot"
    gpu: bool  # a GPU was passed into the container
    groups: tuple[str, ...]  # of selfcheck
    seconds: float
    checks: tuple[Mapping[str, Any], ...]  # as `selfcheck --json` prints them
    error: str | None = None  # why there are no results
    required: bool = False  # a missing GPU was a failure
    machine: str = ""  # host, driver and GPUs, as places.Place has them
    made: Mapping[str, Any] = field(default_factory=dict)  # date, host, cpu, device, driver ...
    earlier: tuple[Earlier, ...] = ()  # runs of the same digest on any host, the newest first

    @property
    def counts(self) -> dict[str, int]:
        """The numbers of passed, failed and skipped checks."""
        states = [check["status"] for check in self.checks]
        return {state: states.count(state) for state in ("pass", "fail", "skip")}

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return self.error is None and bool(self.checks) and not self.counts["fail"]

    @property
    def result(self) -> str:
        """How many checks ended how; what was skipped is never part of "ok"."""
        if self.error is not None:
            return "not run"
        names = (("fail", "FAILED"), ("pass", "ok"), ("skip", "skipped"))
        told = [f"{self.counts[kind]} {name}" for kind, name in names if self.counts[kind]]
        return ", ".join(told) or "no checks"

    @property
    def skip_reasons(self) -> list[str]:
        """Why checks were skipped, the most frequent reason first, with its count."""
        reasons = Counter(str(x.get("reason")) for x in self.checks if x["status"] == "skip")
        return [f"{reason} ({count})" for reason, count in reasons.most_common()]

    @property
    def history(self) -> tuple[Earlier, ...]:
        """Return this run and the earlier ones, as the next record keeps them."""
        said = {name: as_text(value) for name, value in self.made.items()}
        date, host, device, driver = (said.get(x, "") for x in ("date", "host", "device", "driver"))
        asked = " ".join((*self.groups, *(["--require-gpu"] if self.required else [])))
        names = ", ".join(check["name"] for check in self.checks if check["status"] == "fail")
        failed = names if self.error is None else self.error
        this = Earlier(date, host, device, driver, self.backend, asked, self.result, failed)
        return (this, *self.earlier)[:_MOST_EARLIER]

    @property
    def versions(self) -> dict[str, str]:
        """The versions that selfcheck found: of Python, the framework, CUDA's libraries."""
        start = "versions."
        return {
            check["name"].removeprefix(start): check["seen"]
            for check in self.checks
            if check["name"].startswith(start) and isinstance(check.get("seen"), str)
        }

    def answers(
        self, backend: str, gpu: bool, groups: tuple[str, ...], required: bool, machine: str
    ) -> bool:
        """Tell whether a new run would only repeat this one: the same request in the same place.

        A run with --require-gpu was stricter, so it also answers a request without it.
        """
        asked = "all" in self.groups or set(groups) <= set(self.groups)
        same = (self.backend, self.gpu, self.machine) == (backend, gpu, machine)
        return self.ok and same and asked and (self.required or not required)


def as_text(value: object) -> str:
    """Return a fact about a machine as text; it may have several devices."""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def record_path(folder: Path, digest: str) -> Path:
    """Return the path of an image's record."""
    return folder / f"{digest.replace(':', '-')}.json"


def read_record(folder: Path, digest: str) -> Record | None:
    """Return the record of an image; None if there is none that can be read."""
    try:
        data: dict[str, Any] = json.loads(record_path(folder, digest).read_text(encoding="utf-8"))
        if data.pop("version") != VERSION:
            return None
        for name in ("tags", "groups", "checks"):
            data[name] = tuple(data[name])
        data["earlier"] = tuple(Earlier(**run) for run in data.get("earlier", ()))
        return _checked(Record(**data), digest)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _checked(record: Record, digest: str) -> Record:
    """Raise ValueError for a record of another image, or with content that no run writes."""
    texts = [record.id, record.backend, record.machine, *record.tags, *record.groups]
    texts += [check["status"] for check in record.checks] + [x["name"] for x in record.checks]
    texts += list(record.made)
    texts += [text for run in record.earlier for text in asdict(run).values()]
    flags = (record.gpu, record.required)
    is_right = all(isinstance(text, str) for text in texts)
    is_right = is_right and all(isinstance(flag, bool) for flag in flags)
    is_right = is_right and len(record.earlier) <= _MOST_EARLIER
    if not (is_right and record.digest == digest and isinstance(record.seconds, int | float)):
        raise ValueError(f"not a record of {digest}")
    return record


def write_record(folder: Path, record: Record) -> None:
    """Keep a record; StorageError if the folder cannot be written."""
    text = json.dumps({"version": VERSION, **asdict(record)}, indent=1)
    write_text(record_path(folder, record.digest), text + "\n")
