"""Source distributions and repositories: built confined, once, and locked as wheels."""

from __future__ import annotations

import io
import subprocess
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from locking import Index, Quiet, sha256
from tiny import Tiny
from wheels import make_wheel

from tests.built import need_devel
from tests.image.layout import BuiltImage
from tests.peers.project import REPOSITORY
from wheelyard.context import Context
from wheelyard.errors import LockError
from wheelyard.images.assemble.planned import planned_layers
from wheelyard.images.build.loading import find_loader
from wheelyard.lock.stages import load_stages
from wheelyard.oci.layout import MANIFEST_TYPE, Descriptor, Layout
from wheelyard.planning.plan import load_plan
from wheelyard.projects.base import base_cell, planned_base
from wheelyard.projects.files import project_files
from wheelyard.projects.lock import Resolution, lock_project
from wheelyard.projects.model import BaseImage, ProjectLock
from wheelyard.projects.places import Places
from wheelyard.projects.publish import current_lock
from wheelyard.projects.published import base_from_layout
from wheelyard.projects.pylock import read_lock, render_lock
from wheelyard.projects.state import lock_problems
from wheelyard.projects.table import Project, read_project
from wheelyard.projects.wheels import Needs, WheelBuilder, missing_from

if TYPE_CHECKING:
    from docker import DockerClient

# A build backend that needs nothing but Python, and says in its wheel what it saw.
BACKEND = """\
import os, zipfile

def tried(act):
    try:
        return act()
    except OSError as error:
        return error.strerror

def interfaces():
    with open("/proc/net/dev") as file:
        return [line.partition(":")[0].strip() for line in file if ":" in line]

def build_wheel(folder, settings=None, metadata=None):
    with open("NAME") as file:
        name, tag = file.read().split()
    seen = {
        "network": interfaces(),
        "victim": os.path.exists(open("VICTIM").read()) if os.path.exists("VICTIM") else None,
        "user": os.getuid(),
        "worker": tried(lambda: open("/build/worker.py", "a") and "writable"),
        "home": os.environ["HOME"],
    }
    files = {f"{name}/__init__.py": f"SEEN = {seen!r}\\n", **made()}
    info = f"{name}-1.0.dist-info"
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\\nName: {name}\\nVersion: 1.0\\n"
    files[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\\nRoot-Is-Purelib: false\\nTag: {tag}\\n"
    files[f"{info}/RECORD"] = "".join(f"{path},,\\n" for path in [*files, f"{info}/RECORD"])
    wheel = f"{name}-1.0-{tag}.whl"
    with zipfile.ZipFile(os.path.join(folder, wheel), "w") as archive:
        for path, content in files.items():
            archive.writestr(zipfile.ZipInfo(path), content)
    return wheel

def made():
    return {}
"""
COMPILE = """\

def made():
    import subprocess, sysconfig
    include = sysconfig.get_paths()["include"]
    argv = ["gcc", "-shared", "-fPIC", f"-I{include}", "fast.c", "-o", "/build/scratch/fast.so"]
    subprocess.run(argv, check=True)
    with open("/build/scratch/fast.so", "rb") as file:
        return {"fastsum/fast.so": file.read()}
"""
FAST = """\
#include <Python.h>
static PyObject *sum(PyObject *self, PyObject *args) {
    long a, b;
    if (!PyArg_ParseTuple(args, "ll", &a, &b)) return NULL;
    return PyLong_FromLong(a + b);
}
static PyMethodDef methods[] = {{"sum", sum, METH_VARARGS, ""}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "fast", NULL, -1, methods};
PyMODINIT_FUNC PyInit_fast(void) { return PyModule_Create(&module); }
"""
PYPROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def source(name: str, tag: str = "py3-none-any", **files: str) -> dict[str, str]:
    return {
        "pyproject.toml": PYPROJECT,
        "backend.py": BACKEND,
        "NAME": f"{name} {tag}",
        **{path.replace("__", "."): text for path, text in files.items()},
    }


def write(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True)
    for path, text in files.items():
        (folder / path).write_text(text)


def sdist(index: Index, name: str, files: dict[str, str], *, listed: bool = True) -> str:
    """Offer a source distribution, and return its SHA-256."""
    target = index.folder / "files" / f"{name}-1.0.tar.gz"
    with tarfile.open(target, "w:gz") as archive:
        for path, text in files.items():
            info = tarfile.TarInfo(f"{name}-1.0/{path}")
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    if not listed:
        return sha256(target)
    page = index.folder / "simple" / name / "index.html"
    page.parent.mkdir(parents=True)
    link = f'<a href="/files/{target.name}#sha256={sha256(target)}">{target.name}</a>'
    page.write_text(f"<!DOCTYPE html><html><body>{link}</body></html>")
    return sha256(target)


class Place:
    """A project on the tiny set, and an index."""

    def __init__(self, folder: Path, tiny: Tiny, base: BaseImage) -> None:
        self.folder, self.base = folder / "app", base
        self.folder.mkdir()
        self.index = Index(folder / "index")
        self.context: Context = tiny.with_cache(folder / "cache").context

    def lock(self, requirements: str, previous: ProjectLock | None = None) -> Resolution:
        (self.folder / "r.txt").write_text(requirements)
        table = f'image = "{self.base.reference}"\nrequirements = ["r.txt"]\nexclude = ["dist"]\n'
        (self.folder / "wheelyard.toml").write_text(table)
        project = self.project
        with self.index.serve() as url:
            settings = replace(self.context.settings, index_url=url)
            context = replace(self.context, settings=settings)
            places = Places(project, self.base, (), context)
            builder = WheelBuilder(project, self.base, places, context)
            made = lock_project(
                project, self.base, previous, (), settings, make_builder=lambda: builder
            )
        project.lock.write_text(render_lock(made.lock))
        return made

    @property
    def project(self) -> Project:
        found = read_project(self.folder)
        assert found is not None
        return found

    def seen(self, wheel: str) -> dict[str, object]:
        """What the build of a wheel saw."""
        with zipfile.ZipFile(self.folder / "wheels" / wheel) as archive:
            text = archive.read(f"{wheel.partition('-')[0]}/__init__.py").decode()
        found: dict[str, object] = {}
        exec(text, found)
        seen = found["SEEN"]
        assert isinstance(seen, dict)
        return seen


@pytest.fixture
def place(tmp_path: Path, tiny: Tiny, tiny_dist: Path) -> Place:
    base = base_from_layout(Layout(tiny_dist), tiny.cell("runtime").tags[0])
    made = Place(tmp_path, tiny, base)
    (made.folder / "dist").symlink_to(tiny_dist)
    return made


def test_a_source_distribution_is_built_confined_and_locked(place: Place, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("secret")
    digest = sdist(place.index, "plain", source("plain", VICTIM=str(victim)))
    made = place.lock(f"plain --hash=sha256:{digest}\n")
    (item,) = made.lock.wheels
    assert item.path == "wheels/plain-1.0-py3-none-any.whl"
    assert (item.source, item.revision) == ("plain-1.0.tar.gz", f"sha256:{digest}")
    assert item.wheel.sha256 == sha256(place.folder / item.path)
    assert any("was built of plain-1.0.tar.gz" in note for note in made.notes)
    seen = place.seen("plain-1.0-py3-none-any.whl")
    assert seen["network"] == ["lo"]
    assert seen["victim"] is False
    assert seen["user"] != 0
    assert seen["worker"] != "writable"
    assert seen["home"] == "/build/home"
    assert read_lock(place.project.lock) == made.lock
    assert "wheels/plain-1.0-py3-none-any.whl" not in [x.path for x in project_files(place.project)]


def test_a_built_wheel_is_not_built_again_and_its_loss_is_said(place: Place) -> None:
    sdist(place.index, "plain", source("plain"))
    first = place.lock("plain\n")
    wheel = place.folder / "wheels/plain-1.0-py3-none-any.whl"
    (place.index.folder / "files/plain-1.0.tar.gz").unlink()  # nothing can be built of it any more
    again = place.lock("plain\n", first.lock)
    assert again.lock == first.lock
    wheel.unlink()
    assert lock_problems(place.project, first.lock, None) == [
        "wheels/plain-1.0-py3-none-any.whl is missing, or another file than was locked: copy it "
        "from where it was built (of plain-1.0.tar.gz), or have it built again"
    ]
    with pytest.raises(LockError, match="is missing, or another file than was locked: copy it"):
        current_lock(place.project)


def test_the_same_source_gives_the_same_bytes_and_comes_from_the_cache(place: Place) -> None:
    sdist(place.index, "plain", source("plain"))
    first = place.lock("plain\n").lock.wheels
    for name in ("built", "files"):
        (place.context.settings.cache_dir / name).rename(place.folder.parent / f"away-{name}")
    (place.folder / "wheels/plain-1.0-py3-none-any.whl").unlink()
    assert place.lock("plain\n").lock.wheels == first
    (place.folder / "wheels/plain-1.0-py3-none-any.whl").unlink()
    record = next((place.context.settings.cache_dir / "built").iterdir())
    before = record.stat().st_mtime_ns
    assert place.lock("plain\n").lock.wheels == first
    assert record.stat().st_mtime_ns == before


def test_folders_are_built_with_what_they_need_and_locked_by_their_content(place: Place) -> None:
    library, inner = place.folder.parent / "library", place.folder / "libs" / "inner"
    for folder, name in ((library, "library"), (inner, "inner")):
        write(folder, source(name))
    with (library / "pyproject.toml").open("a") as file:  # its wheel cannot say where `inner` is
        file.write('[project]\nname = "library"\nversion = "1.0"\ndependencies = ["inner"]\n')
        file.write('[tool.uv.sources]\ninner = {path = "../app/libs/inner", editable = true}\n')
    first = place.lock("-e ../library\n")
    wheels = {item.wheel.name: item for item in first.lock.wheels}
    assert wheels["library"].source == "project:../library/"
    assert wheels["inner"].source == "inner @ project:libs/inner/"
    assert str(wheels["library"].revision).startswith("tree:")
    assert lock_problems(place.project, read_lock(place.project.lock), None) == []
    again = place.lock("-e ../library\n", first.lock)
    assert again.lock == first.lock
    (library / "extra.py").write_text("MORE = 1\n")
    assert lock_problems(place.project, first.lock, None) == [
        "../library/ has changed since its wheel was built"
    ]
    with pytest.raises(LockError, match="library/ has changed since its wheel was built"):
        current_lock(place.project)
    changed = {x.wheel.name: x for x in place.lock("-e ../library\n", first.lock).lock.wheels}
    assert changed["library"].revision != wheels["library"].revision
    assert changed["inner"] == wheels["inner"]


def test_a_build_requirement_does_not_hide_the_standard_library(place: Place) -> None:
    """pyairports requires the old backport `pathlib`, which today's Python cannot import."""
    files = place.index.folder / "files"
    make_wheel(files, "pathlib", "1.0", {"pathlib.py": "raise ImportError('hidden')\n"})
    make_wheel(files, "helper", "1.0", {"helper.py": "import pathlib\n"})
    project = PYPROJECT.replace("requires = []", 'requires = ["pathlib", "helper"]')
    backend = f"{BACKEND}\nimport sys, helper\n"
    backend += "argv = [sys.executable, '-c', 'import helper']\n"
    backend += "child = os.posix_spawn(argv[0], argv, os.environ)\n"
    backend += "assert os.waitpid(child, 0)[1] == 0\n"
    sdist(
        place.index, "plain", source("plain") | {"pyproject.toml": project, "backend.py": backend}
    )
    made = place.lock("plain\n")
    assert [item.wheel.version for item in made.lock.wheels] == ["1.0"]


def test_bytecode_and_the_devel_images_own_distributions_are_not_unpacked(place: Place) -> None:
    plan = load_plan(REPOSITORY)
    base = planned_base("pytorch:2.3.1-cuda12.1-cudnn8.9-py3.11", plan, REPOSITORY)
    cell = base_cell(base.devel, plan)
    titles = [x.title for x in planned_layers(load_stages(cell, plan, REPOSITORY))]
    (place.folder / "wheelyard.toml").write_text(f'image = "{base.reference}"\n')
    places = Places(place.project, base, (), place.context)
    left_out = {title for title in titles if not places._is_built_with(title)}
    assert {title.split()[0] for title in titles if "bytecode" in title} == {"bytecode"}
    assert {title for title in titles if title.startswith("bytecode")} <= left_out
    rest = {title.split()[0] for title in left_out} - {"bytecode"}
    assert {"jupyterlab", "pandas"} <= rest
    assert not rest & {wheel.name for wheel in base.wheels}
    assert not [title for title in left_out if title.startswith(("Debian", "nvidia"))]


def test_a_release_is_built_in_whose_place_there_would_be_a_pre_release(place: Place) -> None:
    place.index.add("sweeper", "0.9rc1")
    place.index.publish()
    page = place.index.folder / "simple" / "sweeper" / "index.html"
    digest = sdist(place.index, "sweeper", source("sweeper"), listed=False)
    link = f'<a href="/files/sweeper-1.0.tar.gz#sha256={digest}">sweeper-1.0.tar.gz</a>'
    whole = page.read_text().replace("</body>", f"{link}</body>")
    place.index.before = lambda _path, _agent: (page.write_text(whole), None)[1]
    made = place.lock("sweeper\n")
    assert [(x.wheel.name, x.wheel.version) for x in made.lock.wheels] == [("sweeper", "1.0")]
    backend = BACKEND + "\ndef made():\n    raise SystemExit('broken')\n"
    # Another release whose build fails: the way out is said with the reason.
    (place.folder / "wheels/sweeper-1.0-py3-none-any.whl").unlink()
    broken = sdist(
        place.index, "sweeper", source("sweeper") | {"backend.py": backend}, listed=False
    )
    whole = whole.replace(digest, broken)
    with pytest.raises(LockError, match=r"to have that one, name it(.|\n)*its build failed"):
        place.lock("sweeper\n")


def test_what_the_newest_version_needs_is_built(place: Place) -> None:
    """Without the source distribution, uv goes back years to a version that does not need it."""
    place.index.add("hydra-core", "0.11.3")
    place.index.add("hydra-core", "1.3.2", ("grammar==1.*",))
    place.index.add("hydra-core", "2.0", ("grammar==1.*", "grammar!=1.0"))
    sdist(place.index, "grammar", source("grammar"))
    made = place.lock("hydra-core\n")
    found = {x.wheel.name: x.wheel.version for x in made.lock.wheels}
    assert found == {"hydra-core": "1.3.2", "grammar": "1.0"}
    (older,) = made.older  # and nothing is built for what cannot be had
    assert (older.version, older.newest, older.possible) == ("1.3.2", "2.0", None)
    assert "hydra-core>=2.0 depends on grammar" in older.why
    again = place.lock("hydra-core\n", made.lock)
    assert {x.wheel.name: x.wheel.version for x in again.lock.wheels} == found
    assert again.older == ()


def test_an_old_version_is_kept_where_the_newest_cannot_be_built(place: Place) -> None:
    place.index.add("hydra-core", "0.11.3")
    place.index.add("hydra-core", "1.3.2", ("grammar==1.*",))
    broken = BACKEND + "\ndef made():\n    raise SystemExit('broken')\n"
    sdist(place.index, "grammar", source("grammar") | {"backend.py": broken})
    made = place.lock("hydra-core\n")
    assert [x.wheel.version for x in made.lock.wheels] == ["0.11.3"]
    (older,) = made.older
    assert (older.newest, older.possible) == ("1.3.2", "1.3.2")
    assert "needs grammar==1.0, which has no wheel that fits: " in older.why
    assert "broken" in older.why


def test_a_repository_is_built_at_its_commit(place: Place, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    (repository / "sub").mkdir(parents=True)
    for path, text in source("fromgit").items():
        (repository / "sub" / path).write_text(text)

    def git(*words: str) -> str:
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        argv = ["git", "-C", str(repository), *who, *words]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet", "--initial-branch=main")
    git("add", ".")
    git("commit", "--quiet", "-m", "one")
    commit = git("rev-parse", "HEAD")
    text = f"git+file://{repository}@main#subdirectory=sub"
    made = place.lock(f"fromgit @ {text}\n")
    (item,) = made.lock.wheels
    assert item.source == f"fromgit @ {text}"
    assert item.revision == f"git:{commit}#sub"
    git("commit", "--quiet", "--allow-empty", "-m", "two")
    again = place.lock(f"fromgit @ {text}\n", made.lock)
    assert again.lock == made.lock  # --upgrade takes the new commit
    assert place.lock(f"{text}\n").lock.wheels[0].revision == f"git:{git('rev-parse', 'HEAD')}#sub"
    with pytest.raises(LockError, match="is fromgit, not other"):
        place.lock(f"other @ {text}\n")


@pytest.mark.parametrize(
    ("backend", "said"),
    [
        ("raise SystemExit('no luck')", "no luck"),
        ("def build_wheel(*_):\n    pass\n", "wrote 0 wheels"),
        (
            "import os\ndef build_wheel(out, *_):\n    os.symlink('/etc/shadow', "
            "out + '/bad-1.0-py3-none-any.whl')\n",
            "output cannot be read",
        ),
        (
            "import os\ndef build_wheel(out, *_):\n    os.rename(out, out + 'x')\n",
            "no wheel can be built",
        ),
        (
            "def build_wheel(out, *_):\n    open(out + '/bad-1.0-py3-none-any.whl', 'w')\n",
            "not valid",
        ),
        ("def get_requires_for_build_wheel(_):\n    return ['x @ file:///etc']\n", "an address"),
        (
            "import os\ndef get_requires_for_build_wheel(_):\n"
            "    os.mkfifo('/build/out/requires.json')\n    os._exit(0)\n",
            "requirements cannot be read",
        ),
    ],
)
def test_a_build_that_fails_or_cheats_is_an_error(place: Place, backend: str, said: str) -> None:
    sdist(place.index, "bad", source("bad") | {"backend.py": backend})
    with pytest.raises(LockError) as caught:
        place.lock("bad\n")
    assert said in str(caught.value)
    assert not (place.folder / "wheels").exists()
    chambers = place.context.settings.cache_dir / "chambers"
    assert [path for path in chambers.iterdir() if path.is_dir()] == []


GCC_MISSING = "error: command 'gcc' failed: No such file or directory"
LOGS = [
    ("ModuleNotFoundError: No module named 'fairseq'\n", None, None),
    ("Traceback (most recent call last):\nRuntimeError: Python 3.12 is needed\n", None, None),
    ("socket.gaierror: [Errno -3] Temporary failure in name resolution\n", None, None),
    (GCC_MISSING, Needs.COMPILER, Needs.COMPILER),
    ("OSError: [Errno 2] No such file or directory: 'git'", Needs.COMPILER, Needs.COMPILER),
    ("RuntimeError: Unsupported compiler -- at least C++11 support is needed!\n",
     Needs.COMPILER, Needs.COMPILER),
    ("/bin/sh: 1: cmake: not found\n", Needs.COMPILER, Needs.COMPILER),
    ("sox.c:3:10: fatal error: sox.h: No such file or directory\n", Needs.COMPILER, Needs.COMPILER),
    ("ModuleNotFoundError: No module named 'torch'\n", Needs.ALL, Needs.ALL),
    ("ModuleNotFoundError: No module named 'typing_extensions'\n", Needs.ALL, Needs.ALL),
    ("fatal error: cuda_runtime.h: No such file or directory\n", Needs.ALL, Needs.ALL),
    ("/usr/bin/ld: cannot find -lcudart: No such file or directory\n", Needs.ALL, Needs.ALL),
    ("EnvironmentError: CUDA_HOME environment variable is not set\n", None, Needs.ALL),
    ("FileNotFoundError: [Errno 2] No such file or directory: 'nvcc'\n", None, Needs.ALL),
]  # fmt: skip


@pytest.mark.parametrize(("log", "cuda12", "cuda13"), LOGS)
def test_the_log_says_what_a_failed_build_lacked(
    log: str, cuda12: Needs | None, cuda13: Needs | None
) -> None:
    there = {"torch", "typing-extensions"}
    assert missing_from(log, there, has_nvcc=False) is cuda12
    assert missing_from(log, there, has_nvcc=True) is cuda13


@pytest.mark.parametrize(
    ("log", "rooms"),
    [
        ("no luck", ["lowest layer"]),
        (GCC_MISSING, ["lowest layer", "Debian layers of the devel image"]),
        ("No module named 'torch'", ["lowest layer", "layers of the devel image"]),
        ("nvcc: not found", ["lowest layer"]),
    ],
)
def test_a_failed_build_is_tried_again_only_where_there_is_what_it_lacked(
    place: Place, log: str, rooms: list[str]
) -> None:
    backend = f"raise SystemExit({log!r})"
    sdist(place.index, "bad", source("bad") | {"backend.py": backend})
    told = Quiet()
    place.context = replace(place.context, reporter=told)
    with pytest.raises(LockError, match=r"no wheel can be built:\n.*its build failed") as caught:
        place.lock("bad\n")
    tried = [text for text in told.messages if text.startswith("in ")]
    assert [text.rpartition("in the ")[2].removeprefix("base's ") for text in tried] == rooms
    said = f"its build failed {tried[-1]} (exit code 1)"
    assert said in str(caught.value)
    assert ("has no nvcc, as every image below CUDA 13" in str(caught.value)) == ("nvcc" in log)


def test_what_a_failed_build_lacked_is_said_where_it_is_not_here(
    place: Place, tiny: Tiny, tiny_dist: Path, tmp_path: Path
) -> None:
    sdist(place.index, "bad", source("bad") | {"backend.py": f"raise SystemExit({GCC_MISSING!r})"})
    (place.folder / "dist").unlink()
    settings = replace(place.context.settings, cache_dir=tmp_path / "empty")
    place.context = replace(place.context, settings=settings)
    own = Layout(place.folder / "dist")
    own.create()
    tag = tiny.cell("runtime").tags[0]  # the base alone
    lent = Layout(tiny_dist)
    for path in (tiny_dist / "blobs/sha256").iterdir():
        own.blob(f"sha256:{path.name}").symlink_to(path)
    own.set_references({tag: lent.references()[tag]})
    with pytest.raises(LockError) as caught:
        place.lock("bad\n")
    said = str(caught.value)
    assert "its build failed in the base's lowest layer" in said
    devel = f"{place.base.reference}-devel"
    assert f"It needs a compiler or another program: it is built in {devel}: get that image" in said


def test_what_must_be_compiled_needs_the_devel_image(place: Place, tmp_path: Path) -> None:
    sdist(place.index, "fastsum", source("fastsum", fast__c=FAST))
    (place.folder / "dist").unlink()
    settings = replace(place.context.settings, cache_dir=tmp_path / "empty")
    place.context = replace(place.context, settings=settings)
    with pytest.raises(LockError) as caught:
        place.lock("fastsum\n")
    devel = f"{place.base.reference}-devel"
    assert f"it is built in {devel}" in str(caught.value)
    assert f"`wheelyard build {devel}`" in str(caught.value)


def test_a_container_builds_as_a_chamber_does(
    place: Place, tiny: Tiny, tiny_dist: Path, engine: DockerClient
) -> None:
    layout = Layout(tiny_dist)
    tag = tiny.cell("devel").tags[0]
    loader = find_loader(wanted=True, context=place.context)
    assert loader is not None
    loader.manifest(layout, layout.references()[tag].digest, [tag], {})
    sdist(place.index, "fastsum", source("fastsum", fast__c=FAST))
    made = place.lock("fastsum\n")
    seen = place.seen("fastsum-1.0-py3-none-any.whl")
    assert seen["network"] == ["lo"]
    assert seen["user"] == 1000
    assert len(made.lock.wheels) == 1
    assert engine.containers.list(all=True) == []


@pytest.fixture
def real(dist: Path, tmp_path: Path, tiny: Tiny) -> tuple[Place, BuiltImage]:
    """A project on an image with compilers."""
    image = need_devel(dist)
    own = Layout(tmp_path / "app/dist")
    base = base_from_layout(_lent(image, Layout(tmp_path / "lent")), image.tags[0])
    place = Place(tmp_path, tiny, base)
    own.create()
    _lent(image, own)
    return place, image


def _lent(image: BuiltImage, layout: Layout) -> Layout:
    layout.create()
    for digest in (image.digest, image.manifest["config"]["digest"], *image.layers):
        layout.blob(digest).symlink_to(image.blob(digest))
    size = image.blob(image.digest).stat().st_size
    layout.set_references({image.tags[0]: Descriptor(MANIFEST_TYPE, image.digest, size)})
    return layout


def test_an_extension_in_c_is_compiled_and_works(real: tuple[Place, BuiltImage]) -> None:
    place, image = real
    python = image.cell["python"].replace(".", "")
    tag = f"cp{python}-cp{python}-linux_x86_64"
    files = source("fastsum", tag, fast__c=FAST) | {"backend.py": BACKEND + COMPILE}
    sdist(place.index, "fastsum", files)
    (item,) = place.lock("fastsum\n").lock.wheels
    assert item.wheel.filename == f"fastsum-1.0-{tag}.whl"
    with zipfile.ZipFile(place.folder / str(item.path)) as archive:
        assert archive.read("fastsum/fast.so").startswith(b"\x7fELF")
        assert b"PyInit_fast" in archive.read("fastsum/fast.so")
