"""Reads the facts of this machine: driver, GPUs, container runtimes, disk. Judges nothing."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wheelyard.architecture import ARCHITECTURES, of_machine
from wheelyard.contract.runtimes import EngineFacts
from wheelyard.errors import EngineError, FetchError, SettingsError, ToolMissingError
from wheelyard.selfcheck.gpu.driver import (
    START,
    BrokenDriverError,
    Driver,
    NoDriverError,
    read_driver,
)
from wheelyard.settings import Settings
from wheelyard.system.storage import free_bytes
from wheelyard.system.subprocesses import SubprocessError
from wheelyard.system.tools import TOOLS, find_tool, is_root

_PROGRAMS = (
    "podman", "apptainer", "singularity", "enroot", "nvidia-ctk", "nvidia-container-cli",
    "nvidia-container-runtime-hook", "nvidia-smi", "containerd-stargz-grpc", "k3s",
)  # fmt: skip
# What starts images of `push --compression estargz` before they have arrived, and how it is asked.
LAZY = {
    "containerd-stargz-grpc": "nerdctl --snapshotter=stargz run IMAGE",
    "k3s": "k3s server --snapshotter=stargz",
}
# Where each of them is switched on, by the snapshotter's name.
_SWITCHES = {
    "containerd-stargz-grpc": (Path("/etc/containerd/config.toml"),),
    "k3s": (
        Path("/etc/rancher/k3s/config.yaml"), Path("/etc/systemd/system/k3s.service"),
        Path("/etc/systemd/system/k3s-agent.service"),
    ),
}  # fmt: skip
_CDI_FOLDERS = (Path("/etc/cdi"), Path("/var/run/cdi"))
_PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")


@dataclass(frozen=True, slots=True)
class Gpus:
    """What NVML or nvidia-smi reported; `problem`: why nothing, `broken`: there is a driver."""

    driver: Driver | None
    problem: str | None = None
    broken: bool = False


@dataclass(frozen=True, slots=True)
class LocalEngine:
    """The Docker Engine, if one answers, and the layers that it has."""

    facts: EngineFacts | None
    problem: str | None = None  # why an existing one cannot be used
    layers: tuple[tuple[str, ...], ...] = ()  # diff_ids of each image, lowest first
    free: int | None = None  # bytes where it keeps images


@dataclass(frozen=True, slots=True)
class Machine:
    """Everything that `doctor` checks."""

    kernel: str
    architecture: str
    root: bool
    overlay: bool  # the kernel has overlayfs
    user_namespaces: bool  # an ordinary user may make them
    missing_tools: tuple[str, ...]  # of those that make a base
    emulates: frozenset[str]  # other architectures whose programs qemu runs here
    cache: Path
    cache_free: int | None  # bytes
    proxies: tuple[str, ...]  # names of the variables that are set
    ca_problem: str | None
    online: bool  # index and registry were asked
    index_problem: str | None
    has_registry: bool  # one is set
    registry_problem: str | None
    programs: frozenset[str]  # of _PROGRAMS, the installed ones
    lazily: frozenset[str]  # of LAZY, those that are switched on
    cdi: bool
    engine: LocalEngine
    gpus: Gpus


def read_gpus() -> Gpus:
    """Query the driver; never raise for what a machine may lack."""
    try:
        return Gpus(read_driver())
    except NoDriverError as error:
        said = str(error).removesuffix(f"; {START}")  # advice for containers; this is the host
        return Gpus(None, said, isinstance(error, BrokenDriverError))
    except (OSError, SubprocessError) as error:
        return Gpus(None, f"nvidia-smi does not answer: {error}", broken=True)


def read_engine() -> LocalEngine:
    """Query the Docker Engine, if there is one."""
    from wheelyard.engines.docker import connect, engine_facts, present_layers

    try:
        client = connect()
        if client is None:
            return LocalEngine(None)
        facts = engine_facts(client)
        layers = tuple(present_layers(client))
    except EngineError as error:
        return LocalEngine(None, str(error))
    root = Path(facts.root)
    return LocalEngine(facts, None, layers, free_bytes(root) if root.is_dir() else None)


def read_programs() -> frozenset[str]:
    """Find which of `_PROGRAMS` are installed."""
    return frozenset(name for name in _PROGRAMS if find_tool(name) is not None)


def switched_on(switches: Mapping[str, Sequence[Path]] = _SWITCHES) -> frozenset[str]:
    """Find which of LAZY a configuration of this machine names."""
    return frozenset(
        name for name, paths in switches.items() if any("stargz" in _text(path) for path in paths)
    )


def has_cdi(folders: Sequence[Path] = _CDI_FOLDERS) -> bool:
    """Tell whether a CDI specification names NVIDIA's devices."""
    for folder in folders:
        for path in sorted(folder.glob("*.yaml")) + sorted(folder.glob("*.json")):
            try:
                if "nvidia.com/gpu" in path.read_text(errors="replace"):
                    return True
            except OSError:
                continue
    return False


def read_machine(settings: Settings, *, online: bool = True) -> Machine:
    """Read everything; with `online`, contact the index and the registry, too."""
    return Machine(
        kernel=platform.release(),
        architecture=platform.machine(),
        root=is_root(),
        overlay="overlay" in _text(Path("/proc/filesystems")).split(),
        user_namespaces=_user_namespaces(),
        missing_tools=tuple(n for n, t in TOOLS.items() if not t.optional and not find_tool(n)),
        emulates=frozenset(
            x.name
            for x in ARCHITECTURES.values()
            if x is not of_machine(platform.machine()) and find_tool(f"qemu-{x.machine}-static")
        ),
        cache=settings.cache_dir,
        cache_free=free_bytes(_existing(settings.cache_dir)),
        proxies=tuple(
            name for name in _PROXIES if os.environ.get(name) or os.environ.get(name.lower())
        ),
        ca_problem=_ca_problem(settings),
        online=online,
        index_problem=_index_problem(settings) if online else None,
        has_registry=settings.registry is not None,
        registry_problem=_registry_problem(settings) if online else None,
        programs=read_programs(),
        lazily=switched_on(),
        cdi=has_cdi(),
        engine=read_engine(),
        gpus=read_gpus(),
    )


def _user_namespaces() -> bool:
    """Check Debian's switch, the kernel's limit, and Ubuntu's AppArmor rule."""
    folder = Path("/proc/sys")
    return (
        _text(folder / "kernel/unprivileged_userns_clone").strip() != "0"
        and _text(folder / "user/max_user_namespaces").strip() != "0"
        and _text(folder / "kernel/apparmor_restrict_unprivileged_userns").strip() != "1"
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def _ca_problem(settings: Settings) -> str | None:
    named = os.environ.get("SSL_CERT_FILE")
    if named and not Path(named).is_file():
        return f"SSL_CERT_FILE names {named}, which does not exist"
    from wheelyard.fetching.trust import system_bundle

    if system_bundle() is None and settings.ca_bundle is None:
        return "a CA bundle is not installed"
    return None


def _index_problem(settings: Settings) -> str | None:
    from wheelyard.fetching.replies import Interrupted, Refused
    from wheelyard.fetching.transport import make_client, read_page
    from wheelyard.lock.upstream.listing import ACCEPT
    from wheelyard.lock.uv import default_index

    try:
        index = default_index(settings)
        with make_client(settings, 1) as client:
            read_page(client, f"{index.rstrip('/')}/pip/", ACCEPT)
    except (Interrupted, Refused, FetchError, SettingsError, ToolMissingError) as error:
        return str(error)
    return None


def _registry_problem(settings: Settings) -> str | None:
    from wheelyard.console.progress import QuietReporter
    from wheelyard.fetching.replies import Interrupted, Refused
    from wheelyard.registry.client import open_registry, send

    if settings.registry is None:
        return None
    try:
        with open_registry(settings.registry, settings, QuietReporter(None)) as registry:
            send(registry, "GET", settings.registry.url, ok=(200,))
    except (Interrupted, Refused, SettingsError, ToolMissingError) as error:
        return str(error)
    return None
