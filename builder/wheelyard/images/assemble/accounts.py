"""Adds the image contract to a base: user, group, environment, folders.

Nothing is executed: the files are computed from the base's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache

from wheelyard.contract.paths import (
    FILE_MODE,
    FOLDER_MODE,
    GID,
    GROUP,
    HOME,
    PROGRAM_MODE,
    UID,
    USER,
    VENV,
    WHEELYARD,
    WORKDIR,
)
from wheelyard.contract.users import PIP_UMASK, PTH, SAFE, home_folders, system_packages, text_files
from wheelyard.errors import BaseImageError
from wheelyard.images.assemble.rootfs import Node, RootFS, with_content
from wheelyard.layers.install import Environment
from wheelyard.layers.tarheader import EPOCH
from wheelyard.layers.toc import Entry, parents

FORMAT = 7  # part of the base layer's key: raise it when the contract changes
PRIVILEGES = 0o6000  # setuid and setgid of a file
_GITCONFIG, _FSTAB = "etc/gitconfig", "etc/fstab"
# Every layer holds the folders above its files, and does not depend on any base.
_SHARED = ("etc", "etc/profile.d", "opt", "usr", "usr/local", "usr/local/bin")
_ACTIVATE = "lib/python{}/venv/scripts/common/activate"


def apply_contract(base: RootFS, python: str, *, foreign: bool = False) -> RootFS:
    """Add user `dev`, group `venv`, an empty environment at /opt/venv and a workspace to `base`.

    A `foreign` base is an image from a registry: it keeps its own settings of apt and git, and its
    setuid programs.
    """
    nodes = [_shared_folder(base, path) for path in _SHARED]
    nodes += _accounts(base)
    nodes += [] if foreign else [*_ours(base), *_without_privileges(base)]
    nodes += [_folder(path, 0o2775, UID, 0) for path in home_folders()]
    nodes += _skeleton(base)
    home = _python_home(base, python) if foreign else "usr"
    nodes += _environment(_activate(base, home, python), home, python)
    texts = text_files(home, python)
    folders = parents(f"{system_packages(home, python)}/")
    nodes += [_folder(path, 0o755, 0, 0) for path in folders if path not in base.nodes]
    nodes += [_file(path, _lined(lines), 0o644, 0, 0) for path, lines in texts.items()]
    nodes += [
        _folder(WORKDIR, 0o2775, UID, 0),
        _folder(WHEELYARD, 0o755, 0, 0),
        _file("etc/machine-id", b"", 0o444, 0, 0),
    ]
    return base.overlaid({node.entry.path: node for node in nodes})


def _ours(base: RootFS) -> list[Node]:
    """Return what only a base of locked packages gets."""
    sources = _file("etc/apt/sources.list", base.sources_list.encode(), 0o644, 0, 0)
    return [_gitconfig(base), sources, *_plain_fstab(base)]


def _plain_fstab(base: RootFS) -> list[Node]:
    """Keep the comment of mmdebstrap up to 1.5 only: 1.6 adds to it, and nothing uses the file."""
    if _FSTAB not in base.nodes:
        return []
    node = base.nodes[_FSTAB]
    made = _file(_FSTAB, b"# UNCONFIGURED FSTAB FOR BASE SYSTEM\n", 0o644, 0, 0)
    return [replace(made, mtime=node.mtime)]


def _without_privileges(base: RootFS) -> list[Node]:
    """Remove setuid bits: nothing in these images needs su, mount or passwd."""
    return [
        replace(node, entry=replace(node.entry, mode=node.entry.mode & ~PRIVILEGES))
        for node in base.nodes.values()
        if node.entry.kind in ("file", "hardlink") and node.entry.mode & PRIVILEGES
    ]


def _accounts(base: RootFS) -> list[Node]:
    passwd, group = _lines(base, "etc/passwd"), _lines(base, "etc/group")
    shadow, gshadow = _lines(base, "etc/shadow"), _lines(base, "etc/gshadow")
    taken = {line.split(":")[0] for line in passwd + group} & {USER, GROUP}
    ids = {line.split(":")[2] for line in passwd + group} & {str(UID), str(GID)}
    if taken or ids:
        raise BaseImageError(
            f"the base already uses {', '.join(sorted(taken | ids))}; the image contract needs "
            f"user {USER} ({UID}) and group {GROUP} ({GID}) to be free"
        )
    _insert(passwd, "nobody", f"{USER}:x:{UID}:{UID}::/{HOME}:/bin/bash")
    _insert(group, "nogroup", f"{GROUP}:x:{GID}:{USER}", f"{USER}:x:{UID}:")
    # The third field is the day of the last change: a clock, so it stays empty.
    shadow = [":".join([*(f := line.split(":"))[:2], "", *f[3:]]) for line in shadow]
    _insert(shadow, "nobody", f"{USER}:!::0:99999:7:::")
    _insert(gshadow, "nogroup", f"{GROUP}:!::{USER}", f"{USER}:!::")
    files = {"passwd": passwd, "group": group, "shadow": shadow, "gshadow": gshadow}
    return [_edited(base, f"etc/{name}", lines) for name, lines in files.items()]


def _insert(lines: list[str], static: str, *new: str) -> None:
    """Put `new` after the last entry that every Debian has; entries of packages follow it.

    So it does not matter whether a package came with the base or is installed later.
    """
    names = [line.split(":")[0] for line in lines]
    at = names.index(static) + 1 if static in names else len(lines)
    lines[at:at] = new


def steady_accounts(base: RootFS, below: RootFS | None) -> RootFS:
    """Order the accounts that packages add by name, so that their numbers are stable.

    Otherwise their order, and so their numbers, depend on the apt of the machine that builds.
    Accounts in `below` keep their numbers; files follow their owners.
    """
    users = _steady(base, below, "etc/passwd", "nobody")
    groups = _steady(base, below, "etc/group", "nogroup")
    uids = {old: new for old, new in users.values() if old != new}
    gids = {old: new for old, new in groups.values() if old != new}
    nodes = {
        path: replace(node, entry=replace(
            entry, uid=uids.get(entry.uid, entry.uid), gid=gids.get(entry.gid, entry.gid)
        ))
        for path, node in base.nodes.items()
        if (entry := node.entry).uid in uids or entry.gid in gids
    }  # fmt: skip
    moved = base.overlaid(nodes)
    files = {"passwd": users, "shadow": users, "group": groups, "gshadow": groups}
    edited = []
    for name, accounts in files.items():
        lines = _ordered(_lines(moved, f"etc/{name}"), list(accounts))
        if name in ("passwd", "group"):
            lines = [_renumbered(line, accounts, gids) for line in lines]
        edited.append(_edited(moved, f"etc/{name}", lines))
    return moved.overlaid({node.entry.path: node for node in edited})


def _steady(
    base: RootFS, below: RootFS | None, path: str, static: str
) -> dict[str, tuple[int, int]]:
    """Map each added account's present number to its stable number."""
    now, before = _added(base, path, static), _added(below, path, static) if below else {}
    kept = {name: number for name, number in before.items() if name in now}
    others = sorted(now.keys() - kept.keys())
    free = [number for number in now.values() if number not in kept.values()]
    if len(free) != len(others):
        raise BaseImageError(
            f"the numbers in /{path} do not match those of the flavour below: {before}, {now}; "
            "check the package lists of the flavours"
        )
    wanted = kept | dict(zip(others, free, strict=True))
    return {name: (now[name], number) for name, number in wanted.items()}


def _added(base: RootFS, path: str, static: str) -> dict[str, int]:
    """Return name -> number of packages' accounts, after the last entry that every Debian has."""
    fields = [line.split(":") for line in _lines(base, path)]
    names = [name for name, *_ in fields]
    at = names.index(static) + 1 if static in names else len(names)
    return {name: int(rest[1]) for name, *rest in fields[at:] if name not in (USER, GROUP)}


def _ordered(lines: list[str], names: list[str]) -> list[str]:
    """Sort the lines of `names` into that order, within the places that they occupy."""
    by_name = {name: line for line in lines if (name := line.split(":")[0]) in names}
    ordered = iter([by_name[name] for name in names if name in by_name])
    return [next(ordered) if line.split(":")[0] in by_name else line for line in lines]


def _renumbered(line: str, accounts: Mapping[str, tuple[int, int]], gids: Mapping[int, int]) -> str:
    """Return a line of passwd or group with its new numbers."""
    name, password, number, *rest = line.split(":")
    if name in accounts:
        number = str(accounts[name][1])
    if len(rest) > 1:  # of passwd: the user's group follows
        rest[0] = str(gids.get(int(rest[0]), int(rest[0])))
    return ":".join((name, password, number, *rest))


def _gitconfig(base: RootFS) -> Node:
    """Return ours, and git-lfs's section, sorted: its order differs from run to run."""
    lines = _lines(base, _GITCONFIG) if _GITCONFIG in base.nodes else []
    if [number for number, line in enumerate(lines) if line.startswith("[")] not in ([], [0]):
        raise BaseImageError(
            f"/{_GITCONFIG} of the base has more than the section that git-lfs writes"
        )
    return _file(_GITCONFIG, _lined([*SAFE, *lines[:1], *sorted(lines[1:])]), 0o644, 0, 0)


def _skeleton(base: RootFS) -> list[Node]:
    """Return what `useradd -m` copies, so that an interactive shell looks like Debian's."""
    names = [path for path in base.nodes if path.startswith("etc/skel/")]
    return [
        _file(f"{HOME}/{path.removeprefix('etc/skel/')}", base.read(path), 0o664, UID, 0)
        for path in names
        if base.nodes[path].entry.kind == "file"
    ]


@cache
def empty_environment(python: str) -> Environment:
    """Describe the environment before any wheel is installed into it."""
    nodes = _environment(b"", "usr", python)
    kinds = {node.entry.path: node.entry.kind for node in nodes}
    return Environment(VENV, python, kinds, GID, FOLDER_MODE, FILE_MODE, PROGRAM_MODE)


def _environment(activate: bytes, home: str, python: str) -> list[Node]:
    """Create an empty virtual environment, as `python -m venv` would."""
    library = f"{VENV}/lib/python{python}"
    folders = ["", "/bin", "/include", "/lib", f"/lib/python{python}"]
    nodes = [_folder(VENV + folder, 0o2775, 0, GID) for folder in folders]
    nodes.append(_folder(f"{library}/site-packages", 0o2775, 0, GID))
    nodes.append(_file(f"{library}/site-packages/{PTH}", _lined([PIP_UMASK]), 0o664, 0, GID))
    links = {
        "python": f"/{home}/bin/python{python}",
        "python3": "python",
        f"python{python}": "python",
    }
    nodes += [_link(f"{VENV}/bin/{name}", target) for name, target in links.items()]
    nodes.append(_link(f"{VENV}/lib64", "lib"))
    config = f"home = /{home}/bin\ninclude-system-site-packages = false\nversion = {python}\n"
    nodes.append(_file(f"{VENV}/pyvenv.cfg", config.encode(), 0o664, 0, GID))
    nodes.append(_file(f"{VENV}/bin/activate", activate, 0o664, 0, GID))
    return nodes


def _python_home(base: RootFS, python: str) -> str:
    """Return the folder of the base's Python: the first of the two that PATH finds."""
    for home in ("usr/local", "usr"):
        if f"{home}/bin/python{python}" not in base.nodes:
            continue
        if f"{home}/{_ACTIVATE.format(python)}" not in base.nodes:
            raise BaseImageError(
                f"the base has Python {python} in /{home}/bin without the module venv; "
                f"Debian has it in python{python}-venv"
            )
        return home
    raise BaseImageError(f"the base has no Python {python} in /usr/local/bin or /usr/bin")


def _activate(base: RootFS, home: str, python: str) -> bytes:
    text = base.read(f"{home}/{_ACTIVATE.format(python)}").decode()
    if re.search(r'PS1="\("?__VENV_PROMPT__', text):  # Python 3.13's
        prompt = "venv"
    elif '"__VENV_PROMPT__' in text:
        prompt = "(venv) "
    else:  # with the security fix of 2024: values are quoted where they are put in
        prompt = "'(venv) '"
    values = {
        "__VENV_DIR__": f"/{VENV}",
        "__VENV_NAME__": "venv",
        "__VENV_PROMPT__": prompt,
        "__VENV_BIN_NAME__": "bin",
        "__VENV_PYTHON__": f"/{VENV}/bin/python",
    }
    for name, value in values.items():
        text = text.replace(name, value)
    return text.encode()


def _lined(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _lines(base: RootFS, path: str) -> list[str]:
    return base.read(path).decode().splitlines()


def _edited(base: RootFS, path: str, lines: list[str]) -> Node:
    old = base.nodes[path].entry
    return _file(path, _lined(lines), old.mode, old.uid, old.gid)


def _file(path: str, content: bytes, mode: int, uid: int, gid: int) -> Node:
    entry = with_content(Entry(path, "file", mode, uid, gid), content)
    return Node(entry, EPOCH, content=content)


def _shared_folder(base: RootFS, path: str) -> Node:
    """Return a folder of root's, 0755, as in Debian; other images may have other owners."""
    node = base.nodes.get(path)
    if node and node.entry.kind != "dir":
        raise BaseImageError(
            f"/{path} is a {node.entry.kind} in the base; the image contract needs a folder there"
        )
    return replace(_folder(path, 0o755, 0, 0), mtime=node.mtime if node else EPOCH)


def _folder(path: str, mode: int, uid: int, gid: int) -> Node:
    return Node(Entry(path, "dir", mode, uid, gid), EPOCH)


def _link(path: str, target: str) -> Node:
    return Node(Entry(path, "symlink", 0o777, 0, GID, link=target), EPOCH)
