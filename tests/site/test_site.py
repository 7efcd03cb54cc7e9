"""The site as a visitor meets it: pages, links, sizes, accessibility, and what can be asked."""

from __future__ import annotations

import gzip
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.site.conftest import IMAGE, PAGES, PROJECT
from wheelyard.planning.plan import load_plan

BUDGET = 300_000  # bytes of a page without pictures, as a server that compresses sends them
FIRST_VIEW = 1000  # ms on loopback; three times that where other work runs beside it
PICTURES = (".svg", ".png")


class Links(HTMLParser):
    """What a page leads to and loads, and what can be led to in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.names: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.names |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif "src" in given:
            self.loads.append(given["src"])
        elif tag == "link" and given.get("rel") != "canonical":
            self.loads.append(given.get("href", ""))


def pages(site: Path) -> dict[Path, Links]:
    return {path: Links(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}


def test_every_link_leads_somewhere_and_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    found = pages(site)
    assert len(found) > len(load_plan(PROJECT).cells)
    dead, foreign = [], []
    for path, page in found.items():
        foreign += [f"{path}: {load}" for load in page.loads if urlsplit(load).netloc]
        for link in (*page.links, *page.loads):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or (path.name == "404.html" and link.startswith("/")):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file() or (
                parts.fragment and target in found and parts.fragment not in found[target].names
            ):
                dead.append(f"{path.relative_to(site)}: {link}")
    assert (sorted(set(dead)), foreign) == ([], [])


def test_there_is_a_page_for_every_image_and_one_for_lost_visitors(site: Path) -> None:
    for cell in load_plan(PROJECT).cells:
        text = (site / "catalogue" / cell.id / "index.html").read_text(encoding="utf-8")
        assert all(tag in text for tag in cell.tags)
    assert "404" in (site / "404.html").read_text(encoding="utf-8")


def test_no_view_has_an_error_or_asks_anybody_else(visit: dict[str, Any], address: str) -> None:
    assert len(visit["views"]) == 4 * len(PAGES)
    for view in visit["views"]:
        assert view["errors"] == [], view["path"]
        assert [url for url in view["requests"] if not url.startswith((address, "data:"))] == []


def test_every_view_is_accessible(visit: dict[str, Any]) -> None:
    faults = {
        f"{view['path']} {view['screen']} {view['scheme']}": view["faults"]
        for view in visit["views"]
        if view["faults"]
    }
    assert faults == {}


def test_no_view_shifts_or_is_wider_than_the_screen(visit: dict[str, Any]) -> None:
    for view in visit["views"]:
        assert view["shifted"] < 0.02, (view["path"], view["screen"])
        assert view["wide"] <= 0, (view["path"], view["screen"])


def test_no_short_word_of_code_is_torn(visit: dict[str, Any]) -> None:
    assert {view["path"]: view["torn"] for view in visit["views"] if view["torn"]} == {}


def test_dark_is_dark(visit: dict[str, Any]) -> None:
    seen = {view["scheme"]: view["background"] for view in visit["views"]}
    assert seen["light"] == "rgb(255, 255, 255)"
    assert max(int(part) for part in seen["dark"][4:-1].split(",")) < 60


def test_a_chart_is_as_light_as_the_page_that_shows_it(visit: dict[str, Any]) -> None:
    assert min(visit["chart"]["light"]) == 255
    assert max(visit["chart"]["dark"]) < 60


def test_a_page_is_light_and_quick(visit: dict[str, Any], site: Path, address: str) -> None:
    for view in visit["views"]:
        paths = {urlsplit(url).path for url in view["requests"] if url.startswith(address)}
        files = [site / path.lstrip("/") for path in paths if not path.endswith(PICTURES)]
        files = [path / "index.html" if path.is_dir() else path for path in files]
        assert sum(len(gzip.compress(path.read_bytes())) for path in files) < BUDGET, view["path"]
    quickest = sorted(view["painted"] for view in visit["views"])
    assert quickest[len(quickest) // 2] < FIRST_VIEW


def test_pick_answers_keeps_its_state_and_says_why_not(visit: dict[str, Any]) -> None:
    seen = visit["pick"]
    assert "pytorch:2.10.0-cuda12.8-cudnn9.10-py3.13" in seen["answer"]
    assert "CUDA 13 needs driver 580.65.06 or newer" in seen["answer"]
    assert seen["search"] == "?driver=535.104&gpu=9.0"
    assert seen["again"] == seen["answer"]
    assert "470.82: update the driver" in seen["refused"]
    assert "nvidia-smi" in seen["wrong"]


def test_the_list_filters_and_sorts_by_keyboard(visit: dict[str, Any]) -> None:
    seen = visit["list"]
    assert len(seen["all"]) == len(load_plan(PROJECT).cells)
    assert set(seen["found"]) == {"pytorch 2.9.1", "pytorch + tensorflow 2.9.1 + 2.20.0"}
    assert seen["said"] == f"{len(seen['found'])} images"
    assert (seen["sizes"], seen["sorted"]) == (sorted(seen["sizes"]), "ascending")
    assert seen["search"] == "?sort=size"


def test_the_search_finds_without_a_network(visit: dict[str, Any], address: str) -> None:
    assert any(link.startswith(f"{address}/mirrors/") for link in visit["searched"])


def test_the_page_of_an_image_says_what_it_holds(site: Path) -> None:
    text = (site / IMAGE.strip("/") / "index.html").read_text(encoding="utf-8")
    for part in ("525.60.13", "2.20.5", "cublas", "Reproduce"):
        assert part in text, part
