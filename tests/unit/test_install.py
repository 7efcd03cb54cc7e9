"""Our rules for installing a wheel against pip's own."""

import subprocess
import sys
from pathlib import Path

import pytest
from wheels import make_wheel

from wheelyard.contract.paths import VENV
from wheelyard.images.assemble.accounts import empty_environment
from wheelyard.layers.errors import WheelError
from wheelyard.layers.install import plan_install
from wheelyard.layers.wheel import Wheel

FILES: dict[str, bytes | str] = {
    "demo/__init__.py": "",
    "demo/main.py": "def run(): print('hi')\n",
    "demo/lib.so": b"\x7fELF" + bytes(100),
    "demo-1.0.data/scripts/demo-script": "#!python -E\nprint('script')\n",
    "demo-1.0.data/scripts/demo-binary": b"\x7fELFbinary",
    "demo-1.0.data/data/share/demo/data.txt": "data",
    "demo-1.0.data/purelib/demo/pure.py": "PURE = 1\n",
    "demo-1.0.data/platlib/demo/plat.py": "PLAT = 1\n",
    "demo-1.0.data/headers/demo.h": "#define DEMO 1\n",
    "demo-1.0.dist-info/entry_points.txt": (
        "[console_scripts]\ndemo = demo.main:run\n[gui_scripts]\ndemo-gui = demo.main:run\n"
    ),
}


def test_same_files_as_pip(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, files=FILES)
    subprocess.run(
        [sys.executable, "-m", "pip", "--isolated", "install", "--quiet", "--no-index",
         "--no-deps", "--no-compile", "--root", str(tmp_path / "root"),
         "--prefix", f"/{VENV}", str(path)],
        check=True,
    )  # fmt: skip
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    root = tmp_path / "root"
    by_pip = {str(p.relative_to(root)): p for p in root.rglob("*") if p.is_file()}
    with Wheel(path) as wheel:
        ours = {t.path: t for t in plan_install(wheel, "demo", "1.0", empty_environment(python))}
        assert {p for p in by_pip if not p.endswith(("REQUESTED", "direct_url.json"))} == set(ours)
        for name, target in ours.items():
            if name.endswith(("/RECORD", "/INSTALLER")) or "/bin/" in name:
                continue
            content = wheel.read(target.member) if target.member else target.content
            assert content == by_pip[name].read_bytes(), name
    assert ours[f"{VENV}/bin/demo"].executable


def test_scripts_run_the_environment_s_python(tmp_path: Path) -> None:
    with Wheel(make_wheel(tmp_path, files=FILES)) as wheel:
        targets = {t.path: t for t in plan_install(wheel, "demo", "1.0", empty_environment("3.11"))}
    shebang = f"#!/{VENV}/bin/python".encode()
    assert targets[f"{VENV}/bin/demo-script"].content.startswith(shebang + b" -E\n")
    assert targets[f"{VENV}/bin/demo"].content.startswith(shebang + b"\n")
    assert b"run" in targets[f"{VENV}/bin/demo"].content


def test_record_lists_what_is_installed(tmp_path: Path) -> None:
    with Wheel(make_wheel(tmp_path, files=FILES)) as wheel:
        targets = plan_install(wheel, "demo", "1.0", empty_environment("3.11"))
    record = next(t.content for t in targets if t.path.endswith("/RECORD")).decode()
    listed = {line.split(",")[0] for line in record.splitlines()}
    assert {"demo/main.py", "../../../bin/demo", "../../../share/demo/data.txt"} <= listed
    assert len(listed) == len(targets)


@pytest.mark.parametrize(("name", "version"), [("other", "1.0"), ("demo", "2.0")])
def test_another_distribution_than_locked(tmp_path: Path, name: str, version: str) -> None:
    with (
        Wheel(make_wheel(tmp_path)) as wheel,
        pytest.raises(WheelError, match=rf"demo 1\.0, the lock says {name} {version}"),
    ):
        plan_install(wheel, name, version, empty_environment("3.11"))


def test_normalized_names_are_the_same_distribution(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, "My.Demo_pkg", "1.0")
    with Wheel(path) as wheel:
        assert plan_install(wheel, "my-demo-pkg", "1.0.0", empty_environment("3.11"))


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"demo-1.0.dist-info/WHEEL": "Wheel-Version: 2.0\n"}, "not supported"),
        ({"demo-1.0.data/evil/x": "x"}, "unknown scheme"),
        ({"demo-1.0.dist-info/RECORD": "only,one\n"}, "RECORD is damaged"),
        (
            {"demo-1.0.dist-info/entry_points.txt": "[console_scripts]\n../x = demo:f\n"},
            "leaves bin",
        ),
        ({"other-1.0.dist-info/METADATA": "x"}, "expected one .dist-info"),
        ({"demo-1.0.data/purelib/demo/__init__.py": "different"}, "both install to"),
    ],
)
def test_refuses(tmp_path: Path, extra: dict[str, str], message: str) -> None:
    path = make_wheel(tmp_path, extra=extra)
    with Wheel(path) as wheel, pytest.raises(WheelError, match=message):
        plan_install(wheel, "demo", "1.0", empty_environment("3.11"))


def test_no_wheel_at_all(tmp_path: Path) -> None:
    path = make_wheel(tmp_path)
    import zipfile

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "just a zip")
    with Wheel(path) as wheel, pytest.raises(WheelError, match=r"expected one \.dist-info"):
        plan_install(wheel, "demo", "1.0", empty_environment("3.11"))


def test_bytecode_in_a_wheel_gives_way_to_our_own(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {
        "demo/a.py": "A = 1\n",
        "demo/__pycache__/a.cpython-311.pyc": b"stale",
    }
    with Wheel(make_wheel(tmp_path, files=files)) as wheel:
        targets = plan_install(wheel, "demo", "1.0", empty_environment("3.11"))
    assert not [t.path for t in targets if t.path.endswith(".pyc")]
    record = next(t.content for t in targets if t.path.endswith("/RECORD"))
    assert b".pyc" not in record
