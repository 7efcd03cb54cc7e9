"""System tools: found, installed if we may, or named together with how to install them."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from wheelyard.architecture import ARCHITECTURES
from wheelyard.console.tasks import Reporter
from wheelyard.errors import ToolMissingError
from wheelyard.system.subprocesses import Result, failure, run

_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


@dataclass(frozen=True, slots=True)
class Tool:
    """A system tool: its Debian package, and what we need it for."""

    package: str
    purpose: str
    path: Path | None = None  # for what is a file, not a command
    optional: bool = False  # only some builds need it


TOOLS = {
    "mmdebstrap": Tool("mmdebstrap", "creates the base's root file system"),
    "apt-get": Tool("apt", "resolves the base's Debian packages"),
    "apt-cache": Tool("apt", "reads the base's Debian packages"),
    "dpkg-deb": Tool("dpkg", "reads Debian packages"),
    **{
        f"qemu-{x.machine}-static": Tool(
            "qemu-user-static", f"runs {x.name}'s programs while its base is made", optional=True
        )
        for x in ARCHITECTURES.values()
    },
    "gpgv": Tool("gpgv", "apt checks the archive's signature with it"),
    "debian-archive-keyring": Tool(
        "debian-archive-keyring", "the archive's signature is checked against it", _KEYRING
    ),
}


def require_tool(name: str, reporter: Reporter) -> str:
    """Return the path of the tool `name`, installing its Debian package if we are root.

    Raises ToolMissingError, which says what to install, if we may not or cannot install it.
    """
    tool = TOOLS.get(name, Tool(name, "it is needed here"))
    program = find_tool(name)
    if program is None:
        if not may_install(is_root(), _os_release()):
            raise ToolMissingError(missing_message(name, tool))
        reporter.info(f"{name} is not installed: installing the Debian package {tool.package}")
        _install(name, tool)
        program = find_tool(name)
    if program is None:
        raise ToolMissingError(
            f"the package {tool.package} is installed, but {name} is still not on PATH"
        )
    return program


def find_tool(name: str) -> str | None:
    """Return the path of the tool `name`, or None; the sbin folders count as on PATH."""
    tool = TOOLS.get(name)
    if tool is not None and tool.path is not None:
        return str(tool.path) if tool.path.is_file() else None
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
    return shutil.which(name, path=path)


def is_root() -> bool:
    """Tell whether we are root; Windows has no such user."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def may_install(root: bool, os_release: str) -> bool:
    """Tell whether we may install packages: root, on Debian or one of its descendants."""
    families = {
        word
        for line in os_release.splitlines()
        if line.partition("=")[0] in ("ID", "ID_LIKE")
        for word in line.partition("=")[2].strip("\"'").split()
    }
    return root and bool(families & {"debian", "ubuntu"})


def missing_message(name: str, tool: Tool) -> str:
    """Say what is missing, why it is needed, and the command that installs it."""
    return (
        f"{name} is not installed ({tool.purpose}).\n"
        f"  Debian, Ubuntu: sudo apt-get install {tool.package}\n"
        f"  other systems: install {tool.package} with the system's package manager,"
        " or run this command in a Debian container"
    )


def install_argv(package: str) -> tuple[str, ...]:
    """Build the command that installs one Debian package without questions."""
    return ("apt-get", "install", "--yes", "--no-install-recommends", package)


def _install(name: str, tool: Tool) -> None:
    """Install from the package lists that are there; a fresh container has none, so update then."""
    if _apt(install_argv(tool.package)).returncode == 0:
        return
    _apt(("apt-get", "update"))
    again = _apt(install_argv(tool.package))
    if again.returncode != 0:
        what = f"installing {tool.package}"
        raise ToolMissingError(failure(again, what, missing_message(name, tool)))


def _apt(argv: tuple[str, ...]) -> Result:
    return run(argv, error=None, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})


def _os_release() -> str:
    try:
        return Path("/etc/os-release").read_text(encoding="utf-8")
    except OSError:
        return ""
