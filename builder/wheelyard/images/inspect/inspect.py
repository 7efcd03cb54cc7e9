"""Reads a built image back and compares it with its cell.

Nothing relies on what the build intended: versions come from the files in the layers, the user from
/etc/passwd, the configuration from the config blob.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

from wheelyard.architecture import ARCHITECTURES, DEFAULT, Architecture
from wheelyard.contract.paths import GID, GROUP, UID, USER, VENV, site_packages
from wheelyard.errors import InspectError
from wheelyard.frameworks.known import FRAMEWORKS
from wheelyard.images.assemble.accounts import PRIVILEGES
from wheelyard.images.inspect.distributions import dependency_problems, installed, overridden
from wheelyard.images.inspect.tree import LayerContents, Tree, describe, folder_problems
from wheelyard.oci.reindex import reindex
from wheelyard.planning.facts import CPU, NONE

if TYPE_CHECKING:
    from wheelyard.layers.toc import Entry
    from wheelyard.model import Cell, RequirementsLock
    from wheelyard.oci.layout import Layout


@dataclass(frozen=True, slots=True)
class Finding:
    """One property of the image: its expected and its actual value."""

    name: str
    expected: str
    seen: str

    @property
    def ok(self) -> bool:
        """Whether the actual value is the expected one."""
        return self.expected == self.seen


def inspect_image(
    cell: Cell, lock: RequirementsLock, config: Mapping[str, Any], tree: Tree
) -> tuple[Finding, ...]:
    """Check every property, in a fixed order; `config` is the image config as JSON."""
    site = site_packages(cell.python)
    findings = [
        Finding(pin.name, pin.version, framework_version(pin.name, tree, site))
        for pin in cell.frameworks
    ]
    findings += [
        _cuda_set("CUDA", cell.cuda, _cuda, tree, site),
        _cuda_set("cuDNN", cell.cudnn, _cudnn, tree, site),
        _nccl(lock, tree, site),
        one_cuda(tree, site),
        distributions({(w.name, w.version) for w in lock.wheels}, tree, site),
        _dependencies(cell, tree, site),
        Finding("user", f"{USER}:{UID}:{UID}", _account(tree, "etc/passwd", USER)),
        Finding("group", f"{GROUP}:{GID}:{USER}", _account(tree, "etc/group", GROUP)),
        Finding("environment", f"0:{GID} 2775", _folder(tree, VENV)),
        Finding("site-packages", f"0:{GID} 2775", _folder(tree, site)),
        folders(tree),
        _privileges(cell, tree),
        Finding("runs as", str(UID), str(config["config"]["User"])),
    ]
    if cell.architecture != DEFAULT.name:  # what the default's images hold, this machine runs
        findings.append(_architecture(cell, config, tree, site))
    return tuple(findings)


def require(image: str, findings: tuple[Finding, ...]) -> None:
    """Raise InspectError with expected and actual value of every wrong property."""
    wrong = [f for f in findings if not f.ok]
    if wrong:
        lines = "\n".join(
            f"  {f.name}: expected {f.expected or 'nothing'!r}, the image has {f.seen!r}"
            for f in wrong
        )
        raise InspectError(f"{image} does not match its cell:\n{lines}")


def framework_version(name: str, tree: Tree, site: str) -> str:
    """Return the version of a framework, as the first of its files that states one does."""
    places = FRAMEWORKS[name].version
    for stated in places:
        if found := stated.find(tree.text(f"{site}/{stated.file}")):
            return found
    raise InspectError(f"the image's {places[-1].file} does not state a version as expected")


def _header(tree: Tree, site: str, folder: str, name: str) -> str:
    """Return the path of a C header: `nvidia/<folder>/include` up to CUDA 12, one tree after."""
    for path in (f"{site}/nvidia/{folder}/include/{name}", f"{site}/nvidia/cu13/include/{name}"):
        if path in tree:
            return tree.text(path)
    raise InspectError(f"the image has no {name}: a CUDA set with {folder} is not installed")


def _cuda_set(
    name: str, expected: str, read: Callable[[Tree, str], str], tree: Tree, site: str
) -> Finding:
    """Check a part of the CUDA set, or its absence in a build without CUDA."""
    if expected not in (CPU, NONE):
        return _component(name, expected, read(tree, site))
    there = any(e.path.startswith(f"{site}/nvidia/") and ".so" in e.path for e in tree)
    return Finding(name, expected, "libraries of NVIDIA's" if there else expected)


def _dependencies(cell: Cell, tree: Tree, site: str) -> Finding:
    """Run `pip check`: only upstream's pins that the cell overrides may be violated."""
    expected = overridden(tree, site, cell.python, cell.overrides, cell.architecture)
    seen = dependency_problems(tree, site, cell.python, cell.architecture)
    return Finding("pip check", "; ".join(expected), "; ".join(seen))


def _cuda(tree: Tree, site: str) -> str:
    header = _header(tree, site, "cuda_runtime", "cuda_runtime_api.h")
    code = int(_search(r"#define CUDART_VERSION\s+(\d+)", header, "CUDART_VERSION"))
    return f"{code // 1000}.{code % 1000 // 10}"


def _cudnn(tree: Tree, site: str) -> str:
    header = _header(tree, site, "cudnn", "cudnn_version.h")
    names = ("CUDNN_MAJOR", "CUDNN_MINOR", "CUDNN_PATCHLEVEL")
    return ".".join(_search(rf"#define {n}\s+(\d+)", header, n) for n in names)


def _nccl(lock: RequirementsLock, tree: Tree, site: str) -> Finding:
    """Compare the header's version with the locked wheel's: cells do not name NCCL."""
    locked = [w.version for w in lock.wheels if w.name.startswith("nvidia-nccl")]
    if not locked:
        return Finding("NCCL", "", "")
    header = _header(tree, site, "nccl", "nccl.h")
    names = ("NCCL_MAJOR", "NCCL_MINOR", "NCCL_PATCH")
    return Finding(
        "NCCL", locked[0], ".".join(_search(rf"#define {n}\s+(\d+)", header, n) for n in names)
    )


def _component(name: str, expected: str, seen: str) -> Finding:
    """Compare versions part by part; `expected` may be shorter than the actual version."""
    depth = expected.count(".") + 1
    same = seen.split(".")[:depth] == expected.split(".")
    return Finding(name, expected, expected if same else seen)


_FOREIGN = re.compile(r"amd64|x86|i386")
# A wheel that auditwheel or its own build repaired has a hash in the name of a copied library.
_REPAIRED = re.compile(r"[-.][0-9a-f]{8}(?=\.so)")
_CUDA_LIBRARY = re.compile(
    r"lib(cuda|cudart|cudnn|cublas|cufft|cufile|cupti|curand|cusolver|cusparse|nccl|nvJitLink"
    r"|nvrtc|nvToolsExt|nvshmem|nvblas)[^/]*\.so[.\d]*"
)


# Copies that a wheel keeps for itself, under a path or name that nothing else loads: Triton's
# profiler brings its CUPTI since Triton 3.1, in `cupti` and later in `cupti-blackwell` too;
# torchvision's decoder of pictures has nvJPEG, and the CUDA runtime that this was built with.
PRIVATE_COPIES = ("triton/backends/nvidia/lib/cupti", "torchvision.libs/")


def one_cuda(tree: Tree, site: str) -> Finding:
    """Require that no library of the CUDA set exists under two paths, whatever the versions."""
    places: dict[str, list[str]] = defaultdict(list)
    for entry in tree:
        name = _REPAIRED.sub("", entry.path.rpartition("/")[2])
        if entry.path.partition(f"{site}/")[2].startswith(PRIVATE_COPIES):
            continue
        if entry.kind == "file" and _CUDA_LIBRARY.fullmatch(name) and "/stubs/" not in entry.path:
            places[name.partition(".so")[0]].append(entry.path)
    twice = sorted(" and ".join(sorted(p)) for p in places.values() if len(p) > 1)
    return Finding("one CUDA set", "", "; ".join(twice))


def distributions(expected: AbstractSet[tuple[str, str]], tree: Tree, site: str) -> Finding:
    """Require that exactly these names and versions are installed."""
    seen = {(canonicalize_name(d.name), d.version) for d in installed(tree, site)}
    missing = sorted(f"{n} {v} missing" for n, v in expected - seen)
    extra = sorted(f"{n} {v} not in the lock" for n, v in seen - expected)
    return Finding("distributions", "", "; ".join(missing + extra))


def _architecture(cell: Cell, config: Mapping[str, Any], tree: Tree, site: str) -> Finding:
    """Require one architecture of the config, of every wheel's tags, of Python and libraries."""
    machine = ARCHITECTURES[cell.architecture]
    found = [] if config["architecture"] == machine.name else ["the config"]
    found += foreign_binaries(machine, cell.python, tree, site, tree)
    first, *more = sorted(found) or [machine.name]
    return Finding("architecture", machine.name, first + (f" and {len(more)} more" if more else ""))


def foreign_binaries(
    machine: Architecture, python: str, tree: Tree, site: str, entries: Iterable[Entry]
) -> list[str]:
    """Return the wheels, libraries and Pythons among `entries` that are for another machine."""
    # Tags that name no machine are not judged: NVIDIA's cuSPARSELt says sbsa for arm64.
    others = tuple(x.machine for x in ARCHITECTURES.values() if x is not machine)
    found = []
    for entry in entries:
        folder, _, name = entry.path.rpartition("/")
        if name == "WHEEL" and folder.startswith(site) and folder.endswith(".dist-info"):
            tags = re.findall(r"(?m)^Tag: .*-(.+?)\s*$", tree.text(entry.path))
            if not any(tag.endswith(("any", machine.machine)) for tag in tags):
                found += [entry.path] * any(tag.endswith(others) for tag in tags)
        elif entry.kind == "file" and _is_program(entry.path, python, site):
            head = tree.head(entry.path)
            if head[:4] == b"\x7fELF" and int.from_bytes(head[18:20], "little") != machine.elf:
                found.append(entry.path)
    return found


def _is_program(path: str, python: str, site: str) -> bool:
    """Tell whether a file is Python itself, or a library that is not named after another machine.

    debugpy brings its helper for every machine.
    """
    library = path.startswith(site) and ".so" in path and not _FOREIGN.search(path)
    return library or path == f"usr/bin/python{python}"


def _account(tree: Tree, path: str, name: str) -> str:
    """Return name, first number, and group or members, as in /etc/passwd and /etc/group."""
    lines = (line.split(":") for line in tree.text(path).splitlines())
    return next((f"{f[0]}:{f[2]}:{f[3]}" for f in lines if f[0] == name), f"no {name} in /{path}")


def _folder(tree: Tree, path: str) -> str:
    return describe(tree.entry(path))


def folders(tree: Tree) -> Finding:
    """Require in every layer the folders above its files, as the layers below have them."""
    first, *others = folder_problems(tree.layers, VENV) or [""]
    more = f" (and {len(others)} more)" if others else ""
    return Finding("parent folders", "", first + more)


def _privileges(cell: Cell, tree: Tree) -> Finding:
    """Require that no program changes its user; a registry's image keeps its own."""
    privileged = [
        entry.path
        for entry in tree
        if entry.kind in ("file", "hardlink") and entry.mode & PRIVILEGES
    ]
    seen = "" if cell.base.image is not None else ", ".join(sorted(privileged)[:5])
    return Finding("setuid programs", "", seen)


def _search(pattern: str, text: str, what: str) -> str:
    match = re.search(pattern, text)
    if not match:
        raise InspectError(f"the image's {what} does not state a version as expected")
    return match.group(1)


def inspect_layout_image(
    cell: Cell,
    lock: RequirementsLock,
    layout: Layout,
    manifest: str,
    on_bytes: Callable[[int], None],
) -> tuple[Finding, ...]:
    """Inspect an image from its blobs alone; each one is hashed and read to its end.

    `manifest` is a digest. Raises StorageError for a blob that is missing or damaged.
    """
    content, config = layout.read_image(manifest)
    layers = [
        LayerContents(
            layout.blob(layer["digest"]),
            reindex(layout.blob(layer["digest"]), layer["digest"], diff_id, on_bytes),
            history["created_by"],
            from_wheels=False,
        )
        for layer, diff_id, history in zip(
            content["layers"], config["rootfs"]["diff_ids"], config["history"], strict=True
        )
    ]
    return inspect_image(cell, lock, config, Tree(layers))
