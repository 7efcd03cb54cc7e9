"""The engines' benchmark: ratios from runs, and a plot that is a function of its numbers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.benchmark.bars import Bar, Heading, draw_bars
from tests.benchmark.engines.__main__ import chosen, parse
from tests.benchmark.engines.disk import fresh_disk
from tests.benchmark.engines.plot import draw
from tests.benchmark.engines.report import Run, measurements, read_run
from tests.benchmark.engines.watch import Sample

RESULTS = Path(__file__).parents[2] / "docs" / "results"


def run(way: str, scenario: str, seconds: float, store: str = "classic") -> Run:
    return Run(store, way, scenario, Sample(seconds, 100, 200), 300)


def test_ratios_are_of_medians_in_the_same_scenario() -> None:
    runs = [
        run("pip", "cold", 90), run("pip", "cold", 110), run("pip", "warm", 50),
        run("assemble", "cold", 30), run("assemble", "warm", 25),
    ]  # fmt: skip
    found = {(x.way, x.scenario): x for x in measurements(runs)}
    assert found["pip", "cold"].ratio == 1
    assert found["assemble", "cold"].ratio == 0.3
    assert found["assemble", "cold"].ok is True
    assert found["assemble", "warm"].ratio == 0.5
    assert found["assemble", "warm"].ok is False


def test_every_store_has_a_pip_of_its_own() -> None:
    runs = [
        run("pip", "cold", 50), run("docker", "cold", 45),
        run("pip", "cold", 250, "containerd"), run("docker", "cold", 150, "containerd"),
        run("assemble", "warm", 10, "containerd"), run("buildah", "cold", 80, "buildah"),
    ]  # fmt: skip
    found = {(x.store, x.way): (x.ratio, x.ok) for x in measurements(runs)}
    assert found == {
        ("classic", "pip"): (1, None),
        ("classic", "docker"): (0.9, False),
        ("buildah", "buildah"): (1.6, None),
        ("containerd", "pip"): (1, None),
        ("containerd", "docker"): (0.6, True),
        ("containerd", "assemble"): (None, None),  # pip was not measured warm
    }


def test_buildah_goes_with_the_classic_store_and_the_classic_builder_stays_in_it() -> None:
    names = ["pip", "pip-classic", "buildah"]
    classic = [("pip", "classic"), ("pip-classic", "classic"), ("buildah", "buildah")]
    newer = [("pip", "containerd")]
    assert [(way.name, store) for way, store in chosen(names, "classic")] == classic
    assert [(way.name, store) for way, store in chosen(names, "containerd")] == newer
    assert [(way.name, store) for way, store in chosen(names, "both")] == classic + newer


def test_nothing_to_measure_is_said_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--only", "buildah", "--store", "containerd"])
    assert "none of buildah is measured in that store" in capsys.readouterr().err


def test_without_pip_there_is_nothing_to_compare_with() -> None:
    (found,) = measurements([run("docker", "cold", 30)])
    assert (found.ratio, found.ok) == (None, None)


def test_a_run_survives_its_report() -> None:
    made = run("pip", "cold", 1.5)
    assert read_run(json.loads(json.dumps(made.as_json()))) == made


def test_a_run_of_before_there_were_stores_is_of_the_classic_one() -> None:
    for way, store in (("pip", "classic"), ("assemble", "classic"), ("buildah", "buildah")):
        entry = {**run(way, "cold", 1.5).as_json()}
        del entry["store"]
        assert read_run(entry) == run(way, "cold", 1.5, store)


def test_the_plot_has_a_group_for_every_store_and_scenario() -> None:
    runs = [run("pip", "cold", 50), run("pip", "warm", 50), run("buildah", "cold", 80, "buildah"),
            run("pip", "cold", 250, "containerd")]  # fmt: skip
    drawn = draw({
        "environment": {"processor": "A & B", "cores": 2},
        "measures": [x.as_json() for x in measurements(runs)],
    })  # fmt: skip
    titles = [x.text for x in ElementTree.fromstring(drawn) if x.get("font-weight") == "bold"]
    assert titles[1:] == [
        "classic store, cold: no wheel in any cache",
        "classic store, warm: wheels and layers cached, the engine has only the base",
        "containerd store, cold: no wheel in any cache",
    ]


def test_bars_are_as_long_as_their_seconds() -> None:
    found = measurements([run("pip", "cold", 100), run("assemble", "cold", 25)])
    report = {
        "environment": {"processor": "A & B", "cores": 2},
        "measures": [x.as_json() for x in found],
    }
    root = ElementTree.fromstring(draw(report))
    bars = [float(x.attrib["width"]) for x in root.iter("{http://www.w3.org/2000/svg}rect")
            if x.attrib["width"] != "100%"]  # fmt: skip
    assert bars[1] == pytest.approx(bars[0] / 4, abs=1)


def luminance(colour: str) -> float:
    """As WCAG 2.2 defines it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return sum(x * share for x, share in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))


def test_a_plot_can_be_read_on_light_and_on_dark_pages() -> None:
    heading = Heading("A", "b", "c", "d")
    drawn = draw_bars(heading, {"x": [Bar("y", 1, None, False), Bar("z", 2, None, True)]})
    root = ElementTree.fromstring(drawn)
    (style,) = root.iter("{http://www.w3.org/2000/svg}style")
    light, dark = (style.text or "").split("@media (prefers-color-scheme: dark)")
    pages = []
    for scheme in (light, dark):
        colours = dict(re.findall(r"\.?(\w+) \{ fill: (#[0-9a-f]{6}) \}", scheme))
        page = luminance(colours.pop("page"))
        pages.append(page)
        assert sorted(colours) == ["muted", "ours", "reference", "text"]
        for name, colour in colours.items():
            low, high = sorted((page, luminance(colour)))
            least = 3 if name in ("ours", "reference") else 4.5  # of shapes, and of words
            assert (high + 0.05) / (low + 0.05) >= least, (name, colour)
    assert pages[0] == 1
    assert pages[1] < 0.02
    assert not [x for x in root.iter() if "fill" in x.attrib]
    rects = [x for x in root.iter() if x.tag.endswith("rect")]
    assert [x.get("class") for x in rects] == ["page", "ours", "reference"]


def test_the_committed_plot_shows_the_committed_numbers() -> None:
    report = json.loads((RESULTS / "bench-engines.json").read_text())
    assert (RESULTS / "bench-engines.svg").read_text() == draw(report)


def test_without_a_loop_device_there_is_a_folder_and_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # with no tool in it
    with fresh_disk(tmp_path, 1 << 20) as disk:
        (disk / "file").touch()
        assert not disk.is_mount()
    assert "no disk of its own" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
