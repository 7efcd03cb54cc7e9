"""`pip install` for the Python that runs this, whatever pip is set to do elsewhere.

Of the user's settings, in the environment and in pip.conf, those count that say where packages
come from and on what way. `user`, `target`, `no-binary` and their like would install somewhere
else, or something else than what is pinned. Runs on Python 3.8, too: with it tools/make-venv gets
a newer one.
"""

import configparser
import os
import subprocess
import sys

KEPT = {
    "cache-dir", "cert", "client-cert", "default-timeout", "extra-index-url", "find-links",
    "index-url", "keyring-provider", "no-cache-dir", "no-index", "no-proxy-env", "proxy",
    "pypi-url", "resume-retries", "retries", "timeout", "trusted-host", "use-deprecated",
    "use-feature",
}  # fmt: skip
PIP = [sys.executable, "-I", "-m", "pip", "--disable-pip-version-check"]


def main() -> None:
    """Pass the arguments on to pip, and its exit code back."""
    argv = [*PIP, "install", "--quiet", *sys.argv[1:]]
    sys.exit(subprocess.run(argv, env=environment(), check=False).returncode)


def environment() -> "dict[str, str]":
    """Return the variables for pip: only the settings that are kept, from files as well."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    given = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("PIP_") and name[4:].lower().replace("_", "-") in KEPT
    }
    return {**own, **settings_of_files(), **given, "PIP_CONFIG_FILE": os.devnull}


def settings_of_files() -> "dict[str, str]":
    """Read pip.conf files as variables; later files, and [install], take precedence."""
    files = configparser.RawConfigParser(strict=False)
    files.read(config_files(), encoding="utf-8")
    found = {}
    for section in ("global", "install"):
        for key, value in files.items(section) if files.has_section(section) else ():
            name = key.replace("_", "-")
            if name in KEPT and value:
                found["PIP_" + name.upper().replace("-", "_")] = value
    return found


def config_files() -> "list[str]":
    """Where pip looks, by its documentation ("Configuration", "Location")."""
    given = os.environ.get("PIP_CONFIG_FILE", "")
    if given == os.devnull:
        return []
    mac = "Library/Application Support/pip/pip.conf"
    shared = os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg"
    everyone = [folder + "/pip/pip.conf" for folder in reversed(shared.split(":"))]
    mine = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")  # noqa: PTH111
    home = os.path.expanduser("~")  # noqa: PTH111
    user = [home + "/.pip/pip.conf", home + "/" + mac, mine + "/pip/pip.conf"]
    return ["/" + mac, *everyone, "/etc/pip.conf", *([given] if given else user)]


if __name__ == "__main__":
    main()
