"""Builds a wheel of a source tree by its own build backend (PEP 517); runs confined, in an image.

Uses the standard library only. Its one argument is JSON: {"task": "requires" or "wheel", "source":
folder, "out": folder, "backend": "module:object", "path": folders of the tree to import it from}.
"requires" writes requires.json, what the backend needs beside what pyproject.toml names; "wheel"
writes the wheel.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Do the task."""
    job: dict[str, Any] = json.loads(sys.argv[1])
    own = str(Path(__file__).parent)
    sys.path[:] = [path for path in sys.path if path not in ("", own)]
    os.chdir(job["source"])
    sys.path[:0] = [os.path.abspath(path) for path in job["path"]]  # noqa: PTH100
    name, _, attribute = job["backend"].partition(":")
    backend: Any = importlib.import_module(name)
    for part in attribute.split(".") if attribute else ():
        backend = getattr(backend, part)
    out = Path(job["out"])
    if job["task"] == "wheel":
        backend.build_wheel(str(out), None, None)
        return
    ask = getattr(backend, "get_requires_for_build_wheel", None)
    found = [str(line) for line in ask(None)] if ask else []
    (out / "requires.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
