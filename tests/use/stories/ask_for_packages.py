"""Ask pip or uv what it would install for popular packages: nothing that makes the image changes.

Neither fetches a whole wheel for that, also where the index has no metadata apart from the wheels:
beside TensorFlow, six of the ten would fetch PyTorch and its CUDA.

python ask_for_packages.py pip PACKAGE...
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import distributions

CELL = re.compile(r"torch|triton|tensorflow|nvidia-(?!ml-py).*")


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def by_pip(package: str) -> dict[str, str]:
    """Version by name of what pip would install."""
    options = ("--dry-run", "--use-feature=fast-deps", "--quiet", "--report=-")
    said = run("pip", "install", *options, package)
    found = [item["metadata"] for item in json.loads(said)["install"]]
    return {normalized(item["name"]): item["version"] for item in found}


def by_uv(package: str) -> dict[str, str]:
    """Version by name of what uv would install; it says so on standard error."""
    said = run("uv", "pip", "install", "--dry-run", "--color=never", package)
    found = re.findall(r"^ \+ ([^=\s]+)==(\S+)", said, re.MULTILINE)
    return {normalized(name): version for name, version in found}


def run(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}:\n{done.stderr}")
    return done.stdout or done.stderr


ask = {"pip": by_pip, "uv": by_uv}[sys.argv[1]]
here = {normalized(x.metadata["Name"]): x.version for x in distributions()}
wrong = []
for package in sys.argv[2:]:
    wanted = ask(package)
    print(package, "would bring", wanted, flush=True)
    changed = {x: y for x, y in wanted.items() if x in here and CELL.fullmatch(x)}
    wrong += [f"{package}: {x} {here[x]} -> {y}" for x, y in changed.items()]
assert not wrong, wrong
