"""Root file systems: what is dropped, laid over, and different between two."""

import io
import itertools
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from wheelyard.errors import BaseImageError
from wheelyard.images.assemble.accounts import apply_contract, steady_accounts
from wheelyard.images.assemble.base import bootstrap_command, source_date
from wheelyard.images.assemble.rootfs import Node, RootFS, read_rootfs
from wheelyard.layers.layer import LayerWriter
from wheelyard.layers.toc import Entry
from wheelyard.model import LockedDeb, PackageLock

ACCOUNTS = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/bash\n",
    "etc/group": b"root:x:0:\n",
    "etc/shadow": b"root:*:19876:0:99999:7:::\n",
    "etc/gshadow": b"root:*::\n",
    "usr/lib/python3.11/venv/scripts/common/activate": b"VIRTUAL_ENV=__VENV_DIR__\n",
}


def rootfs(path: Path, files: dict[str, bytes], links: dict[str, str] | None = None) -> RootFS:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size, info.mode, info.mtime = len(content), 0o644, 1_600_000_000
            archive.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(f"./{name}")
            info.type, info.linkname = tarfile.LNKTYPE, f"./{target}"
            archive.addfile(info)
        device = tarfile.TarInfo("./dev/null")
        device.type = tarfile.CHRTYPE
        archive.addfile(device)
    return read_rootfs(path, "deb somewhere\n")


def written(base: RootFS, path: Path, below: RootFS | None = None) -> dict[str, bytes]:
    with LayerWriter(path, packed=True) as writer:
        base.write(writer, below)
        writer.finish()
    with tarfile.open(path, "r:gz") as archive:
        return {
            i.name: f.read() if (f := archive.extractfile(i)) else b"" for i in archive if i.name
        }


def test_what_is_the_machine_s_or_the_day_s_is_dropped(tmp_path: Path) -> None:
    junk = ["etc/hostname", "etc/resolv.conf", "var/log/dpkg.log", "var/cache/apt/pkgcache.bin",
            "etc/passwd-", "var/lib/apt/lists/x", "tmp/x", "etc/machine-id"]  # fmt: skip
    base = rootfs(tmp_path / "a.tar", {"etc/os-release": b"x", **dict.fromkeys(junk, b"x")})
    files = [path for path, node in base.nodes.items() if node.entry.kind != "dir"]
    assert files == ["etc/os-release"]


def folder(path: str, mtime: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(f"./{path}")
    info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o755, mtime
    return info


def link(path: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(f"./{path}")
    info.type, info.linkname, info.mtime = tarfile.SYMTYPE, target, 1_600_000_000
    return info


def test_a_folder_s_time_does_not_tell_which_package_came_last(tmp_path: Path) -> None:
    times = []
    for date in (1_500_000_000, 1_550_000_000):
        with tarfile.open(tmp_path / "a.tar", "w") as archive:
            archive.addfile(folder("etc", date))
            archive.addfile(folder("etc/apt", 1_600_000_000))
        root = read_rootfs(tmp_path / "a.tar", "")
        times.append({path: node.mtime for path, node in root.nodes.items()})
    assert times == [{"etc": 1_600_000_000, "etc/apt": 1_600_000_000}] * 2


@pytest.mark.parametrize("used", [False, True])
def test_a_multilib_folder_without_content_is_mmdebstrap_s(tmp_path: Path, used: bool) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in ("lib64", "lib32", "libx32"):
            archive.addfile(link(name, f"usr/{name}"))
            archive.addfile(folder(f"usr/{name}", 0))
        archive.addfile(folder("usr/lib64/x", 0))
        if used:
            archive.addfile(folder("usr/lib32/gcc", 0))
    paths = set(read_rootfs(tmp_path / "a.tar", "").nodes)
    assert {"lib64", "usr/lib64", "usr/lib64/x"} <= paths
    assert {"lib32", "usr/lib32"} & paths == ({"lib32", "usr/lib32"} if used else set())
    assert not {"libx32", "usr/libx32"} & paths


def test_links_are_followed_inside_the_root(tmp_path: Path) -> None:
    links = {
        "lib": "usr/lib", "usr/lib64/ld.so": "/lib/gnu/ld.so", "usr/lib/up": "../../../../lib/gnu",
        "usr/lib/round": "/usr/lib/round", "usr/lib/a": "gnu/../b", "usr/lib/b": "/etc/b",
    }  # fmt: skip
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.addfile(folder("usr/lib/gnu/ld.so", 0))
        for path, target in links.items():
            archive.addfile(link(path, target))
    root = read_rootfs(tmp_path / "a.tar", "")
    assert root.real("usr/lib64/ld.so") == root.real("lib/up/ld.so") == "usr/lib/gnu/ld.so"
    assert root.real("lib/a") == "etc/b"  # which is not there
    with pytest.raises(BaseImageError, match="/lib/round of the base is a link"):
        root.real("lib/round")


def test_hard_links_survive_in_any_order(tmp_path: Path) -> None:
    base = rootfs(
        tmp_path / "a.tar", {"usr/bin/perl5.36": b"perl"}, {"usr/bin/perl": "usr/bin/perl5.36"}
    )
    files = written(base, tmp_path / "blob")
    assert files["usr/bin/perl"] == files["usr/bin/perl5.36"] == b"perl"


def test_the_difference_holds_only_what_is_new_or_changed(tmp_path: Path) -> None:
    lower = rootfs(tmp_path / "a.tar", {"etc/a": b"same", "etc/b": b"old"})
    upper = rootfs(tmp_path / "b.tar", {"etc/a": b"same", "etc/b": b"new", "usr/bin/git": b"git"})
    folders = dict.fromkeys(["etc", "usr", "usr/bin"], b"")
    found = written(upper, tmp_path / "blob", lower)
    assert found == {"etc/b": b"new", "usr/bin/git": b"git", **folders}


def test_the_difference_holds_folders_as_they_are_below(tmp_path: Path) -> None:
    lower = rootfs(tmp_path / "a.tar", {"srv/team/deep/a": b""})
    upper = rootfs(tmp_path / "b.tar", {"srv/team/deep/a": b"", "srv/team/deep/b": b""})
    shared = Node(Entry("srv/team", "dir", 0o2775, 0, 50), 1_600_000_000)
    with LayerWriter(tmp_path / "blob", packed=True) as writer:
        upper.overlaid({"srv/team": shared}).write(writer, lower.overlaid({"srv/team": shared}))
    assert [(x.path, x.mode, x.gid) for x in writer.entries] == [
        ("srv", 0o755, 0),
        ("srv/team", 0o2775, 50),
        ("srv/team/deep", 0o755, 0),
        ("srv/team/deep/b", 0o644, 0),
    ]


def test_a_flavour_may_only_add(tmp_path: Path) -> None:
    lower = rootfs(tmp_path / "a.tar", {"etc/a": b"", "etc/b": b""})
    upper = rootfs(tmp_path / "b.tar", {"etc/a": b""})
    with pytest.raises(BaseImageError, match="/etc/b is gone"):
        written(upper, tmp_path / "blob", lower)


def test_the_contract_is_computed_from_the_base_s_own_files(tmp_path: Path) -> None:
    base = apply_contract(
        rootfs(tmp_path / "a.tar", {**ACCOUNTS, "etc/skel/.bashrc": b"#"}), "3.11"
    )
    assert base.read("etc/passwd").endswith(b"dev:x:1000:1000::/home/dev:/bin/bash\n")
    assert b"venv:x:900:dev\n" in base.read("etc/group")
    assert b"19876" not in base.read("etc/shadow")  # a clock
    assert base.read("opt/venv/bin/activate") == b"VIRTUAL_ENV=/opt/venv\n"
    assert base.read("home/dev/.bashrc") == b"#"
    assert base.read("etc/apt/sources.list") == b"deb somewhere\n"
    site = base.nodes["opt/venv/lib/python3.11/site-packages"].entry
    assert (site.gid, site.mode) == (900, 0o2775)
    home = base.nodes["home/dev/.vscode-server/extensions"].entry
    assert (home.uid, home.gid, home.mode) == (1000, 0, 0o2775)


@pytest.mark.parametrize(
    "template",
    [
        'VIRTUAL_ENV="__VENV_DIR__"\nPS1="__VENV_PROMPT__${PS1:-}"\n',  # up to 3.12
        'VIRTUAL_ENV=__VENV_DIR__\nPS1=__VENV_PROMPT__"${PS1:-}"\n',  # Debian 12's, mended
        'VIRTUAL_ENV=__VENV_DIR__\nPS1="("__VENV_PROMPT__") ${PS1:-}"\n',  # 3.13
    ],
)
def test_a_shell_can_activate_the_environment(tmp_path: Path, template: str) -> None:
    files = {"usr/lib/python3.11/venv/scripts/common/activate": template.encode()}
    base = apply_contract(rootfs(tmp_path / "a.tar", {**ACCOUNTS, **files}), "3.11")
    script = base.read("opt/venv/bin/activate").decode() + 'echo "$VIRTUAL_ENV $PS1"'
    done = subprocess.run(
        ["sh", "-e", "-c", script], capture_output=True, text=True, env={"PS1": "$ "}, check=False
    )
    assert (done.stdout, done.stderr) == ("/opt/venv (venv) $ \n", "")


@pytest.mark.parametrize("kind", ["file", "hardlink"])
@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o6711])
def test_no_program_of_the_base_runs_as_somebody_else(tmp_path: Path, mode: int, kind: str) -> None:
    base = rootfs(
        tmp_path / "a.tar", {**ACCOUNTS, "usr/bin/su": b"su"}, {"usr/bin/it": "usr/bin/su"}
    )
    changed = {
        path: replace(node, entry=replace(node.entry, mode=mode))
        for path, node in base.nodes.items()
        if path in ("usr/bin/su", "usr/bin/it")
    }
    changed["srv"] = Node(Entry("srv", "dir", 0o2775, 0, 900), 0)
    made = apply_contract(base.overlaid(changed), "3.11")
    path = "usr/bin/su" if kind == "file" else "usr/bin/it"
    assert made.nodes[path].entry.mode == mode & 0o777
    assert made.read("usr/bin/it") == b"su"  # of two names the first has the content
    assert made.nodes["srv"].entry.mode == 0o2775  # a folder hands its group on


def test_a_registrys_image_keeps_its_programs(tmp_path: Path) -> None:
    home = "usr/bin/python3.11"
    base = rootfs(tmp_path / "a.tar", {**ACCOUNTS, "usr/bin/su": b"su", home: b""})
    su = base.nodes["usr/bin/su"]
    base = base.overlaid({"usr/bin/su": replace(su, entry=replace(su.entry, mode=0o4755))})
    made = apply_contract(base, "3.11", foreign=True)
    assert made.nodes["usr/bin/su"].entry.mode == 0o4755


def test_what_git_lfs_writes_in_any_order_is_sorted(tmp_path: Path) -> None:
    section, keys = b'[filter "lfs"]\n', [b"\tclean = x\n", b"\tsmudge = y\n"]
    contents = [section + b"".join(order) for order in (keys, keys[::-1])]
    bases = [
        apply_contract(rootfs(tmp_path / f"{i}.tar", {**ACCOUNTS, "etc/gitconfig": c}), "3.11")
        for i, c in enumerate(contents)
    ]
    ours = b"[safe]\n\tdirectory = /workspace\n\tdirectory = /workspace/*\n"
    assert {base.read("etc/gitconfig") for base in bases} == {ours + contents[0]}


@pytest.mark.parametrize("text", [b"# UNCONFIGURED FSTAB FOR BASE SYSTEM\n", b"# and more\n"])
def test_what_an_mmdebstrap_writes_of_mounts_is_the_same(tmp_path: Path, text: bytes) -> None:
    """Seen with 1.6.0, on a host with sid."""
    base = rootfs(tmp_path / "a.tar", {**ACCOUNTS, "etc/fstab": text})
    made = apply_contract(base, "3.11")
    assert made.read("etc/fstab") == b"# UNCONFIGURED FSTAB FOR BASE SYSTEM\n"
    assert made.nodes["etc/fstab"].mtime == base.nodes["etc/fstab"].mtime


def installed(path: Path, names: list[str]) -> RootFS:
    """A base in which packages added accounts in this order; /srv/NAME is NAME's."""
    files = {name: ACCOUNTS[f"etc/{name}"].decode() for name in ("passwd", "shadow")}
    files |= {name: ACCOUNTS[f"etc/{name}"].decode() for name in ("group", "gshadow")}
    files["passwd"] += "nobody:x:65534:65534:::\n"
    files["shadow"] += "nobody:*:19876::::::\n"
    files["group"] += "nogroup:x:65534:\n"
    files["gshadow"] += "nogroup:*::\n"
    nodes = {}
    for number, name in enumerate(names, 101):
        files["passwd"] += f"{name}:x:{number - 1}:{number}::/:/bin/false\n"
        files["shadow"] += f"{name}:!:19876::::::\n"
        files["group"] += f"{name}:x:{number}:root\n"
        files["gshadow"] += f"{name}:!::root\n"
        nodes[f"srv/{name}"] = Node(Entry(f"srv/{name}", "dir", 0o755, number - 1, number), 0)
    contents = {f"etc/{name}": text.encode() for name, text in files.items()}
    return apply_contract(rootfs(path, {**ACCOUNTS, **contents}).overlaid(nodes), "3.11")


def test_accounts_have_the_same_numbers_whichever_package_came_first(tmp_path: Path) -> None:
    lower = steady_accounts(installed(tmp_path / "a.tar", ["rdma"]), None)
    found = []
    for names in itertools.permutations(["_ssh", "rdma", "avahi"]):
        root = steady_accounts(installed(tmp_path / "b.tar", list(names)), lower)
        texts = [root.read(f"etc/{name}") for name in ("passwd", "shadow", "group", "gshadow")]
        nodes = {name: root.nodes[f"srv/{name}"].entry for name in ("rdma", "_ssh", "avahi")}
        owners = {name: (node.uid, node.gid) for name, node in nodes.items()}
        found.append((texts, owners))
    assert [found[0]] * len(found) == found
    texts, owners = found[0]
    assert owners == {"rdma": (100, 101), "_ssh": (101, 102), "avahi": (102, 103)}
    assert texts[0].splitlines()[-3:] == [
        f"{name}:x:{uid}:{gid}::/:/bin/false".encode() for name, (uid, gid) in owners.items()
    ]
    assert texts[3].splitlines()[-3:] == [f"{name}:!::root".encode() for name in owners]


def test_what_is_as_it_should_be_keeps_its_bytes(tmp_path: Path) -> None:
    base = installed(tmp_path / "a.tar", ["_ssh", "rdma"])
    steady = steady_accounts(base, None)
    for name in ("passwd", "shadow", "group", "gshadow"):
        assert steady.read(f"etc/{name}") == base.read(f"etc/{name}")
        assert steady.nodes[f"etc/{name}"].entry == base.nodes[f"etc/{name}"].entry


def test_accounts_that_do_not_go_with_the_flavour_below_are_refused(tmp_path: Path) -> None:
    lower = steady_accounts(installed(tmp_path / "a.tar", ["a", "b", "rdma"]), None)
    with pytest.raises(BaseImageError, match=r"numbers in /etc/passwd do not match"):
        steady_accounts(installed(tmp_path / "b.tar", ["rdma"]), lower)


def test_folders_that_upper_layers_hold_are_the_same_in_every_base(tmp_path: Path) -> None:
    base = rootfs(tmp_path / "a.tar", ACCOUNTS)
    staff = Node(Entry("usr/local", "dir", 0o2775, 0, 50), 1_600_000_000)
    entry = apply_contract(base.overlaid({"usr/local": staff}), "3.11").nodes["usr/local"].entry
    assert (entry.mode, entry.uid, entry.gid) == (0o755, 0, 0)


def test_a_base_with_a_link_in_place_of_such_a_folder_is_refused(tmp_path: Path) -> None:
    link = Node(Entry("opt", "symlink", 0o777, 0, 0, link="usr/opt"), 0)
    base = rootfs(tmp_path / "a.tar", ACCOUNTS).overlaid({"opt": link})
    with pytest.raises(BaseImageError, match="/opt is a symlink in the base"):
        apply_contract(base, "3.11")


@pytest.mark.parametrize("line", [b"dev:x:1234:1:::\n", b"other:x:1000:1:::\n"])
def test_a_base_that_uses_our_names_or_numbers_is_refused(tmp_path: Path, line: bytes) -> None:
    files = {**ACCOUNTS, "etc/passwd": ACCOUNTS["etc/passwd"] + line}
    with pytest.raises(BaseImageError, match="to be free"):
        apply_contract(rootfs(tmp_path / "a.tar", files), "3.11")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BaseImageError, match="no file /etc/passwd"):
        apply_contract(rootfs(tmp_path / "a.tar", {"etc/other": b""}), "3.11")


def test_the_source_date_is_the_newest_package_s(tmp_path: Path) -> None:
    debs = []
    for date in (1_600_000_000, 1_700_000_000, 1_650_000_000):
        path = tmp_path / f"{date}.deb"
        member = f"{'debian-binary':<16}{date:<12}{0:<6}{0:<6}{'100644':<8}{4:<10}`\n2.0\n"
        path.write_bytes(b"!<arch>\n" + member.encode())
        debs.append(path)
    assert source_date(debs) == 1_700_000_000


def test_mmdebstrap_may_install_what_is_locked_and_nothing_else(tmp_path: Path) -> None:
    deb = LockedDeb("tini", "0.19.0-1+b3", "amd64", "0" * 64, 1, "debian", "pool/t.deb")
    lock = PackageLock("bookworm", "runtime", "bookworm", "0" * 64, (deb,))
    argv = bootstrap_command(lock, tmp_path, tmp_path / "root.tar")
    assert "--include=tini=0.19.0-1+b3" in argv
    assert [word for word in argv if "://" in word] == []
    assert argv[-1] == f"deb [trusted=yes] copy:{tmp_path} ./"


def test_a_blank_in_the_temporary_folder_s_name_does_not_split_the_source(tmp_path: Path) -> None:
    lock = PackageLock("bookworm", "runtime", "bookworm", "0" * 64, ())
    argv = bootstrap_command(lock, tmp_path / "else where", tmp_path / "root.tar")
    assert argv[-1] == f"deb [trusted=yes] copy:{tmp_path}/else%20where ./"
