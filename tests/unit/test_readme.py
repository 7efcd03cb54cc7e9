"""README: short, true to the plan and to what was measured, and the same in both languages."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import planning
import pytest

from wheelyard.console.progress import QuietReporter
from wheelyard.context import Context
from wheelyard.planning.drivers import driver_floor
from wheelyard.settings import load_settings
from wheelyard.site.catalogue import read_images

PROJECT = Path(__file__).parents[2]
README, CHINESE = (
    (PROJECT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md")
)
PAGES = [
    *PROJECT.glob("*.md"),
    *(PROJECT / "docs").rglob("*.md"),
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"")


def commands(text: str) -> list[tuple[str, str]]:
    """The fenced blocks, without comments and the blanks before them."""
    return [
        (language, re.sub(r"[ \t]*(?<!\S)#.*$", "", body, flags=re.MULTILINE))
        for language, body in FENCE.findall(text)
    ]


def tables(text: str) -> list[list[list[str]]]:
    found: list[list[list[str]]] = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        elif found[-1]:
            found.append([])
    return [rows for rows in found if rows]


def facts(cell: str) -> list[str]:
    """What of a cell is no language's: code, numbers, links."""
    return re.findall(r"`[^`]+`|[\d.]+\d|\]\([^)]+\)", cell)


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_both_languages_have_the_same_commands() -> None:
    assert len(commands(README)) > 4
    assert commands(README) == commands(CHINESE)


def test_both_languages_have_the_same_tables() -> None:
    ours, theirs = (
        [[[facts(cell) for cell in row] for row in table] for table in tables(text)]
        for text in (README, CHINESE)
    )
    assert len(ours) == 2
    assert ours == theirs


def test_both_languages_have_the_same_links() -> None:
    ours, theirs = (
        {a or b for a, b in LINK.findall(text)} - {"README.md", "README.zh-CN.md"}
        for text in (README, CHINESE)
    )
    assert ours == theirs


def test_the_nine_families_are_the_plan() -> None:
    rows = tables(README)[0][2:]
    assert len(rows) == 9
    cells = planning.committed_plan().cells
    told: list[str] = []
    for name, versions, *lists, driver in rows:
        wanted = [version.replace(" + ", "+") for version in versions.split(", ")]
        mine = [
            cell
            for cell in cells
            if cell.tags[0].startswith(f"{name.strip('`')}:")
            and "+".join(pin.version for pin in cell.frameworks) in wanted
        ]
        assert {cell.framework_version for cell in mine} == set(wanted)
        short = [{version for cell in mine for version in [getattr(cell, axis)]}
                 for axis in ("cuda", "cudnn", "python")]  # fmt: skip
        short[1] = {".".join(version.split(".")[:2]) for version in short[1]}
        assert [set(text.split(", ")) for text in lists] == short
        assert {driver_floor(cell.cuda).minimum for cell in mine} == set(driver.split(", "))
        told += [cell.id for cell in mine]
    assert sorted(told) == sorted(cell.id for cell in cells)


def measure(report: str, **which: Any) -> float:
    content = json.loads((PROJECT / "docs" / "results" / report).read_text())
    found = [m for m in content["measures"] if {k: m[k] for k in which} == which]
    assert len(found) == 1
    return float(found[0]["ratio"])


def result(report: str) -> Any:
    return json.loads((PROJECT / "docs/results" / report).read_text())


def test_the_four_ratios_are_the_measured_ones() -> None:
    ratios = [float(row[1]) for row in tables(README)[1][2:]]
    runs = result("project.json")["runs"]
    ours, docker = (
        next(run["seconds"] for run in runs if (run["side"], run["step"]) == (side, "empty"))
        for side in ("wheelyard", "docker")
    )
    lazy = next(run for run in result("bench-lazy.json")["runs"] if run["way"] == "estargz")
    measured = [
        measure("bench-publish.json", way="gzip", image="first", leg="publish"),
        ours / docker,
        lazy["marks"]["first step"]["bytes"] / lazy["size"],
        measure("bench.json", name="sharing"),
    ]
    assert ratios == [round(value, 2) for value in measured]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for found in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        target, _, anchor = (found[0] or found[1]).partition("#")
        if re.match(r"\w+:", target):
            continue
        path = page.parent / target if target else page
        assert path.exists(), target
        if anchor and path.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [slug(heading) for heading in headings], f"{target}#{anchor}"


def test_what_pull_fetches_is_what_the_images_weigh() -> None:
    context = Context(load_settings({"project": str(PROJECT)}), QuietReporter(None))
    sizes = [image.packed / 1e9 for image in read_images(context)]
    for text in (README, CHINESE):
        (found,) = re.findall(r"`pull`.*? (\d\.\d) (?:to|至) (\d\.\d) GB", text)
        assert found == (f"{min(sizes):.1f}", f"{max(sizes):.1f}")


def test_badges_are_true_and_ask_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both READMEs show each as a file of this repository, drawn from what it says now."""
    monkeypatch.syspath_prepend(str(PROJECT / "tools"))
    overview = importlib.import_module("overview")
    shown = re.compile(r"^!\[(.+?)\]\(docs/pictures/(badge-[a-z]+\.svg)\)", re.MULTILINE)
    found = {file: (name, value) for file, (name, value) in overview.badges().items()}
    for file, (name, value) in found.items():
        drawn = (PROJECT / "docs" / "pictures" / file).read_text(encoding="utf-8")
        assert drawn == overview.draw_badge(name, value)
    for text in (README, CHINESE):
        assert {file: alt for alt, file in shown.findall(text)} == {
            file: f"{name}: {value}" for file, (name, value) in found.items()
        }
        assert not re.search(r"!\[[^]]*\]\(https?:", text)
    assert int(found["badge-images.svg"][1]) == len(planning.committed_plan().cells)
    tested = re.search(r"python: \[(.+)\]", (PROJECT / ".github/workflows/ci.yml").read_text())
    assert tested
    minors = re.findall(r"3\.\d+", tested[1])
    assert found["badge-python.svg"][1] == f"{minors[0]} to {minors[-1]}"
    assert "Apache License" in (PROJECT / "LICENSE").read_text()[:200]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_picture_is_what_its_script_draws(theme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PROJECT / "tools"))
    overview = importlib.import_module("overview")
    drawn = PROJECT / "docs" / "pictures" / f"overview-{theme}.svg"
    assert drawn.read_text(encoding="utf-8") == overview.draw(theme)
