"""The Python environment, its user and its rights: the image contract, seen from inside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.image.box import Box
from tests.image.layout import normalized
from wheelyard.contract.users import home_folders

VENV = "/opt/venv"
BASH = "/bin/bash"


def test_it_is_the_cells_python_in_the_venv(box: Box) -> None:
    seen = box.python(
        "import json, sys; print(json.dumps(["
        "'.'.join(map(str, sys.version_info[:2])), sys.prefix, sys.executable]))"
    )
    assert seen == [box.image.cell["python"], VENV, f"{VENV}/bin/python"]


def test_pip_check_finds_nothing(box: Box) -> None:
    """Except, in an image whose cuDNN was put in the place of upstream's, that very pin."""
    names = box.image.overridden
    if not names:
        assert box.lines("pip check") == ["No broken requirements found."]
        return
    found = box.dev.run("pip check").stdout.splitlines()
    assert found
    assert all(any(f"requirement {name}==" in line for name in names) for line in found)


def test_pip_list_is_the_lock(box: Box, pins: dict[str, str]) -> None:
    listed = json.loads("".join(box.lines("pip list --format=json --disable-pip-version-check")))
    assert {normalized(item["name"]): item["version"] for item in listed} == pins


def test_dev_is_1000_and_in_the_group_of_the_venv(box: Box) -> None:
    assert box.lines("id -u; id -g; id -un; id -gn") == ["1000", "1000", "dev", "dev"]
    assert "900" in box.lines("id -G")[0].split()
    assert box.root.group("venv").gid == 900
    user = box.root.user("dev")
    assert (user.uid, user.gid, user.home, user.shell) == (1000, 1000, "/home/dev", "/bin/bash")
    assert "venv" in user.groups


def test_no_account_has_a_password(box: Box) -> None:
    """`*` and anything that begins with `!` match no password."""
    for line in box.lines("cat /etc/shadow", user=box.root):
        assert line.split(":")[1].startswith(("*", "!")), line


def test_dev_finds_its_home_its_caches_and_its_workspace(box: Box) -> None:
    assert box.lines("pwd; echo $HOME") == ["/workspace", "/home/dev"]
    for folder in ("workspace", *home_folders()):
        found = box.lines(f"test -w /{folder} && stat -c '%u %g %a' /{folder}")
        assert found == ["1000 0 2775"], folder


def test_the_venv_belongs_to_its_group_all_the_way_down(box: Box) -> None:
    """A user with another id, in group 900, can install without a recursive chown.

    CUDA's wheels have empty modules that ship no bytecode; the first import of JAX writes it.
    """
    shipped = f"find {VENV} ! -path '*/nvidia/*__pycache__*'"
    assert box.lines(rf"{shipped} ! -type l \( ! -user root -o ! -group venv \)") == []
    assert box.lines(f"{shipped} -type d ! -perm -2775") == []
    assert box.lines(f"{shipped} -type f ! -perm -g=w") == []


def test_the_folders_that_every_layer_holds_are_root_s(box: Box) -> None:
    folders = "/etc /etc/profile.d /opt /opt/wheelyard /usr /usr/local /usr/local/bin"
    assert set(box.lines(f"stat -c '%u:%g %a' {folders}")) == {"0:0 755"}


def test_nothing_is_writable_by_everyone(box: Box) -> None:
    """Except the folders for temporary files, which are sticky."""
    found = box.lines(
        "find / -xdev -perm -o=w ! -type l ! -path '/proc/*' ! -path '/dev/*' ! -path '/sys/*' "
        r"! \( -type d -perm -1000 \)",
        user=box.root,
    )
    assert found == []


def test_no_setuid_program_beyond_debians(box: Box) -> None:
    found = box.lines(
        "find / -xdev -type f -perm /6000 ! -path '/proc/*' ! -path '/dev/*'", user=box.root
    )
    allowed = {
        "chage", "chfn", "chsh", "expiry", "gpasswd", "mount", "newgrp", "passwd", "ssh-agent",
        "ssh-keysign", "su", "umount", "unix_chkpwd", "dbus-daemon-launch-helper",
    }  # fmt: skip
    assert {Path(name).name for name in found} <= allowed


def test_a_login_shell_has_the_venv_on_its_path(box: Box) -> None:
    command = "env -i HOME=/home/dev bash -lc 'command -v python; echo $VIRTUAL_ENV'"
    assert box.lines(command) == [f"{VENV}/bin/python", VENV]


def test_a_program_that_opens_a_terminal_takes_bash(box: Box) -> None:
    """Jupyter's terminals are `sh`, without completion and history, where SHELL is not set."""
    assert box.lines("python -c \"import os; print(os.environ.get('SHELL') or 'sh')\"") == [BASH]
    assert box.lines(f"{BASH} -c 'type -t complete'") == ["builtin"]


def test_what_a_program_printed_is_out_at_once(box: Box) -> None:
    """Logs of a training are empty otherwise until 8 KiB are full, and lost when it is killed."""
    assert box.lines("python -c \"import os; print('epoch 1'); os._exit(0)\"") == ["epoch 1"]


def test_a_shell_activates_and_leaves_the_venv(box: Box) -> None:
    script = f". {VENV}/bin/activate && command -v python && deactivate"
    found = box.dev.run(f"sh -c '{script}'")
    assert (found.stdout, found.stderr) == (f"{VENV}/bin/python\n", "")


def test_the_first_process_reaps(box: Box) -> None:
    if box.backend == "chroot":
        pytest.skip("a chroot has no first process of its own")
    assert box.lines("cat /proc/1/comm") == ["tini"]
    box.lines("sh -c '(sleep 0.2 & ) ; exit 0'")
    box.lines("sleep 0.6")
    states = box.lines("cat /proc/[0-9]*/stat 2>/dev/null | awk '{print $3}'; true")
    assert "Z" not in states


def test_programs_find_their_libraries(box: Box) -> None:
    """`ldconfig`'s cache and every command on the path work: nothing is left half installed."""
    assert box.root.run("dpkg --audit").stdout == ""
    assert box.lines("tini --version")[0].startswith("tini version")


def test_installed_packages_are_known_to_dpkg(box: Box) -> None:
    for name in ("ca-certificates", "g++", "tini", f"python{box.image.cell['python']}"):
        assert box.root.package(name).is_installed, name


def test_certificates_of_the_public_web_are_there(box: Box) -> None:
    count = box.python(
        "import json, ssl; print(json.dumps(len(ssl.create_default_context().get_ca_certs())))"
    )
    assert count > 50


@pytest.mark.parametrize(
    "path",
    [
        "/etc/pip.conf", "/home/dev/.config/pip/pip.conf", "/home/dev/.pip/pip.conf",
        "/root/.config/pip/pip.conf", "/home/dev/.config/uv/uv.toml", "/root/.config/uv/uv.toml",
        "/root/.netrc", "/home/dev/.netrc",
        "/home/dev/.bash_history", "/root/.bash_history",
    ],
)  # fmt: skip
def test_no_settings_of_the_building_machine(box: Box, path: str) -> None:
    assert not box.root.file(path).exists


@pytest.mark.parametrize("path", ["/opt/venv/pip.conf", "/etc/uv/uv.toml"])
def test_what_the_image_tells_pip_and_uv_names_no_host(box: Box, path: str) -> None:
    text = box.root.file(path).content_string
    assert "constraint" in text
    assert "://" not in text
    assert "index" not in text


def test_apt_uses_the_distributions_own_mirrors_over_no_proxy(box: Box) -> None:
    listed = box.lines(
        "cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null; true", user=box.root
    )
    sources = [line for line in listed if line.startswith(("deb ", "URIs:"))]
    home = box.lines(". /etc/os-release; echo $HOME_URL")[0]
    domain = home.split("/")[2].removeprefix("www.")
    assert sources
    for line in sources:
        address = next(word for word in line.split() if "://" in word)
        assert address.split("/")[2].endswith(f".{domain}"), line
    settings = box.lines("apt-config dump", user=box.root)
    assert settings
    assert not [line for line in settings if "proxy" in line.lower() and '""' not in line]
    assert box.lines("ls /usr/local/share/ca-certificates", user=box.root) == []


def test_logs_caches_and_identities_are_empty(box: Box) -> None:
    """They would differ from one build to the next."""
    assert box.root.file("/etc/machine-id").size == 0
    for folder in ("/var/lib/apt/lists", "/var/cache/apt/archives", "/var/log"):
        kept = box.lines(f"find {folder} -type f -size +0 ! -name lock", user=box.root)
        assert kept == [], folder


def test_selfcheck_is_a_command_and_knows_its_image(box: Box) -> None:
    assert box.lines("command -v selfcheck")
    cell = json.loads("".join(box.lines("cat /opt/wheelyard/cell.json")))
    assert cell.items() >= box.image.cell.items()
