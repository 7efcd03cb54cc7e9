"""podman's storage in Debian trixie, told to fetch only the files that it lacks."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.engines.daemons import ALONE, ENTER


class Partial:
    """skopeo of Debian trixie with podman's storage, told to fetch only what is not there."""

    def __init__(self, root: Path, folder: Path, registry_log: Path) -> None:
        self._log = registry_log
        self._enter = [*ALONE, "sh", "-e", "-c", ENTER, "enter", str(root), str(folder)]
        folder.mkdir()
        (folder / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        (folder / "storage.conf").write_text(
            '[storage]\ndriver = "overlay"\nrunroot = "/mnt/run"\ngraphroot = "/mnt/storage"\n'
            '[storage.options.pull_options]\nenable_partial_images = "true"\n'
        )

    def pull(self, name: str) -> tuple[subprocess.CompletedProcess[str], dict[str, int]]:
        """Pull an image; the bytes that the registry sent of each blob."""
        before = self._log.stat().st_size
        argv = ["skopeo", "--debug", "--policy=/mnt/policy.json", "copy", "--src-tls-verify=false"]
        argv += [f"docker://{name}", f"containers-storage:{name}"]
        environment = ["env", "CONTAINERS_STORAGE_CONF=/mnt/storage.conf"]
        done = subprocess.run(
            [*self._enter, *environment, *argv], check=False, capture_output=True, text=True
        )
        sent: dict[str, int] = {}
        log = self._log.read_text()[before:]
        for digest, size in re.findall(r'/blobs/(\S+) HTTP/1\.1" 20[06] (\d+)', log):
            sent[digest] = sent.get(digest, 0) + int(size)
        return done, sent
