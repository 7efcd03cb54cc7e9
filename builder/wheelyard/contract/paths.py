"""Who and where in an image: its user, the group of its environment, its folders. Pure.

No other module repeats these; paths are relative to the root of the image. selfcheck, which may not
import this module, and the templates are compared with it by tests/unit/test_contract.py.
"""

from __future__ import annotations

USER, UID = "dev", 1000  # the first that Debian gives away
GROUP, GID = "venv", 900  # a system group's number: members may write to the environment
HOME = f"home/{USER}"
VENV = "opt/venv"
WORKDIR = "workspace"
WHEELYARD = "opt/wheelyard"  # selfcheck and the cell
LOCK = f"{WHEELYARD}/requirements.lock"  # of every wheel in the image
# Of the environment; setgid: what a user with another number adds stays writable for the group.
FOLDER_MODE, FILE_MODE, PROGRAM_MODE = 0o2775, 0o664, 0o775


def site_packages(python: str) -> str:
    """Return where modules are installed, for a Python such as "3.11"."""
    return f"{VENV}/lib/python{python}/site-packages"
