"""What programs expect of the user they run as: a name, a home, caches, git."""

from __future__ import annotations

import getpass
import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

name, home = getpass.getuser(), Path.home()
assert name, "getpass finds no name"
assert home != Path("/"), "the home is /"
with tempfile.NamedTemporaryFile(dir=home, prefix=".probe"):
    pass
cache = home / ".cache" / "probe"
cache.mkdir(parents=True)
cache.rmdir()

if importlib.util.find_spec("matplotlib"):
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    pyplot.plot([1, 2, 3])
    pyplot.savefig("plot.png")
    assert os.access(matplotlib.get_cachedir(), os.W_OK)
    assert home in Path(matplotlib.get_cachedir()).parents, matplotlib.get_cachedir()

if importlib.util.find_spec("datasets"):
    import datasets

    rows = datasets.Dataset.from_generator(lambda: ({"x": number} for number in range(3)))
    assert rows["x"][:] == [0, 1, 2]
    assert rows.cache_files, "Datasets kept nothing in its cache"

if shutil.which("git") and Path(".git").exists():
    said = subprocess.run(["git", "status", "--short"], check=False, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert "committed.txt" not in said.stdout, said.stdout

print(f"{name} is at home in {home}")
