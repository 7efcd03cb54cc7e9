"""Whole builds of a tiny project: results, reproducibility, and what happens when things break."""

import io
import json
import os
import pickle
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny import Tiny, locked, make_tiny, put_wheel, write_lock
from wheels import make_wheel

from wheelyard.console.progress import QuietReporter
from wheelyard.contract.imageconfig import base_image
from wheelyard.contract.paths import LOCK
from wheelyard.errors import InspectError, LockError, StorageError, WheelError, WheelyardError
from wheelyard.images.assemble.store import LayerStore
from wheelyard.images.build.bases import build_bases
from wheelyard.images.build.build import build_images, read_tree
from wheelyard.images.build.loading import NullReceiver
from wheelyard.images.build.report import read_report
from wheelyard.images.build.results import Built, Failed
from wheelyard.images.inspect.inspect import inspect_image, inspect_layout_image, require
from wheelyard.images.inspect.tree import Tree
from wheelyard.layers.toc import Entry
from wheelyard.lock.stages import load_stages
from wheelyard.oci.layout import Layout
from wheelyard.system.storage import file_digest

HERE = Path(__file__).parents[1] / "unit"
pytestmark = pytest.mark.skipif(
    not Path("/lib64/ld-linux-x86-64.so.2").exists(), reason="needs Linux on x86_64"
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def dist(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("out") / "dist"
    results = build_images(tiny.plan.cells, tiny.plan, output, tiny.context)
    assert [type(r) for r in results] == [Built, Built], results
    return output


def build(tiny: Tiny, output: Path, **options: Any) -> list[Built | Failed]:
    return build_images(tiny.plan.cells, tiny.plan, output, tiny.context, **options)


def digests(output: Path) -> dict[str, str]:
    return {name: d.digest for name, d in Layout(output).references().items()}


def unpack(output: Path, tag: str) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    """Path -> entry and content, upper layers over lower ones."""
    layout = Layout(output)
    manifest = layout.read_json(layout.references()[tag].digest)
    files = {}
    for layer in manifest["layers"]:
        with tarfile.open(layout.blob(layer["digest"]), "r:gz") as archive:
            for info in archive:
                content = archive.extractfile(info) if info.isreg() else None
                files[info.name] = (info, content.read() if content else b"")
    return files


class TestImage:
    def test_report_says_what_is_there(self, tiny: Tiny, dist: Path) -> None:
        images = json.loads((dist / "build.json").read_text())["images"]
        assert [i["id"] for i in images] == sorted(c.id for c in tiny.plan.cells)
        for image in images:
            for tag in image["tags"]:
                assert digests(dist)[tag] == image["digest"]
            assert image["compressed_bytes"] > sum(x["size"] for x in image["layers"])
        devel, runtime = images
        assert devel["new_bytes"] < runtime["new_bytes"]

    def test_every_blob_has_its_digest(self, dist: Path) -> None:
        for blob in (dist / "blobs/sha256").iterdir():
            assert file_digest(blob) == f"sha256:{blob.name}"

    def test_files_users_and_folders(self, tiny: Tiny, dist: Path) -> None:
        files = unpack(dist, tiny.cell("devel").tags[0])
        site = next(p for p in files if p.endswith("site-packages"))
        assert files[f"{site}/torch/version.py"][1].startswith(b"__version__")
        assert b"dev:x:1000:1000" in files["etc/passwd"][1]
        assert b"venv:x:900:dev" in files["etc/group"][1]
        assert b"_ssh" in files["etc/group"][1]
        assert b":19000:" not in files["etc/shadow"][1]
        info = files["opt/venv"][0]
        assert (info.uid, info.gid, info.mode) == (0, 900, 0o2775)
        assert files["opt/venv/bin/pip"][0].mode == 0o775
        assert "etc/hostname" not in files
        assert "var/log/dpkg.log" not in files
        assert json.loads(files["opt/wheelyard/cell.json"][1])["flavour"] == "devel"
        assert files[LOCK][1] == (tiny.folder / tiny.cell("devel").lock).read_bytes()

    def test_bytecode_is_hash_based_and_current(self, tiny: Tiny, dist: Path) -> None:
        import importlib.util

        files = unpack(dist, tiny.cell("runtime").tags[0])
        tag = sys.implementation.cache_tag
        site = next(p for p in files if p.endswith("site-packages"))
        pyc = files[f"{site}/torch/__pycache__/module_3.{tag}.pyc"][1]
        source = files[f"{site}/torch/module_3.py"][1]
        assert pyc[:4] == importlib.util.MAGIC_NUMBER
        assert int.from_bytes(pyc[4:8], "little") == 0b11  # hash-based, checked (PEP 552)
        assert pyc[8:16] == importlib.util.source_hash(source)
        assert f"{site}/torch/__pycache__/broken_template.{tag}.pyc" not in files
        assert f"{site}/pip/tests/__pycache__/test_pip.{tag}.pyc" not in files

    def test_siblings_share_their_layers_from_the_bottom(self, tiny: Tiny, dist: Path) -> None:
        layout = Layout(dist)
        layers = [
            [x["digest"] for x in layout.read_json(digests(dist)[tiny.cell(f).tags[0]])["layers"]]
            for f in ("runtime", "devel")
        ]
        assert layers[1][: len(layers[0]) - 1] == layers[0][:-1]

    def test_inspection_from_the_blobs_alone(self, tiny: Tiny, dist: Path) -> None:
        for cell in tiny.plan.cells:
            lock = load_stages(cell, tiny.plan, tiny.folder)[-1].lock
            findings = inspect_layout_image(
                cell, lock, Layout(dist), digests(dist)[cell.tags[0]], lambda _: None
            )
            assert all(f.ok for f in findings), findings

    def test_inspection_misses_the_folders_of_a_layer(self, tiny: Tiny, dist: Path) -> None:
        """An engine would make them anew."""
        cell = tiny.cell("devel")
        built = next(x for x in build(tiny, dist) if isinstance(x, Built) and x.cell == cell)
        *layers, top = read_tree(built.image, LayerStore(tiny.context.settings.cache_dir)).layers
        files = [entry for entry in top.entries if entry.kind != "dir"]
        lock = load_stages(cell, tiny.plan, tiny.folder)[-1].lock
        tree = Tree([*layers, replace(top, entries=files)])
        findings = inspect_image(cell, lock, {"config": {"User": "1000"}}, tree)
        with pytest.raises(InspectError, match=r"parent folders: .*/etc is missing \(and \d"):
            require(cell.id, findings)

    def test_a_setuid_program_more_is_noticed(self, tiny: Tiny, dist: Path) -> None:
        """Such as a layer that somebody has put on top."""
        cell = tiny.cell("devel")
        built = next(x for x in build(tiny, dist) if isinstance(x, Built) and x.cell == cell)
        layers = read_tree(built.image, LayerStore(tiny.context.settings.cache_dir)).layers
        program = Entry("usr/bin/backdoor", "file", 0o4755, 0, 0)
        more = replace(layers[-1], entries=[*layers[-1].entries, program])
        lock = load_stages(cell, tiny.plan, tiny.folder)[-1].lock
        findings = inspect_image(
            cell, lock, {"config": {"User": "1000"}}, Tree([*layers[:-1], more])
        )
        with pytest.raises(InspectError, match=r"setuid programs: .*usr/bin/backdoor"):
            require(cell.id, findings)


class TestReproducible:
    @pytest.mark.parametrize("workers", [1, 2])
    def test_from_an_empty_cache_in_another_environment(
        self, tiny: Tiny, dist: Path, tmp_path: Path, workers: int
    ) -> None:
        script = (
            "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]);"
            "from tiny import make_tiny; from wheelyard.images.build.build import build_images;"
            "folder = Path(sys.argv[2]);"
            "t = make_tiny(folder).with_cache(folder / 'c', int(sys.argv[3]));"
            "print(build_images(t.plan.cells, t.plan, folder / 'dist', t.context))"
        )
        environment = {
            **os.environ, "TZ": "Asia/Kathmandu", "LANG": "de_DE.UTF-8", "LC_ALL": "C",
            "PYTHONHASHSEED": str(workers), "HOME": str(tmp_path), "TMPDIR": str(tmp_path),
        }  # fmt: skip
        elsewhere = tmp_path / "else where" / str(workers)
        subprocess.run(
            [sys.executable, "-c", script, str(HERE), str(elsewhere), str(workers)],
            check=True,
            env=environment,
            umask=0o077,
            cwd=HERE.parents[1],
        )
        assert digests(elsewhere / "dist") == digests(dist)

    def test_nothing_changed(self, tiny: Tiny, dist: Path) -> None:
        before = {p: p.stat().st_mtime_ns for p in (dist / "blobs/sha256").iterdir()}
        results = build(tiny, dist)
        assert all(isinstance(r, Built) for r in results)
        assert {p: p.stat().st_mtime_ns for p in (dist / "blobs/sha256").iterdir()} == before
        assert all("fetch" not in r.seconds for r in results if isinstance(r, Built))


@pytest.fixture
def broken(tmp_path: Path) -> Tiny:
    """A project of its own, for tests that damage it."""
    return make_tiny(tmp_path / "tiny")


class TestBadLocks:
    def test_of_a_base(self, broken: Tiny, tmp_path: Path) -> None:
        """An engine builds the images on other bases."""
        (broken.folder / broken.cell("runtime").base_lock).write_text("nothing")
        given: Any = (broken.plan.cells, broken.plan, tmp_path / "bases", broken.context)
        missing: dict[str, WheelyardError] = {}
        assert build_bases(*given, load=None, missing=missing) == []
        assert isinstance(missing[base_image(broken.plan.cells[0])], LockError)
        with pytest.raises(LockError):
            build_bases(*given, load=None)

    def test_missing(self, broken: Tiny, tmp_path: Path) -> None:
        (broken.folder / broken.cell("devel").lock).unlink()
        runtime, devel = build(broken, tmp_path / "dist")
        assert isinstance(runtime, Built)  # a failure stops nobody else
        assert isinstance(devel, Failed)
        assert isinstance(devel.error, LockError)
        assert "wheelyard lock" in str(devel.error)

    def test_edited_by_hand(self, broken: Tiny, tmp_path: Path) -> None:
        path = broken.folder / broken.cell("runtime").lock
        path.write_text(path.read_text().replace("2.20.5", "2.20.6"))
        result = build(broken, tmp_path / "dist", fail_fast=True)
        assert len(result) == 1
        assert isinstance(result[0], Failed)
        assert isinstance(result[0].error, LockError)

    def test_for_another_cell(self, broken: Tiny) -> None:
        runtime, devel = broken.cell("runtime"), broken.cell("devel")
        (broken.folder / runtime.lock).write_text((broken.folder / devel.lock).read_text())
        with pytest.raises(LockError, match=f"is the lock of .{devel.id}"):
            load_stages(runtime, broken.plan, broken.folder)

    def test_older_than_the_matrix(self, broken: Tiny) -> None:
        cell = broken.cell("runtime")
        changed = replace(cell, requirements=(*cell.requirements, "scipy"))
        plan = replace(broken.plan, cells=(changed, broken.cell("devel")))
        with pytest.raises(LockError, match="is stale"):
            load_stages(changed, plan, broken.folder)


class TestBugs:
    """What nobody expected ends one image, not the batch."""

    class Loader:
        def __init__(self, error: Exception) -> None:
            self.error = error

        def ahead(self, *_: object) -> AbstractContextManager[NullReceiver]:
            return nullcontext(NullReceiver())

        def image(self, _image: object, tags: Sequence[str], _layout: object) -> None:
            if "devel" not in tags[0]:
                raise self.error

    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (ZeroDivisionError("oh"), 70),
            (MemoryError(), 70),
            (OSError(5, "Input/output error"), 10),
            (OSError("odd"), 70),
        ],
    )
    def test_the_next_image_is_built(
        self, tiny: Tiny, tmp_path: Path, error: Exception, code: int
    ) -> None:
        said = io.StringIO()
        context = replace(tiny.context, reporter=QuietReporter(said))
        loader: Any = self.Loader(error)
        cells = sorted(tiny.plan.cells, key=lambda cell: cell.flavour.name, reverse=True)
        runtime, devel = build_images(cells, tiny.plan, tmp_path / "dist", context, load=loader)
        assert isinstance(runtime, Failed)
        assert isinstance(devel, Built)
        assert runtime.error.exit_code == code
        assert set(digests(tmp_path / "dist")) == set(devel.cell.tags)
        assert ("raise self.error" in said.getvalue()) == (code == 70)
        assert ("this is a bug in wheelyard" in said.getvalue()) == (code == 70)


class TestBadWheels:
    def swap(self, tiny: Tiny, name: str, path: Path) -> None:
        tiny.wheels[name] = path
        for cell in tiny.plan.cells:
            wheels = [p for n, p in tiny.wheels.items() if n != "demo" or cell.parent]
            write_lock(tiny, cell, wheels)
        put_wheel(tiny.context.settings.cache_dir, path)

    def first_error(self, tiny: Tiny, output: Path) -> Exception:
        result = build(tiny, output, fail_fast=True)[0]
        assert isinstance(result, Failed)
        assert not digests(output)
        return result.error

    def test_another_cuda_than_the_cell(self, broken: Tiny, tmp_path: Path) -> None:
        header = "#define CUDART_VERSION  12040\n"
        files = {"nvidia/cuda_runtime/include/cuda_runtime_api.h": header}
        self.swap(
            broken,
            "nvidia-cuda-runtime-cu12",
            make_wheel(tmp_path, "nvidia_cuda_runtime_cu12", "12.1.105", files),
        )
        error = self.first_error(broken, tmp_path / "dist")
        assert isinstance(error, InspectError)
        assert "CUDA: expected '12.1', the image has '12.4'" in str(error)

    @pytest.mark.parametrize("name", ["libcudart-0123abcd.so.12", "libcudart.so.11.0"])
    def test_a_cuda_library_twice(self, broken: Tiny, tmp_path: Path, name: str) -> None:
        files = {f"demo/libs/{name}": b"\x7fELF"}
        self.swap(broken, "demo", make_wheel(tmp_path, files=files))
        runtime, devel = build(broken, tmp_path / "dist")
        assert isinstance(runtime, Built)
        assert isinstance(devel, Failed)
        assert f"demo/libs/{name} and " in str(devel.error)

    def test_an_unmet_requirement(self, broken: Tiny, tmp_path: Path) -> None:
        self.swap(broken, "demo", make_wheel(tmp_path, metadata="Requires-Dist: torch>=9\n"))
        _, devel = build(broken, tmp_path / "dist")
        assert isinstance(devel, Failed)
        assert "requires torch>=9, but torch 2.3.1 is installed" in str(devel.error)

    @pytest.mark.parametrize("name", ["demo", "pip"])
    def test_one_path_with_two_contents(self, broken: Tiny, tmp_path: Path, name: str) -> None:
        """In one layer (pip and small ones) and across layers (demo is devel's)."""
        files = {"torch/version.py": "other", f"{name}/__init__.py": ""}
        version = "1.0" if name == "demo" else "26.0"
        self.swap(broken, name, make_wheel(tmp_path, name, version, files))
        failed = [r for r in build(broken, tmp_path / "dist") if isinstance(r, Failed)]
        assert failed
        assert isinstance(failed[-1].error, WheelError)
        assert "torch/version.py" in str(failed[-1].error)

    def test_hostile_ones_are_refused_and_nothing_is_published(
        self, broken: Tiny, tmp_path: Path
    ) -> None:
        self.swap(broken, "torch", make_wheel(tmp_path, "torch", "2.3.1", extra={"../x": "x"}))
        error = self.first_error(broken, tmp_path / "dist")
        assert isinstance(error, WheelError)
        assert "leaves its folder" in str(error)


class TestDamage:
    def test_a_blob_that_rots_in_the_cache_is_made_again(
        self, broken: Tiny, tmp_path: Path
    ) -> None:
        build(broken, tmp_path / "a")
        expected = digests(tmp_path / "a")
        # Debian's layers would need Debian; the whole-machine tests make them anew.
        store = LayerStore(broken.context.settings.cache_dir)
        listed = [layer for image in read_report(tmp_path / "a") for layer in image["layers"]]
        made = {x["digest"] for x in listed if not x["title"].startswith("Debian")}
        blobs = sorted(map(store.blob, made))
        for blob in blobs:  # and with it in dist, which holds links to the same files
            blob.chmod(0o644)
            data = bytearray(blob.read_bytes())
            data[len(data) // 2] ^= 1
            blob.write_bytes(data)
        build(broken, tmp_path / "a")
        assert digests(tmp_path / "a") == expected
        for blob in (tmp_path / "a/blobs/sha256").iterdir():
            assert file_digest(blob) == f"sha256:{blob.name}"

    def test_a_build_that_is_killed_goes_on(self, broken: Tiny, tmp_path: Path) -> None:
        """kill -9 at many moments; afterwards one run gives what an undisturbed one gives."""
        build(broken, tmp_path / "whole")
        victim = broken.with_cache(tmp_path / "victim")
        script = (
            "import sys, pickle; sys.path.insert(0, sys.argv[1]);"
            "from pathlib import Path; from wheelyard.images.build.build import build_images;"
            "t = pickle.load(open(sys.argv[2], 'rb'));"
            "build_images(t.plan.cells, t.plan, Path(sys.argv[3]), t.context)"
        )
        (tmp_path / "tiny.pickle").write_bytes(pickle.dumps(victim))
        argv = [sys.executable, "-c", script, str(HERE),
                str(tmp_path / "tiny.pickle"), str(tmp_path / "dist")]  # fmt: skip
        for delay in (0.3, 0.5, 0.7, 0.9, 1.1):
            with subprocess.Popen(argv, cwd=HERE.parents[1], start_new_session=True) as p:
                time.sleep(delay)
                os.killpg(p.pid, signal.SIGKILL)
            for blob in (tmp_path / "dist/blobs/sha256").glob("[0-9a-f]*"):
                assert file_digest(blob) == f"sha256:{blob.name}"
        results = build(victim, tmp_path / "dist")
        assert all(isinstance(r, Built) for r in results), results
        assert digests(tmp_path / "dist") == digests(tmp_path / "whole")
        LayerStore(tmp_path / "victim")  # sweeps: an interpreter may have outlived its worker
        assert not list((tmp_path / "victim/tmp").iterdir())

    def test_two_builds_of_one_folder_at_once(self, broken: Tiny, tmp_path: Path) -> None:
        build(broken, tmp_path / "whole")
        shared = broken.with_cache(tmp_path / "shared")
        (tmp_path / "tiny.pickle").write_bytes(pickle.dumps(shared))
        script = (
            "import sys, pickle; sys.path.insert(0, sys.argv[1]);"
            "from pathlib import Path;"
            "from wheelyard.images.build.build import build_images, Built;"
            "t = pickle.load(open(sys.argv[2], 'rb'));"
            "r = build_images(t.plan.cells, t.plan, Path(sys.argv[3]), t.context);"
            "sys.exit(not all(isinstance(x, Built) for x in r))"
        )
        argv = [sys.executable, "-c", script, str(HERE),
                str(tmp_path / "tiny.pickle"), str(tmp_path / "dist")]  # fmt: skip
        running = [subprocess.Popen(argv, cwd=HERE.parents[1]) for _ in range(3)]
        assert [p.wait(60) for p in running] == [0, 0, 0]
        assert digests(tmp_path / "dist") == digests(tmp_path / "whole")

    def test_old_blobs_go_and_foreign_files_stay(self, broken: Tiny, tmp_path: Path) -> None:
        output = tmp_path / "dist"
        build(broken, output)
        (output / "notes.txt").write_text("mine")
        stale = output / "blobs/sha256" / ("0" * 64)
        stale.write_bytes(b"old")
        build(broken, output)
        assert not stale.exists()
        assert (output / "notes.txt").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(argv, check=False, capture_output=True).returncode:
        pytest.skip("only root can mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_says_so_and_the_next_build_goes_on(
    broken: Tiny, small_disk: Path, tmp_path: Path
) -> None:
    results = build(broken, small_disk / "dist")
    assert all(isinstance(r, Failed) for r in results)
    error = results[0].error if isinstance(results[0], Failed) else None
    assert isinstance(error, StorageError)
    assert "no space left" in str(error)
    assert not list((small_disk / "dist/blobs/sha256").glob(".*part"))
    assert all(isinstance(r, Built) for r in build(broken, tmp_path / "dist"))


def test_a_folder_nobody_may_write(broken: Tiny, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError):
        build(broken, tmp_path / "file" / "dist")


def test_locked_wheel_is_what_it_says(broken: Tiny) -> None:
    assert locked(broken.wheels["torch"]).name == "torch"
