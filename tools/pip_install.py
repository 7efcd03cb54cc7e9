"""Install packages for the Python that runs this, whatever pip or uv is set to do elsewhere.

By the uv beside that Python, which takes seconds; by pip where there is none, or where it fails.
Of the user's settings of pip, in the environment and in pip.conf, those count that say where
packages come from and on what way, for uv too. `user`, `target`, `no-binary` and their like would
install somewhere else, or something else than what is pinned. Runs on Python 3.8, too: with it
tools/make-venv gets a newer one.
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
# What uv calls them. It has no word for the others: for `no-proxy-env` alone that matters.
OF_UV = {
    "client-cert": "SSL_CLIENT_CERT", "default-timeout": "UV_HTTP_TIMEOUT",
    "extra-index-url": "UV_INDEX", "find-links": "UV_FIND_LINKS", "index-url": "UV_DEFAULT_INDEX",
    "keyring-provider": "UV_KEYRING_PROVIDER", "no-cache-dir": "UV_NO_CACHE",
    "no-index": "UV_NO_INDEX", "proxy": "ALL_PROXY", "pypi-url": "UV_DEFAULT_INDEX",
    "retries": "UV_HTTP_RETRIES", "timeout": "UV_HTTP_TIMEOUT", "trusted-host": "UV_INSECURE_HOST",
}  # fmt: skip
KEPT_OF_UV = {"UV_CACHE_DIR", "UV_LINK_MODE", "UV_CONCURRENT_DOWNLOADS"}
PIP = [sys.executable, "-I", "-m", "pip", "--disable-pip-version-check"]
UV = [os.path.join(os.path.dirname(sys.executable), "uv"), "--no-config"]  # noqa: PTH118, PTH120


def main() -> None:
    """Pass the arguments on, and the exit code back."""
    wanted = sys.argv[1:]
    found = settings()
    if os.path.exists(UV[0]) and "no-proxy-env" not in found:  # noqa: PTH110
        # Everything is pinned by its hash: which index has it first is of no importance.
        argv = [*UV, "pip", "install", "--python", sys.executable]
        argv += ["--index-strategy", "unsafe-best-match", *wanted]
        argv += [] if sys.stderr.isatty() else ["--quiet"]
        if not subprocess.run(argv, env=environment_of_uv(found), check=False).returncode:
            return
        print("make-venv: uv could not install (see above); trying pip", file=sys.stderr)
    argv = [*PIP, "install", "--quiet", *wanted]
    sys.exit(subprocess.run(argv, env=environment(found), check=False).returncode)


def settings() -> "dict[str, str]":
    """Read the kept settings of pip; the environment takes precedence over files."""
    given = {
        name: value
        for variable, value in os.environ.items()
        if (name := variable[4:].lower().replace("_", "-")) in KEPT and variable[:4] == "PIP_"
    }
    return {**settings_of_files(), **given}


def environment(found: "dict[str, str]") -> "dict[str, str]":
    """Return the variables for pip: only the settings that are kept."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    kept = {"PIP_" + name.upper().replace("-", "_"): value for name, value in found.items()}
    return {**own, **kept, "PIP_CONFIG_FILE": os.devnull}


def environment_of_uv(found: "dict[str, str]") -> "dict[str, str]":
    """Return the same for uv; like pip it trusts the system's certificates."""
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("UV_") or name in KEPT_OF_UV
    }
    kept = {OF_UV[name]: value for name, value in found.items() if name in OF_UV and value}
    if "UV_FIND_LINKS" in kept:
        kept["UV_FIND_LINKS"] = ",".join(kept["UV_FIND_LINKS"].split())
    for name in ("UV_INDEX", "UV_INSECURE_HOST"):
        if name in kept:
            kept[name] = " ".join(kept[name].split())
    if "ALL_PROXY" in kept:
        kept["HTTPS_PROXY"] = kept["HTTP_PROXY"] = kept["ALL_PROXY"]
    if kept.get("UV_KEYRING_PROVIDER") != "subprocess":
        kept.pop("UV_KEYRING_PROVIDER", None)
    if found.get("cache-dir"):
        kept["UV_CACHE_DIR"] = found["cache-dir"] + "/uv"
    if found.get("cert"):
        is_folder = os.path.isdir(found["cert"])  # noqa: PTH112
        kept["SSL_CERT_DIR" if is_folder else "SSL_CERT_FILE"] = found["cert"]
    return {"UV_SYSTEM_CERTS": "1", **own, **kept}


def settings_of_files() -> "dict[str, str]":
    """Read pip.conf files as settings; later files, and [install], take precedence."""
    files = configparser.RawConfigParser(strict=False)
    files.read(config_files(), encoding="utf-8")
    found = {}
    for section in ("global", "install"):
        for key, value in files.items(section) if files.has_section(section) else ():
            name = key.replace("_", "-")
            if name in KEPT and value:
                found[name] = value
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
