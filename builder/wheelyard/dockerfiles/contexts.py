"""The contexts of builds: a Dockerfile, and what it copies."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import PurePosixPath

from wheelyard.contract.paths import LOCK, WHEELYARD
from wheelyard.contract.users import SCRIPTS
from wheelyard.images.assemble.final_layer import base_files
from wheelyard.lock.lockfile import render_requirements_lock
from wheelyard.model import RequirementsLock
from wheelyard.rendering.bakefile import DOCKERFILE

_PACKAGE = "builder/wheelyard"  # in a project, which a Dockerfile may be built from by hand


def image_context(dockerfile: bytes, lock: RequirementsLock) -> bytes:
    """Return the context of an image's Dockerfile, a tar: itself, and the lock of its wheels."""
    text = render_requirements_lock(lock)
    return _pack({DOCKERFILE: dockerfile, PurePosixPath(LOCK).name: text.encode()})


def pinned_context(dockerfile: bytes) -> bytes:
    """Return the context of a base's Dockerfile, a tar: itself, selfcheck, and the scripts."""
    files = base_files()
    selfcheck = {
        f"{_PACKAGE}/{path.removeprefix(f'{WHEELYARD}/')}": content
        for path, (content, _mode) in files.items()
        if path.startswith(f"{WHEELYARD}/selfcheck/")
    }
    scripts = {
        f"{_PACKAGE}/data/{source}": files[f"{WHEELYARD}/{name}"][0]
        for source, name in SCRIPTS.items()
    }
    return _pack({DOCKERFILE: dockerfile, **selfcheck, **scripts})


def _pack(files: Mapping[str, bytes]) -> bytes:
    """Make a tar that any builder recognises: BuildKit looks for a plain header at its start."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o644
            tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()
