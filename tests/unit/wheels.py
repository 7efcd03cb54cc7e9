"""Small wheels, well-formed and hostile, made on the fly."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

Files = Mapping[str, bytes | str]


def make_wheel(
    folder: Path,
    name: str = "demo",
    version: str = "1.0",
    files: Files | None = None,
    *,
    metadata: str = "",
    extra: Files | None = None,
    method: int = zipfile.ZIP_DEFLATED,
    executable: frozenset[str] = frozenset(),
) -> Path:
    """A wheel of `files`; `extra` adds or replaces members, its own metadata included."""
    info = f"{name}-{version}.dist-info"
    members: dict[str, bytes | str] = {
        **(files if files is not None else {f"{name}/__init__.py": f"VERSION = {version!r}\n"}),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\n",
        **(extra or {}),
    }
    record = f"{info}/RECORD"
    members.setdefault(record, "".join(f"{path},,\n" for path in [*members, record]))
    target = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(target, "w") as archive:
        for path, content in members.items():
            entry = zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0))
            entry.compress_type = method
            entry.external_attr = (0o100744 if path in executable else 0o100644) << 16
            archive.writestr(entry, content)
    return target
