"""Install small packages, use them, and remove them; what makes the image stays what it was.

python install.py pip
"""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distributions

PACKAGES = ("einops", "humanize")
INSTALL = {"pip": ["pip", "install", "--quiet"], "uv": ["uv", "pip", "install"]}[sys.argv[1]]
REMOVE = {"pip": ["pip", "uninstall", "--quiet", "--yes"], "uv": ["uv", "pip", "uninstall"]}
USE = "import einops, humanize; print(humanize.intcomma(1234567))"


def listing() -> dict[str, str]:
    return {x.metadata["Name"]: x.version for x in distributions()}


before = listing()
subprocess.run([*INSTALL, *PACKAGES], check=True)
brought = listing()
assert set(PACKAGES) == {name.lower() for name in brought.keys() - before.keys()}, brought
assert before.items() <= brought.items()
used = subprocess.run([sys.executable, "-c", USE], check=True, capture_output=True, text=True)
assert used.stdout.strip() == "1,234,567", used
subprocess.run([*REMOVE[sys.argv[1]], *PACKAGES], check=True)
assert listing() == before
print("installed and removed", *PACKAGES)
