"""Pushes at the same time: each finds its images in the catalogue in the end."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import planning
import pytest
from referring import referring_registry

from wheelyard.console.progress import QuietReporter
from wheelyard.errors import RegistryError
from wheelyard.oci.address import parse_address
from wheelyard.planning.catalogue import CatalogueEntry, plan_entries
from wheelyard.publish.catalogue import fetch_catalogue, publish_catalogue
from wheelyard.registry.client import open_registry
from wheelyard.registry.indexes import settle
from wheelyard.settings import load_settings

PROJECT = Path(__file__).parents[2]
PUSHES = 4


def entries() -> Sequence[CatalogueEntry]:
    _matrix, upstream, plan = planning.committed()
    return plan_entries(plan.cells[:PUSHES], upstream, [])


def test_no_entry_is_lost_to_another_push() -> None:
    settings = load_settings({"project": str(PROJECT)})
    start = Barrier(PUSHES)
    with referring_registry("catalogue") as shelf:
        address = parse_address(shelf.url)

        def push(entry: CatalogueEntry) -> None:
            with open_registry(address, settings, QuietReporter(None)) as registry:
                start.wait()
                publish_catalogue(registry, [entry])

        wanted = entries()
        with ThreadPoolExecutor(PUSHES) as pool:
            list(pool.map(push, wanted))
        with open_registry(address, settings, QuietReporter(None)) as registry:
            assert {x.id for x in fetch_catalogue(registry) or ()} == {x.id for x in wanted}


def test_an_entry_that_another_push_replaces_meanwhile_stays_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = load_settings({"project": str(PROJECT)})
    (ours, *_) = entries()
    theirs = replace(ours, digest=f"sha256:{'7' * 64}")
    with (
        referring_registry("catalogue") as shelf,
        open_registry(parse_address(shelf.url), settings, QuietReporter(None)) as registry,
    ):

        def meanwhile(_seconds: float) -> None:
            monkeypatch.undo()
            publish_catalogue(registry, [theirs])

        monkeypatch.setattr("wheelyard.registry.indexes.time.sleep", meanwhile)
        publish_catalogue(registry, [ours])
        assert fetch_catalogue(registry) == (theirs,)


def test_others_get_twice_the_time_that_reading_and_writing_took(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A fixed rest lost entries on a busy machine, where others took longer to write theirs."""
    slept: list[float] = []
    monkeypatch.setattr("wheelyard.registry.indexes.time.sleep", slept.append)
    settle(time.monotonic(), 0)
    settle(time.monotonic() - 5, 0)
    assert slept[0] < 1
    assert 10 <= slept[1] < 11
    read: list[float] = []
    begun: list[float] = []

    def current(*_: object) -> None:
        read.append(time.monotonic())

    monkeypatch.setattr("wheelyard.publish.catalogue._current", current)
    monkeypatch.setattr("wheelyard.publish.catalogue._replace", lambda *_: None)
    monkeypatch.setattr("wheelyard.publish.catalogue.settle", lambda at, _: begun.append(at))
    settings = load_settings({"project": str(PROJECT)})
    with referring_registry("catalogue") as shelf:
        address = parse_address(shelf.url)
        with (
            open_registry(address, settings, QuietReporter(None)) as registry,
            pytest.raises(RegistryError, match="other pushes keep replacing"),
        ):
            publish_catalogue(registry, entries())
    assert all(start <= at for start, at in zip(begun, read, strict=True))
    assert len(begun) > 1
