"""Looks at a folder: what its files say about the image that the project needs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from wheelyard.errors import ProjectError
from wheelyard.frameworks import known
from wheelyard.projects.requirements import logical_lines, read_requirements, uv_packages
from wheelyard.projects.table import PYPROJECT, read_text, read_toml

FRAMEWORKS = {one.wheel: name for name, one in known.FRAMEWORKS.items()}  # wheel -> in tags
_CONDA = {name: one.wheel for one in known.FRAMEWORKS.values() for name in one.conda}
_SIDE = re.compile(r"dev|test|doc|lint|ci|build|example|optional|extra", re.IGNORECASE)
_FROM = re.compile(r"^\s*FROM\s+(?:--\S+\s+)*(\S+)", re.IGNORECASE | re.MULTILINE)
_CUDA = re.compile(r"nvidia/cuda:(\d+\.\d+)")
_NGC = re.compile(rf"nvcr\.io/nvidia/({'|'.join(FRAMEWORKS.values())}):")
_BUILD = re.compile(r"[+/]cu(\d\d)(\d)\b")  # 2.3.1+cu121, download.pytorch.org/whl/cu121
# What declares dependencies in code, or in a format of its own.
_UNREAD = ("setup.py", "setup.cfg", "Pipfile", "conda.y*ml", "pixi.toml", "requirements/*.txt")
_APT = re.compile(r"apt(?:-get)?\s+(?:-\S+\s+)*install\s+([^&|;]*)")
_DEBIAN = re.compile(r"[a-z0-9][a-z0-9.+-]+")


@dataclass
class Seen:
    """What was found, and where."""

    requirements: list[str] = field(default_factory=list)  # files for the table
    new_file: tuple[str, str] | None = None  # a requirements file to write: name, text
    wanted: dict[str, SpecifierSet] = field(default_factory=dict)  # framework's distribution
    cuda: str | None = None
    python: SpecifierSet = field(default_factory=SpecifierSet)
    # Conda's own Python, which it installs: taken if there is an image with it.
    conda_python: SpecifierSet = field(default_factory=SpecifierSet)
    extras: list[str] = field(default_factory=list)
    command: tuple[str, ...] | None = None
    ports: list[int] = field(default_factory=list)
    apt: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    declared: bool = False  # whether dependencies were found in what is read


def look(folder: Path) -> Seen:
    """Read the files that say what a project needs; raise ProjectError for a malformed one."""
    seen = Seen()
    path = folder / PYPROJECT
    data = read_toml(path) if path.is_file() else {}
    project = data.get("project") if isinstance(data.get("project"), dict) else None
    if project is not None:
        _project(project, seen)
    if project is None or not project.get("dependencies"):
        _requirements(folder, data, seen)
    if not seen.requirements and project is None:
        _environment(folder, seen)
    if not seen.declared:
        _undeclared(folder, data, seen)
    _uv_lock(folder, seen)
    _dockerfile(folder, seen)
    return seen


def _project(project: dict[str, Any], seen: Seen) -> None:
    lines = project.get("dependencies", [])
    for line in lines if isinstance(lines, list) else []:
        _line(str(line), seen, "pyproject.toml")
    if lines:
        seen.declared = True
        seen.reasons.append("dependencies: those of [project] in pyproject.toml")
    extras = project.get("optional-dependencies")
    seen.extras = [str(name) for name in extras] if isinstance(extras, dict) else []
    if python := project.get("requires-python"):
        try:
            seen.python = SpecifierSet(str(python))
        except InvalidSpecifier as error:
            raise ProjectError(f"pyproject.toml: project.requires-python: {error}") from error


def _requirements(folder: Path, data: dict[str, Any], seen: Seen) -> None:
    """Choose requirements files: requirements.txt, else those that are not for developers."""
    if "tool" in data and "setuptools" in str(data["tool"]) and "dynamic" in str(data["tool"]):
        seen.declared = True
        seen.reasons.append("dependencies: the files that setuptools reads them from")
        return
    there = sorted(path.name for path in folder.glob("requirements*.txt"))
    if not there and (folder / "requirements.in").is_file():
        there = ["requirements.in"]
    chosen = [name for name in there if name in ("requirements.txt", "requirements.in")]
    chosen = chosen or [name for name in there if not _SIDE.search(name)]
    left = [name for name in there if name not in chosen]
    for name in chosen:
        for _, line in logical_lines(read_requirements(folder / name, name)):
            _line(line, seen, name)
    seen.requirements = chosen
    if chosen:
        seen.declared = True
        also = f"; left out: {', '.join(left)}" if left else ""
        seen.reasons.append(f"requirements: found here{also}")


def _undeclared(folder: Path, data: dict[str, Any], seen: Seen) -> None:
    """Say where dependencies are declared that are not read: the image would lack all of them."""
    there = [
        path.relative_to(folder).as_posix()
        for pattern in _UNREAD
        for path in sorted(folder.glob(pattern))
        if path.is_file()
    ]
    tables = data.get("tool") if isinstance(data.get("tool"), dict) else {}
    if isinstance(tables, dict) and "poetry" in tables:
        there.append("[tool.poetry] in pyproject.toml")
    project = data.get("project")
    if isinstance(project, dict) and "dependencies" in str(project.get("dynamic")):
        there.append("pyproject.toml's dynamic dependencies")
    if there:
        seen.reasons.append(
            f"NO dependencies are taken: {', '.join(there)} cannot be read; write what the project "
            "needs into requirements.txt, and add to the table: requirements = "
            '["requirements.txt"]'
        )
    else:
        seen.reasons.append("no dependencies were found: the image adds the code alone")


def _line(line: str, seen: Seen, where: str) -> None:
    """Note what a requirement says of a framework or its CUDA."""
    if build := _BUILD.search(line):
        seen.cuda = seen.cuda or f"{build[1]}.{build[2]}"
    try:
        found = Requirement(re.sub(r"\s--hash.*", "", line))
    except InvalidRequirement:
        return
    name = canonicalize_name(found.name)
    if (wheel := _CONDA.get(name)) and name not in FRAMEWORKS:
        seen.reasons.append(f"{where}: {name} installs nothing from PyPI; write {wheel} instead")
        name = canonicalize_name(wheel)
    if name in FRAMEWORKS:
        public = ",".join(re.sub(r"\+[\w.]+", "", str(one)) for one in found.specifier)
        seen.wanted[name] = seen.wanted.get(name, SpecifierSet()) & SpecifierSet(public)
        seen.reasons.append(f"{where} asks for {line}")


def _environment(folder: Path, seen: Seen) -> None:
    """Take the pip part of conda's environment.yml as a requirements file."""
    path = next(filter(Path.is_file, (folder / f"environment.{x}" for x in ("yml", "yaml"))), None)
    if path is None:
        return
    try:
        data = yaml.safe_load(read_text(path))
    except (yaml.YAMLError, RecursionError) as error:
        raise ProjectError(f"{path} is not valid YAML: {error}") from error
    listed = data.get("dependencies") if isinstance(data, dict) else None
    pip: list[str] = []
    conda: list[str] = []
    for item in listed if isinstance(listed, list) else []:
        if isinstance(item, dict):
            pip += [str(line) for line in item.get("pip") or ()]
        else:
            conda.append(str(item).rpartition("::")[2])
    for line in pip:
        _line(line, seen, path.name)
    others = [name for item in conda if (name := _conda(item, seen))]
    if pip:
        name = "requirements.txt"
        seen.new_file = (name, "".join(f"{line}\n" for line in pip))
        seen.requirements = [name]
        seen.declared = True
        seen.reasons.append(f"requirements: {name} is written from the pip part of {path.name}")
    if others:
        seen.reasons.append(
            f"{path.name}: conda's {', '.join(others)} are not taken; add to requirements.txt what "
            "the image lacks"
        )


def _conda(item: str, seen: Seen) -> str | None:
    """Note the framework, CUDA or Python of a conda package; return the name of any other."""
    name, _, version = re.sub(r"\s", "", item).replace("==", "=").partition("=")
    version = version.partition("=")[0].removesuffix(".*")
    exact = re.fullmatch(r"\d+(\.\d+)*", version)
    if name in _CONDA:
        seen.wanted[_CONDA[name]] = SpecifierSet(f"=={version}.*" if exact else "")
        seen.reasons.append(f"environment.yml asks for {item}")
    elif name in ("pytorch-cuda", "cudatoolkit", "cuda-version"):
        seen.cuda = version if exact else seen.cuda
    elif name == "python":
        minor = ".".join(version.split(".")[:2])
        seen.conda_python = SpecifierSet(f"=={minor}.*" if exact and "." in version else "")
    elif name not in ("pip", "setuptools", "wheel"):
        return name
    return None


def _uv_lock(folder: Path, seen: Seen) -> None:
    path = folder / "uv.lock"
    if not path.is_file():
        return
    for name, version, _ in uv_packages(path):
        if name in FRAMEWORKS:
            seen.wanted[name] = SpecifierSet(f"=={Version(version).public}")
            seen.reasons.append(f"uv.lock has {name} {version}")
    seen.reasons.append("versions: those of uv.lock, which `wheelyard lock` honours")


def _dockerfile(folder: Path, seen: Seen) -> None:
    path = folder / "Dockerfile"
    if not path.is_file():
        return
    text = re.sub(r"\\\r?\n", " ", read_text(path))
    images = _FROM.findall(text)
    for image in images[-1:]:
        _from(image, seen)
    for line in text.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word.upper() == "CMD" and rest.lstrip().startswith("["):
            seen.command = _exec(rest)
        elif word.upper() == "EXPOSE":
            ports = [port.partition("/")[0] for port in rest.split()]
            seen.ports += [
                int(port) for port in ports if port.isdecimal() and 0 < int(port) < 65536
            ]
    words = (word for found in _APT.findall(text) for word in found.split())
    seen.apt = list(dict.fromkeys(word for word in words if _DEBIAN.fullmatch(word)))


def _from(image: str, seen: Seen) -> None:
    """Note the framework and CUDA of a Dockerfile's base."""
    for framework in known.FRAMEWORKS.values():
        if found := re.search(framework.image, image):
            version, *cuda = found.groups()
            seen.wanted.setdefault(framework.wheel, SpecifierSet(f"=={version}"))
            seen.cuda = next(filter(None, cuda), seen.cuda)
            break
    else:
        if found := _CUDA.search(image):
            seen.cuda = found[1]
        elif found := _NGC.search(image):
            seen.wanted.setdefault(known.FRAMEWORKS[found[1]].wheel, SpecifierSet())
        else:
            return
    seen.reasons.append(f"the Dockerfile is FROM {image}")


def _exec(text: str) -> tuple[str, ...] | None:
    try:
        words = json.loads(text)
    except ValueError:
        return None
    valid = isinstance(words, list) and words and all(isinstance(word, str) for word in words)
    return tuple(words) if valid else None


def table_lines(image: str, seen: Seen) -> Iterator[str]:
    """Yield the lines of the table."""
    yield f"image = {json.dumps(image)}"
    if seen.requirements:
        yield f"requirements = {json.dumps(seen.requirements)}"
    if seen.extras:
        yield f"# extras = {json.dumps(seen.extras)}  # pyproject.toml's; keep what is needed"
    if seen.apt:
        yield f"# packages = {json.dumps(seen.apt)}  # the Dockerfile's; keep what is needed"
    if seen.command:
        yield f"command = {json.dumps(list(seen.command))}"
    if seen.ports:
        yield f"ports = {json.dumps(list(dict.fromkeys(seen.ports)))}"
