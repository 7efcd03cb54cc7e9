"""The site's sources: every image has its page, links lead into the site, pick gets its data."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import planning
import pytest
from tiny import Tiny, make_tiny

from wheelyard.cli import COMMANDS, main
from wheelyard.console.progress import make_reporter
from wheelyard.context import Context
from wheelyard.oci.layout import Layout
from wheelyard.settings import load_settings
from wheelyard.site.catalogue import ImageFacts, read_images
from wheelyard.site.pages import make_pages
from wheelyard.site.staging import stage

PROJECT = Path(__file__).parents[2]
needs_base = pytest.mark.skipif(
    not Path("/lib64/ld-linux-x86-64.so.2").exists(), reason="needs Linux on x86_64"
)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Context]:
    cache = str(tmp_path_factory.mktemp("cache"))
    settings = load_settings({"project": str(PROJECT), "cache_dir": cache}, {})
    with closing(make_reporter("quiet", None)) as reporter:
        yield Context(settings, reporter)


@pytest.fixture(scope="module")
def images(context: Context) -> tuple[ImageFacts, ...]:
    return read_images(context)


@pytest.fixture(scope="module")
def pages(images: tuple[ImageFacts, ...]) -> dict[str, str]:
    """Of the images that have a digest only two keep it: a bill of materials takes 0.2 s."""
    apart = [image.cell.id for image in images if image.entry.digest][1:-1]
    return make_pages(PROJECT, [
        replace(image, entry=replace(image.entry, digest=None)) if image.cell.id in apart else image
        for image in images
    ])  # fmt: skip


def test_the_picture_of_pick_has_all_of_its_fields(pages: dict[str, str]) -> None:
    """Where this fails, take it again: CONTRIBUTING.md, the site."""
    (told,) = re.findall(
        r"!\[(.*)\]\(pictures/pick\.png\)", (PROJECT / "docs/servers.md").read_text()
    )
    fields = re.findall(r"<label>(.*?) <", pages["pick.md"])
    assert len(fields) > 5
    assert [name for name in fields if name not in told] == []


def test_every_image_has_a_page_with_its_tags_layers_and_parts(
    images: tuple[ImageFacts, ...], pages: dict[str, str]
) -> None:
    assert [image.cell for image in images] == list(planning.committed_plan().cells)
    for image in images:
        text = pages[f"catalogue/{image.cell.id}.md"]
        assert all(f"`{tag}`" in text for tag in image.cell.tags)
        assert text.count("<rect ") == len(image.layers)
        assert all(f"`{w.name} {w.version}`" in text for w in image.stages[-1].lock.wheels)
        assert f"catalogue/{image.cell.id}.md".count("/") == 1
        assert f'href="{image.cell.id}/"' in pages["catalogue/index.md"]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tiny, dict[str, str]]:
    """A project of small images with a record of their layers, and the digests that were built."""
    folder = tmp_path_factory.mktemp("recorded")
    tiny = make_tiny(folder)
    places = ["--project", str(tiny.folder), "--cache-dir", str(tiny.context.settings.cache_dir)]
    output = ["--output", str(folder / "dist")]
    assert main(["build", "all", "--no-load", *output, *places]) == 0
    assert main(["layers", "record", "all", *output, *places]) == 0
    return tiny, {tag: x.digest for tag, x in Layout(folder / "dist").references().items()}


@needs_base
def test_a_recorded_image_has_digest_inspection_and_bill(
    recorded: tuple[Tiny, dict[str, str]],
) -> None:
    tiny, digests = recorded
    images = read_images(tiny.context)
    pages = make_pages(PROJECT, images)
    for image in images:
        assert image.entry.digest == digests[image.cell.tags[0]]
        assert image.packed == sum(size for _, size in image.entry.layers)
        assert image.inspected["CUDA"] == "12.1"
        bill = json.loads(pages[f"catalogue/{image.cell.id}.cdx.json"])
        assert bill["metadata"]["component"]["version"] == image.entry.digest
        assert f"`{image.entry.digest}`" in pages[f"catalogue/{image.cell.id}.md"]
        assert (image.layers[0].images, image.layers[-1].images) == (2, 1)


@needs_base
def test_what_verify_saw_is_shown(recorded: tuple[Tiny, dict[str, str]], tmp_path: Path) -> None:
    tiny, digests = recorded
    cell = tiny.cell("runtime")
    check = {"name": "train.mlp", "status": "pass", "seen": "0.97", "reason": None}
    seen = {"backend": "chroot", "gpu": False, "seconds": 9.5, "checks": [check]}
    report = {"images": [{"digest": digests[cell.tags[0]], **seen}]}
    (tmp_path / "report.json").write_text(json.dumps(report))
    text = make_pages(PROJECT, read_images(tiny.context, tmp_path))[f"catalogue/{cell.id}.md"]
    assert "chroot without a GPU, 9.5 s" in text
    assert "| `train.mlp` | pass | 0.97 |" in text


def test_the_reference_has_every_command_and_every_key_of_the_matrix(pages: dict[str, str]) -> None:
    commands = pages["reference/commands.md"]
    assert all(f"## wheelyard {name}\n" in commands for name in COMMANDS)
    assert commands.count("\nusage: wheelyard") == len(COMMANDS) + 1
    assert "\x1b" not in commands
    assert all(f"| `{key}`" in pages["reference/matrix.md"] for key in ("axes", "exclude", "bases"))


def test_links_of_the_sources_lead_to_pages_or_copied_files(
    pages: dict[str, str], tmp_path: Path
) -> None:
    stage(PROJECT, tmp_path / "site", pages)
    site = (tmp_path / "site").resolve()
    for path in site.rglob("*.md"):
        text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
        for link in re.findall(r"\]\(([^)#\s:]+)(?:#[^)]*)?\)", text):
            target = (path.parent / link).resolve()
            assert target.is_relative_to(site), (path, link)
            assert target.exists(), (path, link)


def test_the_page_says_what_pick_says() -> None:
    """Word for word; tests/site holds the answers to each other, in a browser."""
    script = (PROJECT / "docs/assets/pick.js").read_text(encoding="utf-8")
    theirs = re.sub(r"[`\"] \+\s*[`\"]", "", script)
    source = (PROJECT / "builder/wheelyard/servers/pick.py").read_text(encoding="utf-8")
    said = [
        part.value.strip()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.JoinedStr)
        for part in node.values
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    ]
    # Of another architecture, and of options and words that are no such: no field takes these.
    left_out = ("the images are for", "this machine is", "write ", "--", "no image has")
    ours = [text for text in said if len(text) > 7 and not any(x in text for x in left_out)]
    assert len(ours) > 12
    assert [text for text in ours if text not in theirs] == []
