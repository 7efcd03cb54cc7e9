"""A project small enough to build in a second: real stages, small wheels, this machine's Python.

The base is made of this machine's own interpreter instead of Debian packages, and its layers are
put where a build keeps them. Everything after that is the product's own code.
"""

from __future__ import annotations

import atexit
import hashlib
import io
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from wheels import make_wheel

from wheelyard.architecture import ARCHITECTURES, ARM64
from wheelyard.console.progress import QuietReporter
from wheelyard.context import Context
from wheelyard.fetching.wanted import place
from wheelyard.images.assemble.roots import Root, RootTar
from wheelyard.images.assemble.store import LayerStore
from wheelyard.images.assemble.system import system_key
from wheelyard.images.assemble.worker import SystemJob, make_layer
from wheelyard.lock.inputs import cells_by_id, package_inputs, requirements_inputs
from wheelyard.lock.lockfile import render_requirements_lock
from wheelyard.lock.packages import render_package_lock
from wheelyard.lock.stages import Stage, load_stages
from wheelyard.model import Cell, LockedDeb, LockedWheel, PackageLock, Plan, RequirementsLock
from wheelyard.oci.blobs import StoredLayer
from wheelyard.planning.facts import OWN, dump_upstream, facts_file, load_upstream
from wheelyard.planning.plan import load_plan
from wheelyard.settings import Settings

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
MATRIX = f"""\
version: 1
axes:
  cuda: ["12.1"]
  cudnn: ["8.9"]
  framework: [pytorch 2.3.1]
  python: ["{PYTHON}"]
  base: [tiny]
  flavour: [runtime, devel]
frameworks:
  pytorch: {{title: PyTorch, distribution: torch}}
bases:
  tiny: {{suite: bookworm, python: "{PYTHON}"}}
flavours:
  runtime: {{description: small, packages: [tini], tools: [pip]}}
  devel: {{description: larger, extends: runtime, packages: [git], tools: [demo]}}
"""


@dataclass(frozen=True)
class Tiny:
    """The project, its plan, and the context to build it with."""

    folder: Path
    context: Context
    plan: Plan
    wheels: dict[str, Path]

    def cell(self, flavour: str) -> Cell:
        return next(c for c in self.plan.cells if c.flavour.name == flavour)

    def with_cache(self, folder: Path, workers: int = 2) -> Tiny:
        """The same project with an empty layer cache; its files and base are put there."""
        settings = replace(self.context.settings, cache_dir=folder, workers=workers)
        _fill_cache(self, folder)
        return replace(self, context=replace(self.context, settings=settings))


def make_both(folder: Path) -> Tiny:
    """Make the project for amd64 and arm64: libraries and Python say so in their ELF headers."""
    shutil.copytree(_template(), folder, symlinks=True, dirs_exist_ok=True)
    project = folder / "project"
    axes = "  flavour: [runtime, devel]\n"
    matrix = MATRIX.replace(axes, f"{axes}  architecture: [amd64, arm64]\n")
    (project / "matrix.yaml").write_text(matrix)
    upstream = load_upstream(facts_file(project))
    release = upstream["pytorch"]["2.3.1"]
    build = replace(release, machine="arm64")
    made = replace(release, builds={"arm64": build})
    facts = {**upstream, "pytorch": {**upstream["pytorch"], "2.3.1": made}}
    (project / OWN).write_text(dump_upstream(facts))
    for path in (folder / "wheels").iterdir():
        path.unlink()
    _wheels(folder / "wheels", ARM64.elf)  # no test runs them
    tiny = _tiny(folder)
    _write_locks(tiny)
    _fill_cache(tiny, folder / "cache")
    return tiny


def make_tiny(folder: Path) -> Tiny:
    """Write matrix, wheels, locks and a cache that has the bases into `folder`.

    Made once a process, and copied: tests change theirs.
    """
    shutil.copytree(_template(), folder, symlinks=True, dirs_exist_ok=True)
    return _tiny(folder)


@cache
def _template() -> Path:
    # Not in pytest's own folder: what is made here is for processes without one, too.
    folder = Path(tempfile.mkdtemp(prefix="wheelyard-tiny-"))
    atexit.register(_remove, folder, os.getpid())
    (folder / "project").mkdir()
    (folder / "project/matrix.yaml").write_text(MATRIX)
    _facts(folder / "project")
    _wheels(folder / "wheels")
    tiny = _tiny(folder)
    _write_locks(tiny)
    _fill_cache(tiny, folder / "cache")
    return folder


def _facts(project: Path) -> None:
    """PyTorch 2.3.1 has no wheel for a Python from 3.13 on: the project's own facts have one."""
    upstream = load_upstream()
    release = upstream["pytorch"]["2.3.1"]
    if PYTHON not in release.pythons:
        made = replace(release, pythons=(*release.pythons, PYTHON))
        facts = {**upstream, "pytorch": {**upstream["pytorch"], "2.3.1": made}}
        (project / OWN).write_text(dump_upstream(facts))


def _remove(folder: Path, owner: int) -> None:
    """Remove it with the process that made it, not with one that was forked off."""
    if os.getpid() == owner:
        shutil.rmtree(folder)


def _tiny(folder: Path) -> Tiny:
    settings = Settings(
        project=folder / "project",
        cache_dir=folder / "cache",
        index_url=None,
        debian_mirror=None,
        debian_security_mirror=None,
        ca_bundle=None,
        workers=2,
        timeout=10,
    )
    wheels = {
        path.name.split("-")[0].replace("_", "-"): path
        for path in sorted((folder / "wheels").iterdir())
    }
    return Tiny(
        settings.project,
        Context(settings, QuietReporter(None)),
        load_plan(settings.project),
        wheels,
    )


def _wheels(folder: Path, machine: int | None = None) -> list[Path]:
    folder.mkdir(exist_ok=True)
    elf = b"\x7fELF" if machine is None else b"\x7fELF" + bytes(14) + machine.to_bytes(2, "little")
    runtime = "#define CUDART_VERSION  12010\n"
    cudnn = "#define CUDNN_MAJOR 8\n#define CUDNN_MINOR 9\n#define CUDNN_PATCHLEVEL 2\n"
    nccl = "#define NCCL_MAJOR 2\n#define NCCL_MINOR 20\n#define NCCL_PATCH 5\n"
    modules = {f"torch/module_{i}.py": f"def f{i}(x):\n    return x + {i}\n" for i in range(20)}
    return [
        make_wheel(
            folder,
            "torch",
            "2.3.1",
            {
                "torch/__init__.py": "from torch.version import __version__\n",
                "torch/version.py": "__version__ = '2.3.1+cu121'\ncuda = '12.1'\n",
                "torch/broken_template.py": "def {{ not python }}\n",
                "torch/lib/libtorch.so": elf + bytes(range(256)) * 4000,
                **modules,
            },
            metadata="Requires-Dist: nvidia-cudnn-cu12==8.9.2.26\n",
        ),
        *(
            make_wheel(
                folder,
                f"nvidia_{name}_cu12",
                version,
                {
                    "nvidia/__init__.py": "",
                    f"nvidia/{name}/__init__.py": "",
                    f"nvidia/{name}/include/{header}": text,
                    f"nvidia/{name}/lib/{library}": elf + name.encode() * 1000,
                },
            )
            for name, version, header, text, library in (
                ("cuda_runtime", "12.1.105", "cuda_runtime_api.h", runtime, "libcudart.so.12"),
                ("cudnn", "8.9.2.26", "cudnn_version.h", cudnn, "libcudnn.so.8"),
                ("nccl", "2.20.5", "nccl.h", nccl, "libnccl.so.2"),
            )
        ),
        make_wheel(
            folder,
            "pip",
            "26.0",
            {"pip/__init__.py": "", "pip/tests/test_pip.py": "assert True\n"},
            extra={"pip-26.0.dist-info/entry_points.txt": "[console_scripts]\npip = pip:main\n"},
        ),
        make_wheel(folder, "demo", "1.0", metadata="Requires-Dist: torch>=2\n"),
    ]


def locked(path: Path) -> LockedWheel:
    """The lock's line for a wheel on disk."""
    name, version = path.name.split("-")[:2]
    data = path.read_bytes()
    return LockedWheel(
        name.replace("_", "-"), version, path.name, hashlib.sha256(data).hexdigest(), len(data)
    )


def write_lock(tiny: Tiny, cell: Cell, wheels: list[Path]) -> None:
    """Write the requirements lock of `cell`."""
    inputs = requirements_inputs(cell, cells_by_id(tiny.plan.cells))
    pins = sorted(map(locked, wheels), key=lambda wheel: wheel.name)
    lock = RequirementsLock(cell.id, inputs, tuple(pins))
    target = tiny.folder / cell.lock
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(render_requirements_lock(lock))


def _package_lock(tiny: Tiny, cell: Cell) -> PackageLock:
    names = sorted({f"python{PYTHON}", *cell.flavour.packages})
    other = "" if cell.architecture == "amd64" else cell.architecture
    debs = tuple(
        LockedDeb(
            name, "1.0", other or "all", hashlib.sha256(f"{name}{other}".encode()).hexdigest(), 1,
            "debian", f"pool/{name}_1.0_{other or 'all'}.deb",
        )
        for name in names
    )  # fmt: skip
    inputs = package_inputs(cell, cells_by_id(tiny.plan.cells))
    return PackageLock(cell.base.full_name, cell.flavour.name, cell.base.suite, inputs, debs)


def _write_locks(tiny: Tiny) -> None:
    for cell in tiny.plan.cells:
        below = [path for name, path in tiny.wheels.items() if name != "demo"]
        extra = [tiny.wheels["demo"]] if cell.parent else []
        write_lock(tiny, cell, [*below, *extra])
        target = tiny.folder / cell.base_lock
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(render_package_lock(_package_lock(tiny, cell)))


def _fill_cache(tiny: Tiny, cache: Path) -> None:
    for path in tiny.wheels.values():
        put_wheel(cache, path)
    store = LayerStore(cache)
    with tempfile.TemporaryDirectory() as folder:
        for cell in tiny.plan.cells:
            stages = load_stages(cell, tiny.plan, tiny.folder)
            store_base(store, stages, [write_root(stage, Path(folder)) for stage in stages])


def store_base(store: LayerStore, stages: Sequence[Stage], roots: Sequence[Root]) -> StoredLayer:
    """Make the base's layer of the last stage as a build does, from the roots of all."""
    last = len(stages) - 1
    job = SystemJob(
        key=system_key(stages, last),
        title="tiny",
        root=roots[last],
        below=roots[last - 1] if last else None,
        python=PYTHON,
        scratch=store.scratch(),
        weight=0,
    )
    return store.add(job.key, job.scratch, make_layer(job))


def put_wheel(cache: Path, path: Path) -> Path:
    """Put a wheel where `fetch` would."""
    target = place(cache / "files", locked(path).sha256, path.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(path.read_bytes())
    return target


def write_root(stage: Stage, folder: Path) -> RootTar:
    """A flavour's root file system, as if mmdebstrap had made it."""
    target = folder / f"{stage.cell.flavour.name}-{stage.cell.architecture}.tar"
    files: dict[str, bytes] = {
        "etc/passwd": b"root:x:0:0:root:/root:/bin/bash\n",
        "etc/group": b"root:x:0:\n",
        "etc/shadow": b"root:*:19000:0:99999:7:::\n",
        "etc/gshadow": b"root:*::\n",
        "etc/hostname": b"this-machine\n",
        "etc/skel/.bashrc": b"# shell\n",
        "var/log/dpkg.log": b"today\n",
    }
    if stage.cell.parent:
        files["usr/bin/git"] = b"\x7fELFgit"
        files["etc/group"] += b"_ssh:x:101:\n"
    base = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    stdlib = Path(sysconfig.get_path("stdlib"))
    names = list(stdlib.glob("*.py"))
    for package in _PACKAGES:
        names += (stdlib / package).rglob("*.py")
    names += [p for p in (stdlib / "lib-dynload").glob("*.so") if p.name.split(".")[0] in _NEEDED]
    for path in names:
        files[f"usr/lib/python{PYTHON}/{path.relative_to(stdlib)}"] = path.read_bytes()
    activate = stdlib / "venv/scripts/common/activate"
    files[f"usr/lib/python{PYTHON}/venv/scripts/common/activate"] = activate.read_bytes()
    libraries = {lib for p in (base, *names) if p == base or p.suffix == ".so" for lib in _ldd(p)}
    for library in libraries:
        files[f"lib/x86_64-linux-gnu/{library.name}"] = library.read_bytes()
    with tarfile.open(target, "w") as archive:
        for name, content in sorted(files.items()):
            _add(archive, name, content, 0o755 if name.startswith("lib") else 0o644)
        program = bytearray(base.read_bytes())
        program[18:20] = ARCHITECTURES[stage.cell.architecture].elf.to_bytes(2, "little")
        _add(archive, f"usr/bin/python{PYTHON}", bytes(program), 0o755)
        loader = tarfile.TarInfo("lib64/ld-linux-x86-64.so.2")  # an absolute link, as Debian's is
        loader.type, loader.linkname = tarfile.SYMTYPE, "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
        archive.addfile(loader)
    return RootTar(target, "deb [trusted=yes] file:/nowhere tiny main\n")


# Extension modules that zipfile, json and their imports need.
# pathlib is a folder from Python 3.13 on, string and compression from 3.14.
_PACKAGES = (
    "collections", "compression", "encodings", "importlib", "json", "pathlib", "re", "string",
    "urllib", "zipfile",
)  # fmt: skip
_NEEDED = {"_bisect", "_datetime", "_json", "_random", "_sha512", "_struct", "binascii", "math"}
_NEEDED |= {"zlib"}


def _add(archive: tarfile.TarFile, path: str, content: bytes, mode: int) -> None:
    info = tarfile.TarInfo(path)
    info.size, info.mode, info.mtime = len(content), mode, 1_600_000_000
    archive.addfile(info, io.BytesIO(content))


def _ldd(program: Path) -> list[Path]:
    result = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False)
    words = (word for line in result.stdout.splitlines() for word in line.split())
    return [Path(word) for word in words if word.startswith("/")]
