"""The site's own pages as Markdown: the catalogue, `pick`, and the reference."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wheelyard.architecture import ARCHITECTURES
from wheelyard.cli import COMMANDS, make_parser
from wheelyard.console.amounts import amount
from wheelyard.contract.runtimes import run_line
from wheelyard.publish.attest.sbom import sbom
from wheelyard.site.catalogue import ImageFacts, picker_data
from wheelyard.system.templates import make_environment

if TYPE_CHECKING:
    from jinja2 import Environment

    from wheelyard.model import Cell

_WIDTH = 720  # pixels of the picture of an image's layers
# Compute capability -> devices that have it, for those who do not know theirs by heart.
_GPUS = {
    "5.2": "GTX 900, M40", "6.0": "P100", "6.1": "GTX 10, P4, P40", "7.0": "V100",
    "7.5": "T4, RTX 20", "8.0": "A100, A30", "8.6": "A10, A40, RTX 30", "8.9": "L4, L40S, RTX 40",
    "9.0": "H100, H200, GH200", "10.0": "B200, GB200", "10.3": "B300, GB300", "11.0": "Thor",
    "12.0": "RTX 50, RTX PRO 6000", "12.1": "DGX Spark",
}  # fmt: skip


def make_pages(project: Path, images: Sequence[ImageFacts]) -> dict[str, str]:
    """Return the pages that no file in docs/ holds: path in the site's sources -> text."""
    environment = make_environment(project / "templates")
    environment.filters["bytes"] = lambda size: amount(size, "bytes")
    data = json.dumps(picker_data(image.entry for image in images), separators=(",", ":"))
    return {
        "assets/catalogue-data.js": f"globalThis.WHEELYARD_CATALOGUE = {data};\n",
        "index.md": environment.get_template("site/index.md.j2").render(),
        "pick.md": _pick(environment, images),
        "catalogue/index.md": environment.get_template("site/list.md.j2").render(images=images),
        **{
            f"catalogue/{image.cell.id}.md": _image(environment, image, _siblings(image, images))
            for image in images
        },
        **{
            f"catalogue/{image.cell.id}.cdx.json": sbom(
                image.cell.repository, str(image.entry.digest), image.stages
            )
            for image in images
            if image.entry.digest
        },
        "reference/commands.md": environment.get_template("site/commands.md.j2").render(
            commands=list(_helps())
        ),
        "reference/matrix.md": environment.get_template("site/matrix.md.j2").render(
            sections=list(_schema(project))
        ),
    }


def _siblings(image: ImageFacts, images: Sequence[ImageFacts]) -> list[Cell]:
    """Return the same image for other architectures, which one index of a registry holds."""
    cells = (other.cell for other in images)
    return [x for x in cells if x.sibling == image.cell.sibling and x.id != image.cell.id]


def _image(environment: Environment, image: ImageFacts, siblings: Sequence[Cell]) -> str:
    tag = image.cell.tags[0]
    return environment.get_template("site/image.md.j2").render(
        image=image,
        siblings=siblings,
        tag=tag,
        run=run_line("docker", tag),
        bars=_bars(image),
        width=_WIDTH,
        debs=[deb for stage in image.stages[-1:] for deb in stage.packages.packages],
    )


def _bars(image: ImageFacts) -> list[dict[str, Any]]:
    """Draw the layers side by side; their widths are their sizes."""
    left, bars = 0.0, []
    for layer in image.layers:
        width = _WIDTH * layer.size / image.packed
        bars.append({"left": round(left, 1), "width": round(max(width, 0.5), 1), "layer": layer})
        left += width
    return bars


def _pick(environment: Environment, images: Sequence[ImageFacts]) -> str:
    def values(name: str) -> list[str]:
        return list(dict.fromkeys(str(getattr(image.cell, name)) for image in images))

    return environment.get_template("site/pick.md.j2").render(
        frameworks=values("framework"),
        cudas=values("cuda"),
        pythons=values("python"),
        machines={name: ARCHITECTURES[name].machine for name in values("architecture")},
        flavours=list(dict.fromkeys(image.cell.flavour.name for image in images)),
        gpus=_GPUS,
    )


def _helps() -> Iterator[tuple[str, str]]:
    """Return the help of the program and of every command, in 100 columns."""
    before = {name: os.environ.get(name) for name in ("COLUMNS", "NO_COLOR")}
    os.environ |= {"COLUMNS": "100", "NO_COLOR": "1"}
    try:
        yield "", make_parser(()).format_help()
        for name in COMMANDS:
            yield name, _help(name)
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ.update({} if value is None else {name: value})


def _help(command: str) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        make_parser((command,)).parse_args([command, "--help"])
    return printed.getvalue()


def _schema(project: Path) -> Iterator[dict[str, Any]]:
    """Return the parts of matrix.yaml with their keys, from the editors' schema."""
    path = project / "builder" / "wheelyard" / "data" / "matrix.schema.json"
    schema = json.loads(path.read_text(encoding="utf-8"))
    yield {"title": "matrix.yaml", **_keys(schema)}
    for title, part in sorted(schema["$defs"].items()):
        if part.get("properties"):
            yield {"title": title, **_keys(part)}


def _keys(part: dict[str, Any]) -> dict[str, Any]:
    required = part.get("required", ())
    return {
        "about": part.get("description", ""),
        "keys": [
            {
                "name": name,
                "type": _type(one),
                "needed": name in required,
                "about": one.get("description", "").replace("\n", " "),
                "default": json.dumps(one["default"]) if "default" in one else "",
            }
            for name, one in part["properties"].items()
        ],
    }


def _type(one: dict[str, Any]) -> str:
    if "$ref" in one:
        return str(one["$ref"]).rpartition("/")[2]
    if "anyOf" in one:
        return " or ".join(_type(choice) for choice in one["anyOf"])
    if "items" in one:
        return f"list of {_type(one['items'])}"
    if "additionalProperties" in one and isinstance(one["additionalProperties"], dict):
        return f"table of {_type(one['additionalProperties'])}"
    return str(one.get("const", one.get("type", "any")))
