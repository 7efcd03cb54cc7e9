"""What pyproject.toml cannot say: the images' files and the commit go into the distribution.

Where GitHub builds it, the repository's address is known, and README's links lead there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT = Path(__file__).resolve().parent
# What an installed wheel plans, locks, builds and renders from: it is `wheelyard/project` there.
# Dockerfiles are left out: they are most of the bytes, and `--engine docker` needs a checkout.
PROJECT = (
    "matrix.yaml",
    "images/layers.json",
    "images/*/*.lock",
    "templates/**/*.j2",
    "devcontainer/features/*/*",
)
REVISION = Path("data", "revision.txt")


def revision() -> str:
    """Return the commit as git describes it; the one written into an sdist; "" for neither."""
    if not (ROOT / ".git").exists():
        written = ROOT / "builder" / "wheelyard" / REVISION
        return written.read_text(encoding="ascii") if written.is_file() else ""
    words = ("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    safe = f"safe.directory={ROOT}"  # CI's checkout may belong to another user
    try:
        argv = ["git", "-C", str(ROOT), "-c", safe, *words]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""


def write_revision(package: Path) -> None:
    """Write the commit where `wheelyard --version` looks for it."""
    if commit := revision():
        target = package / REVISION
        target.unlink(missing_ok=True)  # sdist links files
        target.write_text(commit, encoding="ascii")


class BuildWithProject(build_py):
    """Adds the project's files; an editable installation has the checkout's own."""

    def run(self) -> None:
        """Build as usual, then add what is ours."""
        super().run()
        if self.editable_mode:
            return
        package = Path(self.build_lib, "wheelyard")
        shutil.rmtree(package / "project", ignore_errors=True)  # of an earlier build
        for path in sorted(path for pattern in PROJECT for path in ROOT.glob(pattern)):
            target = package / "project" / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        write_revision(package)


class SdistWithRevision(sdist):
    """Adds the commit, which a wheel built from the sdist cannot ask git for."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        """Lay out the files as usual, then add ours."""
        super().make_release_tree(base_dir, files)
        write_revision(Path(base_dir, "builder", "wheelyard"))


def address() -> str | None:
    """Return the repository's address, which only its owner's workflow knows."""
    server, name = (os.environ.get(f"GITHUB_{x}") for x in ("SERVER_URL", "REPOSITORY"))
    return f"{server}/{name}" if server and name else None


def readme(home: str | None) -> str:
    """Return README with links that work on a page elsewhere, if `home` is known."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    if home is None:
        return text
    tag = os.environ.get("GITHUB_REF_NAME") or "HEAD"

    def linked(match: re.Match[str]) -> str:
        kind = "raw" if match[2].endswith((".svg", ".png")) else "blob"
        return f"{match[1]}{home}/{kind}/{tag}/{match[2]}"

    return re.sub(r'(\]\(|src(?:set)?=")(?![a-z]+:|#)([^)"\s]+)', linked, text)


def urls(home: str | None) -> dict[str, str]:
    """Return the addresses that an index shows."""
    if home is None:
        return {}
    pages = {
        "Documentation": "#readme",
        "Changelog": "/blob/HEAD/CHANGELOG.md",
        "Issues": "/issues",
    }
    return {"Source": home, **{name: home + path for name, path in pages.items()}}


setup(
    cmdclass={"build_py": BuildWithProject, "sdist": SdistWithRevision},
    long_description=readme(address()),
    long_description_content_type="text/markdown",
    project_urls=urls(address()),
)
