"""A wheel is data from a stranger: refused with its name, or installed as pip and uv install it.

Everything here goes the way a build takes: a wheel in, a layer or a WheelError out.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from wheels import Files, make_wheel

from wheelyard.contract.paths import VENV
from wheelyard.errors import WheelError
from wheelyard.images.assemble import compile_worker
from wheelyard.images.assemble.accounts import empty_environment
from wheelyard.images.assemble.worker import WheelJob, make_layer
from wheelyard.layers import toc
from wheelyard.layers import wheel as wheel_module
from wheelyard.layers.errors import LayersError
from wheelyard.layers.install import plan_install
from wheelyard.layers.layer import LayerWriter
from wheelyard.layers.wheel import Wheel
from wheelyard.layers.wheels import WheelInput

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
UV = str(Path(sys.executable).with_name("uv"))
INFO = "demo-1.0.dist-info"
DATA = "demo-1.0.data"


def layer_of(folder: Path, *wheels: Path) -> set[str]:
    """The paths of a layer that is made of wheels."""
    inputs = tuple(WheelInput(path, *path.name.split("-")[:2]) for path in wheels)
    job = WheelJob("key", "title", inputs, PYTHON, folder / "scratch")
    layer = make_layer(job)
    text = (folder / "scratch.toc").read_text()
    return {entry.path for entry in toc.parse(text, layer.digest)}


def refused(folder: Path, extra: Files, message: str) -> None:
    path = make_wheel(folder, extra=extra)
    with pytest.raises(WheelError, match=message) as caught:
        layer_of(folder, path)
    assert path.name in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "name",
    [
        ".wh.torch",
        "demo/.wh..wh..opq",
        "demo/.wh.a/b.py",
        f"{DATA}/data/share/.wh.x",
        f"{DATA}/scripts/.wh.pip",
    ],
)
def test_no_name_that_deletes_files(tmp_path: Path, name: str) -> None:
    refused(tmp_path, {name: b""}, "would delete files")


def test_no_script_that_deletes_files(tmp_path: Path) -> None:
    refused(tmp_path, points("[console_scripts]\n.wh.pip = demo:f\n"), r"\.wh\.pip")


def test_no_layer_deletes_files(tmp_path: Path) -> None:
    with LayerWriter(tmp_path / "blob") as writer, pytest.raises(LayersError, match="delete"):
        writer.file(".wh.etc", b"", 0o644)


@pytest.mark.parametrize(
    "name",
    [
        f"{DATA}/scripts/python",
        f"{DATA}/scripts/python3",
        f"{DATA}/scripts/python{PYTHON}",
        f"{DATA}/scripts/activate",
        f"{DATA}/data/pyvenv.cfg",
        f"{DATA}/data/bin/activate",
        f"{DATA}/data/bin",
        f"{DATA}/data/lib",
        f"{DATA}/data/include",
        f"{DATA}/data/lib64",
        f"{DATA}/data/lib/python{PYTHON}",
        f"{DATA}/data/lib/python{PYTHON}/site-packages",
    ],
)
def test_the_environment_has_one_owner(tmp_path: Path, name: str) -> None:
    refused(tmp_path, {name: b"mine"}, "would replace /opt/venv/.*belongs to the environment")


@pytest.mark.parametrize("name", ["lib64/x", "pyvenv.cfg/x", "bin/python/x"])
def test_no_folder_in_place_of_the_environment_s_files(tmp_path: Path, name: str) -> None:
    refused(tmp_path, {f"{DATA}/data/{name}": b"mine"}, "would be below /opt/venv/")


def test_no_entry_point_in_place_of_the_environment_s_python(tmp_path: Path) -> None:
    refused(tmp_path, points("[console_scripts]\npython = demo:f\n"), "would replace")


@pytest.mark.parametrize("name", ["demo/m.py/x.py", f"{INFO}/RECORD/x", f"{INFO}/INSTALLER/x"])
def test_no_path_is_a_file_and_a_folder(tmp_path: Path, name: str) -> None:
    refused(tmp_path, {"demo/m.py": b"", name: b""}, "would be below")


@pytest.mark.parametrize("turned", [False, True])
def test_no_path_is_a_file_in_one_wheel_and_a_folder_in_another(
    tmp_path: Path, turned: bool
) -> None:
    one = make_wheel(tmp_path, "one", files={"shared": b"a file"})
    other = make_wheel(tmp_path, "other", files={"shared/a/b.py": b"below"})
    with pytest.raises(WheelError, match="as a file and as a folder"):
        layer_of(tmp_path, *((other, one) if turned else (one, other)))


def points(text: str | bytes) -> dict[str, bytes | str]:
    return {f"{INFO}/entry_points.txt": text}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[console_scripts]\na = demo:f\n# \xe9\n", "not UTF-8"),
        ("[console_scripts]\na = demo\n", "is not a callable"),
        ("[console_scripts]\na = demo:f[\n", "is not a callable"),
        ("[console_scripts]\na = demo:f; import os\n", "is not a callable"),
        ("[console_scripts]\na\n", "without `=`"),
        ("[other]\nthis is no pair\n", "without `=`"),
        ("[console_scripts]\n= demo:f\n", "leaves bin"),
        ("[console_scripts]\na/b = demo:f\n", "leaves bin"),
        ("[console_scripts]\na\x1b[2J = demo:f\n", "leaves bin"),
        (f"[console_scripts]\n{'a' * 256} = demo:f\n", "leaves bin"),
    ],
)
def test_entry_points_that_nobody_installs(tmp_path: Path, text: str | bytes, message: str) -> None:
    refused(tmp_path, points(text), message)


TAKEN_BY_PIP = (
    b"\xef\xbb\xbf[console_scripts]\na0 = demo:f\n[gui_scripts]\nb0 = demo:f\n",
    b"[console_scripts]\na1 = demo:f\n[console_scripts]\nb1 = demo:f\n",
    b"[console_scripts]\na2 = demo:f\na2 = demo:g\n",
    b"hello\n[console_scripts]\na3 = demo:f\n",
    b"[console_scripts]\na5 = demo:f [extra]\nb5=demo:f.g\n# c5 = demo:f\nd5 = demo:f # why\n",
    b"[console_scripts]\npip = demo:f\npip3 = demo:f\npip3.6 = demo:f\nz6 = demo:f\n",
    b"[console_scripts]\neasy_install = demo:f\neasy_install-3.6 = demo:f\npip4 = demo:f\n",
)


def test_a_percent_sign_is_part_of_a_name(tmp_path: Path) -> None:
    """As for pip 26 and uv; older pips cut the name there."""
    text = "[console_scripts]\na%b = demo:f\nc%(x)s = demo:f\n"
    made = layer_of(tmp_path, make_wheel(tmp_path, extra=points(text)))
    assert {f"{VENV}/bin/a%b", f"{VENV}/bin/c%(x)s"} <= set(made)


def test_entry_points_that_pip_installs(tmp_path: Path) -> None:
    wheels, ours = [], set()
    for number, text in enumerate(TAKEN_BY_PIP):
        name = f"demo{number}"
        scripts = {
            f"{name}-1.0.data/scripts/{x}{number}{ending}": b"#!python\nown\n"
            for x, ending in (("a", "-script.py"), ("b", ".exe"), ("c", ".exe"))
        }
        extra = {f"{name}-1.0.dist-info/entry_points.txt": text, **scripts}
        wheels.append(make_wheel(tmp_path, name, files={f"{name}.py": ""}, extra=extra))
        ours |= {path for path in layer_of(tmp_path, wheels[-1]) if "/bin/" in path}
    root = tmp_path / "root"
    subprocess.run(
        [sys.executable, "-m", "pip", "--isolated", "install", "--quiet", "--no-index", "--no-deps",
         "--no-compile", "--root", str(root), "--prefix", f"/{VENV}", *map(str, wheels)],
        check=True,
    )  # fmt: skip
    assert ours == {str(p.relative_to(root)) for p in root.rglob("bin/*")}
    assert f"{VENV}/bin/pip{PYTHON}" in ours


def test_headers_go_where_pip_and_uv_put_them(tmp_path: Path) -> None:
    name = "pybind11_global"
    path = make_wheel(tmp_path, name, extra={f"{name}-1.0.data/headers/a.h": ""})
    with Wheel(path) as wheel:
        plan = plan_install(wheel, "pybind11-global", "1.0", empty_environment(PYTHON))
    (ours,) = (t.path for t in plan if t.path.endswith(".h"))
    (by_pip,) = installed(tmp_path, [sys.executable, "-m", "pip", "install", "--no-index",
                                     "--find-links", str(tmp_path)]).rglob("a.h")  # fmt: skip
    (by_uv,) = installed(tmp_path, [UV, "pip", "install", "--offline", "--no-config",
                                    "--find-links", str(tmp_path)]).rglob("a.h")  # fmt: skip
    assert Path(ours).parent.name == by_pip.parent.name == by_uv.parent.name == "pybind11-global"


def installed(folder: Path, command: list[str]) -> Path:
    """Where another installer put what a lock's line asks for."""
    lock, root = folder / "requirements.txt", folder / Path(command[0]).name
    lock.write_text("pybind11-global==1.0\n")
    subprocess.run([*command, "--quiet", "--prefix", str(root), "-r", str(lock)], check=True)
    return root


def test_long_scripts_run_the_environment_s_python(tmp_path: Path) -> None:
    body = b"x = 1\n" * 500_000
    path = make_wheel(tmp_path, extra={f"{DATA}/scripts/long": b"#!python\n" + body})
    with Wheel(path) as wheel:
        targets = {t.path: t for t in plan_install(wheel, "demo", "1.0", empty_environment(PYTHON))}
    assert targets[f"{VENV}/bin/long"].content == f"#!/{VENV}/bin/python\n".encode() + body


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (b"demo/\xe9.py,,\n", "RECORD is damaged"),
        (f"demo/{'a' * 200_000}.py,,\n".encode(), "RECORD is damaged"),
        (b'"demo/a.py,,\n', "RECORD is damaged"),
        (b"demo/a.py,\n", "RECORD is damaged"),
    ],
)
def test_a_record_that_nobody_can_read(tmp_path: Path, record: bytes, message: str) -> None:
    refused(tmp_path, {f"{INFO}/RECORD": record}, message)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("demo/a\x1b[2J.py", "control characters"),
        (f"demo/{'a' * 300}.py", "too long"),
        ("/".join(["demo"] * 500), "too long"),
    ],
)
def test_names_that_no_file_has(tmp_path: Path, name: str, message: str) -> None:
    refused(tmp_path, {name: b""}, message)


class TestDirectory:
    """Damage of a zip's own tables."""

    def damaged(self, folder: Path, change: str) -> Path:
        path = make_wheel(folder)
        data = bytearray(path.read_bytes())
        entry, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
        if change == "version":
            data[entry + 6] = 0x7F  # needed to extract: 12.7
        elif change == "name":
            data[entry + 9] |= 0x08  # says UTF-8
            data[entry + 46] = 0xFF
        elif change == "negative":
            struct.pack_into(
                "<I", data, end + 16, struct.unpack_from("<I", data, end + 16)[0] + 999
            )
        elif change == "member":
            struct.pack_into("<I", data, entry + 42, 0xFFFF_FFF0)
        elif change == "huge":
            struct.pack_into("<I", data, end + 12, 0xFFFF_FF00)
        path.write_bytes(data)
        return path

    @pytest.mark.parametrize("change", ["version", "name", "negative", "member", "huge"])
    def test_is_the_wheel_s_fault(self, tmp_path: Path, change: str) -> None:
        path = self.damaged(tmp_path, change)
        with pytest.raises(WheelError, match=path.name):
            layer_of(tmp_path, path)

    def test_bounds(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = make_wheel(tmp_path)
        monkeypatch.setattr(wheel_module, "MEMBERS_MAX", 3)
        with pytest.raises(LayersError, match="more than 3 files"):
            Wheel(path)
        monkeypatch.setattr(wheel_module, "DIRECTORY_MAX", 3)
        with pytest.raises(LayersError, match="more than 3 bytes"):
            Wheel(path)


def test_modules_that_take_too_much_to_compile_get_no_bytecode(tmp_path: Path) -> None:
    modules = {"dense.py": "[]," * 340_000, "deep.py": "-" * 100_000 + "1", "fine.py": "x = 1\n"}
    path = make_wheel(tmp_path, files=modules)
    job = {
        "wheel": str(path),
        "output": str(tmp_path / "out"),
        "modules": [[name, f"/{name}"] for name in modules],
    }
    script = (  # this machine's own Python is not the image's, which the worker says at its end
        "import contextlib, resource, runpy, sys\n"
        "with contextlib.suppress(SystemExit): runpy.run_path(sys.argv[1], run_name='__main__')\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(Path(compile_worker.__file__))],
        input=json.dumps(job), check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert int(done.stdout) < 500 << 20
    lengths = []
    with (tmp_path / "out").open("rb") as out:
        while head := out.read(4):
            lengths.append(struct.unpack(">I", head)[0])
            out.seek(lengths[-1], 1)
    assert lengths[:2] == [0, 0]
    assert lengths[2] > 0
