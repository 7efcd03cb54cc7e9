"""One folder that MkDocs builds from: docs/, the documents above it, and the rendered pages."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from wheelyard.system.textfiles import write_text

_DOCUMENTS = ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "matrix.yaml")
_LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")
_FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def stage(project: Path, target: Path, pages: Mapping[str, str]) -> None:
    """Write the site's sources into `target`, which is emptied first.

    Links lead to a document's place in the site; other files are copied beside it.
    """
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(project / "docs", target)
    for name in _DOCUMENTS:
        shutil.copy(project / name, target)
    for path in sorted(target.rglob("*.md")):
        inside = PurePosixPath(path.relative_to(target).as_posix())
        text = _relinked(path.read_text(encoding="utf-8"), inside, project, target)
        path.write_text(text, encoding="utf-8")
    for name, text in pages.items():
        write_text(target / name, text)


def _relinked(text: str, inside: PurePosixPath, project: Path, target: Path) -> str:
    """Return a page's text with links to project files changed to the site's own."""
    folder = PurePosixPath() if str(inside) in _DOCUMENTS else "docs" / inside.parent

    def turned(match: re.Match[str]) -> str:
        before, link, after = match.groups()
        if ":" in link:
            return match[0]
        return before + _moved(_normal(folder / link), inside, project, target) + after

    pieces = _FENCED.split(text)
    return "".join(
        piece if number % 2 else _LINK.sub(turned, piece) for number, piece in enumerate(pieces)
    )


def _moved(path: PurePosixPath, inside: PurePosixPath, project: Path, target: Path) -> str:
    """Return the link from a page to a project file, which is copied if the site lacks it."""
    place = PurePosixPath(*path.parts[1:]) if path.parts[0] == "docs" else path
    source, there = project / path, target / place
    if source.is_file() and not there.exists():
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, there)
    return "../" * (len(inside.parts) - 1) + str(place)


def _normal(path: PurePosixPath) -> PurePosixPath:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return PurePosixPath(*parts)
