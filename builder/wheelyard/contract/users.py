"""What lets any user work in an image, known to it or not: folders, shells, git, pip. Pure.

The scripts that a container starts by are files in the package's data.
"""

from __future__ import annotations

from wheelyard.contract.paths import HOME, site_packages

# A named volume on a folder that the image lacks is root's. A home is of group 0 as well: the
# group of every user whom OpenShift makes up.
OF_HOME = (
    ".cache", ".cache/huggingface", ".cache/matplotlib", ".cache/pip", ".cache/torch", ".cache/uv",
    ".config", ".config/matplotlib", ".ipython", ".jupyter", ".keras", ".local", ".local/bin",
    ".local/share", ".local/share/jupyter", ".nv", ".triton", ".vscode-server",
    ".vscode-server/extensions",
)  # fmt: skip
# git refuses a mounted repository that belongs to another user. What is mounted there is the
# work of who started the container; other folders may be shared with strangers. The second line is
# for git 2.46 and later.
SAFE = ("[safe]", "\tdirectory = /workspace", "\tdirectory = /workspace/*")
# Root installs with umask 022 in a Dockerfile, and `dev` could change none of it.
PIP_UMASK = (
    "import os, sys; any(os.path.basename(a).partition('3')[0] == 'pip' for a in "
    "sys.orig_argv[1:4]) and os.umask(os.umask(0o077) & ~0o020)"
)
PTH = "wheelyard.pth"
# What a container starts by, in the package's data -> what it is called below /opt/wheelyard.
SCRIPTS = {
    "entrypoint.sh": "entrypoint", "pip.sh": "pip", "user.sh": "user.sh", "venv.sh": "venv",
}  # fmt: skip
_PROFILE = (
    "# Debian's /etc/profile resets PATH; login shells find the environment again here.",
    'export VIRTUAL_ENV="${VIRTUAL_ENV:-/opt/venv}"',
    'export PATH="/opt/venv/bin:$PATH"',
    '[ "$VIRTUAL_ENV" = /opt/venv ] || export PATH="$VIRTUAL_ENV/bin:$PATH"',
    '[ -w "${HOME:-}" ] || . /opt/wheelyard/user.sh',
)
_NAMELESS_SHELL = (
    "# For shells whose HOME is /: `docker exec` starts them past the entry point.",
    ". /opt/wheelyard/user.sh",
)


def home_folders() -> list[str]:
    """Return the home folder and its content in an image, relative to its root."""
    return [HOME, *(f"{HOME}/{path}" for path in OF_HOME)]


def text_files(home: str, python: str) -> dict[str, tuple[str, ...]]:
    """Return path -> lines of the root's own files, for shells and nested environments."""
    hook = f"import site; site.addsitedir('/{site_packages(python)}')"
    return {
        "etc/profile.d/10-venv.sh": _PROFILE,
        ".bashrc": _NAMELESS_SHELL,
        # `python -m venv --system-site-packages` sees what the image has, its .pth files included.
        f"{system_packages(home, python)}/{PTH}": (hook,),
    }


def system_packages(home: str, python: str) -> str:
    """Return where a Python looks for system packages; Debian's own differs from others."""
    if home == "usr":
        return "usr/lib/python3/dist-packages"
    return f"{home}/lib/python{python}/site-packages"
