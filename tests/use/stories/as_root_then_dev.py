"""Look, as the image's own user, at what root has installed before; nothing may be in the way."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from pathlib import Path

site = Path(sysconfig.get_path("purelib"))
(folder,) = site.glob("humanize-4.9.0.dist-info")
print(folder, oct(folder.stat().st_mode), folder.stat().st_uid, folder.stat().st_gid)
for options in (["--upgrade"], []):
    command = ["pip", "install", "--quiet", *options, "humanize"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "~" not in done.stderr, done.stderr
left = [path.name for path in site.iterdir() if path.name.startswith("~")]
assert not left, left
assert not list(site.glob("humanize-4.9.0.dist-info"))
subprocess.run(["pip", "uninstall", "--quiet", "--yes", "humanize"], check=True)
assert os.access(site, os.W_OK)
print("dev changed what root had installed")
