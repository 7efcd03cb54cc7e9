"""Write the site's sources: `python -m wheelyard.site FOLDER`. `make site` builds them."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from wheelyard.console.progress import make_reporter
from wheelyard.context import Context
from wheelyard.settings import load_settings
from wheelyard.site.catalogue import read_images
from wheelyard.site.pages import make_pages
from wheelyard.site.staging import stage


def main(target: str, reports: str = "reports/verify") -> None:
    """Write the sources into `target`; `reports` is where `wheelyard verify` left its own."""
    with contextlib.closing(make_reporter("quiet", sys.stderr)) as reporter:
        context = Context(load_settings({}), reporter)
        project = context.settings.project
        stage(project, Path(target), make_pages(project, read_images(context, project / reports)))


if __name__ == "__main__":
    main(*sys.argv[1:])
