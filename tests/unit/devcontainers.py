"""devcontainer.json and the label `devcontainer.metadata`, read and held against the schema."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from jsonschema import Draft201909Validator

SCHEMA = Path(__file__).parent / "data" / "devcontainer" / "devContainer.base.schema.json"
_EXTENSION = re.compile(r"[a-z0-9-]+\.[a-z0-9-]+")


def read_config(text: str) -> dict[str, Any]:
    """JSON with whole-line comments, the only kind that we write."""
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("//"))
    return dict(json.loads("\n".join(lines)))


def problems(config: dict[str, Any]) -> list[str]:
    """What the schema says of a configuration, and of the one part that it does not look into."""
    validator = Draft201909Validator(json.loads(SCHEMA.read_text()))
    found = [error.message for error in validator.iter_errors(config)]
    editor = config.get("customizations", {}).get("vscode", {})
    extensions = editor.get("extensions", [])
    if not isinstance(extensions, list):
        return [*found, "extensions is no list"]
    found += [f"{name} is no id" for name in extensions if not _EXTENSION.fullmatch(name)]
    return found
