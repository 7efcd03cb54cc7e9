"""What upstream ships: facts per framework release, read from the wheels, kept as a data file.

`wheelyard upstream refresh` writes the file over the network; everything here is pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from wheelyard.architecture import ARCHITECTURES, DEFAULT
from wheelyard.errors import MatrixError
from wheelyard.frameworks.record import CPU as CPU  # for all that speaks of facts
from wheelyard.model import FrameworkPin
from wheelyard.versions import is_exact, leads, order, overlaps, short

DATA = Path(__file__).parents[1] / "data" / "upstream.json"
OWN = "upstream.json"  # a project's own facts, beside its matrix.yaml
NONE = "none"  # in place of a cuDNN version

_CUDA = re.compile(r"cuda-toolkit|nvidia-cuda-runtime(-cu\d+)?")
_CUDNN = re.compile(r"nvidia-cudnn(-cu\d+)?")
_NVCC = re.compile(r"nvidia-cuda-nvcc(-cu\d+)?")
_NCCL = re.compile(r"nvidia-nccl(-cu\d+)?")


@dataclass(frozen=True)  # no slots: cached properties need a dictionary
class Release:
    """One release of a framework, by the metadata of its Linux wheel for one architecture."""

    version: str  # "2.3.1"; "2.3.1+cu118" is a build from a separate index
    wheel: str  # the file that the facts were read from
    cuda: str  # "12.1": the CUDA it was compiled for, by the version file inside the wheel
    cudnn: str  # "8.9.2.26": the pin, or the lower bound of a range
    nccl: str | None  # "2.20.5"
    pythons: tuple[str, ...]  # ("3.8", ..., "3.12"), ascending
    requires: Mapping[str, str]  # NVIDIA's distributions and Triton -> specifiers as stated
    sha256: str | None = None  # of the wheel; unchanged, it need not be read again
    built_cudnn: str | None = None  # "9": the cuDNN of the build, where a file inside says it
    architectures: tuple[str, ...] = ()  # "sm_80" machine code, "compute_90" PTX
    machine: str = DEFAULT.name  # the processors that the wheel is for
    builds: Mapping[str, Release] = field(default_factory=dict)  # for other architectures

    @cached_property
    def cuda_requirement(self) -> tuple[str, str]:
        """The distribution that represents the CUDA set, and its specifiers."""
        return _find(_CUDA, self.requires) or ("", f"=={self.cuda}.*")

    @cached_property
    def compiler(self) -> str:
        """The specifiers of nvcc, numbered as its toolkit, if it is required as a range."""
        _, spec = _find(_NVCC, self.requires) or ("", "")
        return "" if is_exact(spec) else spec

    @cached_property
    def cudnn_requirement(self) -> tuple[str, str]:
        """Distribution of cuDNN, and its specifiers."""
        return _find(_CUDNN, self.requires) or ("", f"=={self.cudnn}")


Upstream = Mapping[str, Mapping[str, Release]]  # framework name -> version -> facts


def load_upstream(path: Path = DATA) -> Upstream:
    """Read the data file; raise MatrixError if it is missing or damaged."""
    try:
        return parse_upstream(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        raise MatrixError(
            f"{path}: upstream facts cannot be read ({problem}); restore the committed file"
        ) from problem


def facts_file(project: Path) -> Path:
    """Return the file with a project's facts: the project's own, else the committed one."""
    own = project / OWN
    return own if own.is_file() else DATA


def facts_target(project: Path) -> Path:
    """Return the file that a refresh writes: never the data of an installed wheelyard."""
    facts = facts_file(project)
    return project / OWN if facts == DATA and not DATA.is_relative_to(project) else facts


def parse_upstream(data: Mapping[str, Mapping[str, Mapping[str, object]]]) -> Upstream:
    """Turn the file's JSON into releases."""
    return {
        name: {version: _release(version, facts) for version, facts in releases.items()}
        for name, releases in data.items()
    }


def dump_upstream(upstream: Upstream) -> str:
    """Write the file's text: frameworks by name, releases ascending, one fact per line."""
    data = {
        name: {version: release_facts(releases[version]) for version in sorted(releases, key=order)}
        for name, releases in sorted(upstream.items())
    }
    return json.dumps(data, indent=1) + "\n"


def make_release(
    version: str,
    wheel: str,
    cuda: str,
    pythons: Iterable[str],
    requires: Mapping[str, str],
    *,
    sha256: str | None = None,
    built_cudnn: str | None = None,
    architectures: tuple[str, ...] = (),
    machine: str = DEFAULT.name,
) -> Release:
    """Derive cuDNN and NCCL from the stated requirements; ValueError without cuDNN."""
    cudnn, nccl = _find(_CUDNN, requires), _find(_NCCL, requires)
    if cudnn is None and cuda != CPU:
        raise ValueError("it does not require cuDNN")
    return Release(
        version, wheel, cuda, lowest(cudnn[1]) if cudnn else NONE,
        lowest(nccl[1]) if nccl else None,
        tuple(sorted(pythons, key=order)), dict(sorted(requires.items())),
        sha256, built_cudnn, architectures, machine,
    )  # fmt: skip


def release_of(upstream: Upstream, pin: FrameworkPin) -> Release:
    """Return the facts of the build that a pin names; KeyError if there are none."""
    local = "" if pin.local is None else f"+{pin.local}"
    return upstream[pin.build or pin.name][f"{pin.version}{local}"]


def for_architecture(upstream: Upstream, architecture: str) -> Upstream:
    """Return the facts of one architecture's wheels; releases without such a wheel are left out."""
    if architecture == DEFAULT.name:
        return upstream
    return {
        name: {v: r.builds[architecture] for v, r in known.items() if architecture in r.builds}
        for name, known in upstream.items()
    }


def fits_cuda(release: Release, cuda: str) -> bool:
    """Tell whether a release's requirements allow a CUDA version; only CPU allows CPU."""
    if CPU in (release.cuda, cuda):
        return release.cuda == cuda
    return overlaps(cuda, release.cuda_requirement[1]) and overlaps(cuda, release.compiler)


def fits_cudnn(release: Release, cudnn: str) -> bool:
    """Tell whether a release's requirements allow a cuDNN version."""
    if NONE in (release.cudnn, cudnn):
        return release.cudnn == cudnn
    return overlaps(cudnn, release.cudnn_requirement[1])


def misfit(title: str, release: Release, cuda: str, cudnn: str | None, python: str) -> str | None:
    """Say why upstream does not ship this combination; None if it does.

    `cudnn=None` leaves cuDNN out: an override has its own rule.
    """
    name = f"{title} {release.version}"
    if not fits_cuda(release, cuda):
        built = "without CUDA" if release.cuda == CPU else f"for CUDA {short(release.cuda)}"
        return f"{name} is built {built}{_where(release)}"
    if cudnn is not None and not fits_cudnn(release, cudnn):
        asks = "for no cuDNN" if release.cudnn == NONE else f"for cuDNN {short(release.cudnn)}"
        return f"{name} asks {asks}"
    if python not in release.pythons:
        return f"{name} has no wheel for Python {python}, only for {', '.join(release.pythons)}"
    return None


def _where(release: Release) -> str:
    """Say for which architecture a build is, and name a trap: CUDA's wheels beside a CPU build."""
    if release.machine == DEFAULT.name:
        return ""
    unused = release.cuda == CPU and any(map(_CUDA.fullmatch, release.requires))
    trap = "; it asks for CUDA's libraries all the same, and would not use them" if unused else ""
    return f" on {release.machine}{trap}"


def newest_for(releases: Mapping[str, Release], cuda: str, python: str | None) -> str | None:
    """Return the newest release that fits a CUDA version (and a Python, if given)."""
    fitting = (
        version
        for version, release in releases.items()
        if fits_cuda(release, cuda) and (python is None or python in release.pythons)
    )
    return max(fitting, key=order, default=None)


def known_as(releases: Mapping[str, Release], asked: str) -> list[str]:
    """Return the releases that match `asked` in full or by its first components, ascending."""
    if asked in releases:  # 2.15.0 is itself, not 2.15.0.post1 too
        return [asked]
    return sorted((version for version in releases if leads(asked, version)), key=order)


def _find(pattern: re.Pattern[str], requires: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the first requirement whose name matches as a whole."""
    return next(((name, spec) for name, spec in requires.items() if pattern.fullmatch(name)), None)


def lowest(specifiers: str) -> str:
    """Return the version that a pin or a range starts from; ValueError if there is none."""
    match = re.search(r"(?:==|>=|~=)\s*([\d.]+\d)", specifiers)
    if match is None:
        raise ValueError(f"no lower bound in {specifiers!r}")
    return match[1]


def _release(version: str, facts: Mapping[str, object], machine: str = DEFAULT.name) -> Release:
    pythons, requires = facts["pythons"], facts["requires"]
    architectures = facts["architectures"]
    if not isinstance(pythons, list) or not isinstance(requires, dict):
        raise TypeError(f"release {version}")
    if not isinstance(architectures, list):
        raise TypeError(f"architectures of release {version}")
    return Release(
        version, str(facts["wheel"]), str(facts["cuda"]), str(facts["cudnn"]),
        _text(facts["nccl"]), tuple(map(str, pythons)),
        {str(name): str(spec) for name, spec in requires.items()},
        _text(facts["sha256"]), _text(facts["built_cudnn"]), tuple(map(str, architectures)),
        machine, dict(_builds(version, facts)) if machine == DEFAULT.name else {},
    )  # fmt: skip


def _builds(version: str, facts: Mapping[str, object]) -> Iterator[tuple[str, Release]]:
    """Yield the builds for other architectures, which lie inside the default one's facts."""
    for name in ARCHITECTURES:
        build = facts.get(name)
        if isinstance(build, dict):
            yield name, _release(version, build, name)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def release_facts(release: Release) -> dict[str, object]:
    """Return a release's facts in the data file's form."""
    return {
        "wheel": release.wheel,
        "sha256": release.sha256,
        "cuda": release.cuda,
        "built_cudnn": release.built_cudnn,
        "cudnn": release.cudnn,
        "nccl": release.nccl,
        "pythons": list(release.pythons),
        "architectures": list(release.architectures),
        "requires": dict(release.requires),
        **{name: release_facts(build) for name, build in sorted(release.builds.items())},
    }
