"""Draw docs/pictures: overview-*.svg, the way from the matrix to a server, and README's badges."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from wheelyard.planning.plan import load_plan

PROJECT = Path(__file__).parents[1]
PICTURES = PROJECT / "docs" / "pictures"
THEMES = {
    "light": {
        "fill": "#f6f8fa", "line": "#6e7781", "accent": "#2f6f9f", "text": "#1f2328",
        "muted": "#57606a",
    },
    "dark": {
        "fill": "#161b22", "line": "#8b949e", "accent": "#6cb6e8", "text": "#e6edf3",
        "muted": "#9da7b3",
    },
}  # fmt: skip
WIDTH, HEIGHT, GAP = 132, 92, 26  # of a box, and between two
STEPS = (
    ("matrix.yaml", "CUDA x framework", "x Python x flavour"),
    ("locks", "every file", "pinned by hash"),
    ("wheels", "and Debian", "packages, cached"),
    ("layers", "copied, not", "packed again"),
    ("image", "OCI layout,", "read back"),
    ("registry", "blobs it has", "are skipped"),
)
ENDS = (
    ("GPU server", "pick, pull, train"),
    ("VS Code", "dev container"),
    ("Docker", "loaded, no daemon", "needed to build"),
)


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle with a title and lines below it."""

    left: int
    top: int
    title: str
    lines: tuple[str, ...]
    strong: bool
    width: int = WIDTH
    height: int = HEIGHT

    @property
    def middle(self) -> int:
        """Return where its text is centred."""
        return self.left + self.width // 2


def draw(theme: str) -> str:
    """Return the picture in one theme: a function of this file and the template alone."""
    step = WIDTH + GAP
    row = [
        Box(4 + number * step, 4, title, lines, strong=title == "layers")
        for number, (title, *rest) in enumerate(STEPS)
        for lines in [tuple(rest)]
    ]
    below = [
        Box(4 + number * step, HEIGHT + 60, title, tuple(rest), strong=False)
        for number, (title, *rest) in zip((5, 4, 3), ENDS, strict=True)
    ]
    return (
        _environment()
        .get_template("overview.svg.j2")
        .render(
            boxes=[*row, *below],
            arrows=_arrows(row, below),
            theme=THEMES[theme],
            width=len(STEPS) * step - GAP + 8,
            height=2 * HEIGHT + 64,
        )
    )


def badges() -> dict[str, tuple[str, str]]:
    """Return file -> name and value: what this checkout proves by itself, without a server."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    start = "Programming Language :: Python :: 3."
    minors = sorted(int(x.removeprefix(start)) for x in project["classifiers"] if start in x)
    return {
        "badge-images.svg": ("images", str(len(load_plan(PROJECT).cells))),
        "badge-python.svg": ("Python", f"3.{minors[0]} to 3.{minors[-1]}"),
        "badge-licence.svg": ("licence", project["license"]),
    }


def draw_badge(name: str, value: str) -> str:
    """Return a badge; seven units a letter are enough for its font."""
    left, right = (7 * len(text) + 12 for text in (name, value))
    template = _environment().get_template("badge.svg.j2")
    return template.render(name=name, value=value, left=left, right=right)


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(PROJECT / "templates"), undefined=StrictUndefined, autoescape=True,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip


def _arrows(row: list[Box], below: list[Box]) -> list[str]:
    """Along the row, from the registry to the server and the editor, from the image to Docker."""
    middle = row[0].top + HEIGHT // 2
    along = [f"M{box.left + WIDTH + 2} {middle}h{GAP - 4}" for box in row[:-1]]
    server, editor, docker = below
    fold = HEIGHT + 32
    registry, image = row[-1], row[-2]
    return [
        *along,
        f"M{registry.middle} {HEIGHT + 6}V{server.top - 2}",
        f"M{registry.middle - 20} {HEIGHT + 6}V{fold}H{editor.middle + 20}V{server.top - 2}",
        f"M{image.middle - 20} {HEIGHT + 6}V{fold - 10}H{docker.middle}V{server.top - 2}",
    ]


def main() -> None:
    """Write both pictures and the badges."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    for theme in THEMES:
        (PICTURES / f"overview-{theme}.svg").write_text(draw(theme), encoding="utf-8")
    for file, (name, value) in badges().items():
        (PICTURES / file).write_text(draw_badge(name, value), encoding="utf-8")


if __name__ == "__main__":
    main()
