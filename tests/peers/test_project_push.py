"""A project on a published base, pushed to a real registry: what travels, and what does not."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from tiny import PYTHON, Tiny, locked
from wheels import make_wheel

from tests.engines.daemons import output_of
from tests.peers.registries import registry as serve_registry
from wheelyard.contract.paths import UID, site_packages
from wheelyard.errors import ProjectError, RegistryError, SignatureError
from wheelyard.images.build.loading import find_loader
from wheelyard.lock.lockfile import read_requirements_lock
from wheelyard.lock.stages import load_stages
from wheelyard.oci.address import parse_address
from wheelyard.oci.layout import Layout
from wheelyard.projects.base import base_contents, base_from_plan
from wheelyard.projects.local import build_project, load_into_docker
from wheelyard.projects.model import ProjectLock, ProjectWheel
from wheelyard.projects.publish import PushOptions, push_project
from wheelyard.projects.pylock import render_lock
from wheelyard.projects.reproduce import reproduce_project
from wheelyard.projects.requirements import collect
from wheelyard.projects.state import inputs_of
from wheelyard.projects.table import Project, read_project
from wheelyard.publish.attest import signatures
from wheelyard.publish.attest.trust import Trust
from wheelyard.publish.published import publications
from wheelyard.publish.reproduce import Reproduction
from wheelyard.registry.client import Registry, manifest_digest, open_registry
from wheelyard.registry.push import Pushed, push_images
from wheelyard.system.storage import file_digest

if TYPE_CHECKING:
    from docker import DockerClient

SITE = site_packages(PYTHON)
TABLE = """\
[project]
name = "my-model"
version = "1.2"
dependencies = ["demo>=1"]
scripts = {train = "my_model.main:run"}

[tool.wheelyard]
image = "pytorch:2.3.1"
command = ["train", "--fast"]
ports = [8000]
env = {LEVEL = "3"}
"""


@pytest.fixture
def host(registry_tools: None, tmp_path: Path) -> Iterator[str]:
    (tmp_path / "registry").mkdir()
    with serve_registry(tmp_path / "registry") as address:
        yield address


@pytest.fixture
def registry(host: str, tiny: Tiny, tiny_dist: Path) -> Iterator[Registry]:
    """A registry that has the tiny set, below a prefix."""
    address = parse_address(f"http://{host}/team")
    with open_registry(address, tiny.context.settings, tiny.context.reporter) as opened:
        layout = Layout(tiny_dist)
        images = publications(layout, tiny.plan.cells, unverified=True)
        results = push_images(opened, layout, images, (), tiny_dist.parent / "notes")
        assert all(isinstance(result, Pushed) for result in results), results
        yield opened


@pytest.fixture
def project(tmp_path: Path) -> Project:
    folder = tmp_path / "my-model"
    (folder / "src/my_model").mkdir(parents=True)
    (folder / "pyproject.toml").write_text(TABLE)
    (folder / "src/my_model/__init__.py").write_text("")
    (folder / "src/my_model/main.py").write_text("def run():\n    print('trained')\n")
    (folder / "run.sh").write_text("#!/bin/sh\ntrain\n")
    (folder / "run.sh").chmod(0o755)
    return read(folder)


def read(folder: Path) -> Project:
    found = read_project(folder)
    assert found is not None
    return found


def lock_for(tiny: Tiny, folder: Path) -> ProjectLock:
    """A project that needs a new wheel, and another version of what the base has."""
    cell = tiny.cell("runtime")
    base = base_from_plan(cell, read_requirements_lock(tiny.folder / cell.lock))
    wheels = [
        make_wheel(folder, "extra", "1.0", {"extra/__init__.py": "x = 1\n"}),
        make_wheel(folder, "pip", "27.0", {"pip/__init__.py": "", "pip/new.py": ""}),
    ]
    return ProjectLock(
        base=base.reference,
        base_digest="",
        contents=base_contents(base),
        inputs="0" * 64,
        python=PYTHON,
        wheels=tuple(ProjectWheel(locked(path), path.as_uri()) for path in wheels),
        shadowed=tuple(wheel for wheel in base.wheels if wheel.name == "pip"),
    )


@pytest.fixture
def lock(tiny: Tiny, tmp_path: Path) -> ProjectLock:
    (tmp_path / "wheels").mkdir()
    return lock_for(tiny, tmp_path / "wheels")


def write_project_lock(project: Project, lock: ProjectLock) -> None:
    inputs = inputs_of(project, collect(project, lock.python), lock.contents)
    project.lock.write_text(render_lock(replace(lock, inputs=inputs)))


def push(
    project: Project, lock: ProjectLock, registry: Registry, tiny: Tiny, tag: str = "latest",
    dist: Path = Path("/nonexistent"), **more: Any,
) -> Pushed:  # fmt: skip
    write_project_lock(project, lock)
    return push_project(project, registry, PushOptions((tag,), dist, **more), tiny.context)


def manifest(registry: Registry, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """An image's manifest and config, as the registry has them."""
    url = f"docker://{registry.address.reference(name)}"
    texts = [
        subprocess.run(
            ["skopeo", "inspect", "--tls-verify=false", "--raw", *more, url],
            capture_output=True, check=True, text=True,
        ).stdout
        for more in ([], ["--config"])
    ]  # fmt: skip
    return json.loads(texts[0]), json.loads(texts[1])


@contextmanager
def unpacked(registry: Registry, name: str, folder: Path) -> Iterator[dict[str, tarfile.TarInfo]]:
    """The merged files of an image, as a stranger copies it."""
    subprocess.run(
        ["skopeo", "copy", "-q", "--src-tls-verify=false",
         f"docker://{registry.address.reference(name)}", f"oci:{folder}:x"], check=True,
    )  # fmt: skip
    layout = Layout(folder)
    files: dict[str, tarfile.TarInfo] = {}
    index = json.loads((folder / "index.json").read_text())
    for layer in layout.read_json(index["manifests"][0]["digest"])["layers"]:
        with tarfile.open(layout.blob(layer["digest"])) as archive:
            for info in archive:
                parent, _, last = info.name.rpartition("/")
                if last.startswith(".wh."):
                    gone = f"{parent}/{last.removeprefix('.wh.')}"
                    for path in [p for p in files if p == gone or p.startswith(f"{gone}/")]:
                        del files[path]
                else:
                    files[info.name] = info
    yield files


def test_a_line_of_code_takes_few_requests(
    project: Project, lock: ProjectLock, registry: Registry, tiny: Tiny, tmp_path: Path
) -> None:
    """Nothing is asked twice, and no other repository is asked for what cannot be there."""
    push(project, lock, registry, tiny)
    log = tmp_path / "registry/registry.log"
    before = len(log.read_text())
    (project.folder / "src/my_model/main.py").write_text("def run():\n    print('more')\n")
    push(project, lock, registry, tiny)
    asked = re.findall(r'"(GET|HEAD|POST|PUT|PATCH) /v2/team/(\S+?)[? ]', log.read_text()[before:])
    assert sum(path.startswith("my-model/blobs/") for _, path in asked) <= 8  # of two blobs
    assert [path for _, path in asked if path.startswith("pytorch/blobs/")] == []
    manifests = [(how, path) for how, path in asked if path.startswith("my-model/manifests/")]
    assert [how for how, _ in manifests] == ["GET", "PUT", "HEAD", "PUT"]


def test_nothing_of_the_base_travels(
    project: Project, lock: ProjectLock, registry: Registry, tiny: Tiny, tmp_path: Path
) -> None:
    first = push(project, lock, registry, tiny)
    assert first.moved == (registry.address.reference("my-model:latest"),)
    assert first.sent < 60_000
    base, image = manifest(registry, lock.base), manifest(registry, "my-model:latest")
    below = base[0]["layers"]
    assert image[0]["layers"][: len(below)] == below
    assert first.mounted == sum(layer["size"] for layer in below)
    assert image[0]["annotations"]["org.opencontainers.image.base.name"].endswith(lock.base)
    config = image[1]["config"]
    assert config["Entrypoint"] == base[1]["config"]["Entrypoint"]
    assert config["Cmd"] == ["train", "--fast"]
    assert config["ExposedPorts"] == {"8000/tcp": {}}
    assert {"LEVEL=3", *base[1]["config"]["Env"]} == set(config["Env"])
    assert json.loads(config["Labels"]["wheelyard.project"])["base"] == lock.base
    assert len(image[1]["history"]) == len(image[1]["rootfs"]["diff_ids"]) == len(below) + 5
    with unpacked(registry, "my-model:latest", tmp_path / "copy") as files:
        distributions = sorted(
            path.rpartition("/")[2] for path in files if path.endswith(".dist-info")
        )
        assert [name for name in distributions if name.startswith(("pip", "extra", "my_"))] == [
            "extra-1.0.dist-info", "my_model-1.2.dist-info", "pip-27.0.dist-info",
        ]  # fmt: skip
        assert f"{SITE}/pip/new.py" in files
        assert f"{SITE}/pip/tests/test_pip.py" not in files
        assert files["opt/venv/bin/train"].mode == 0o775
        code = files["workspace/run.sh"]
        assert (code.uid, code.gid, code.mode) == (UID, 0, 0o775)
        assert files["workspace"].mode == files["workspace/src"].mode == 0o2775
        assert files["workspace/src/my_model/main.py"].mode == 0o664


def test_one_line_of_code_sends_only_code(
    project: Project, lock: ProjectLock, registry: Registry, tiny: Tiny
) -> None:
    push(project, lock, registry, tiny)
    before = manifest(registry, "my-model:latest")[0]["layers"]
    (project.folder / "src/my_model/main.py").write_text("def run():\n    print('again')\n")
    second = push(project, lock, registry, tiny)
    after = manifest(registry, "my-model:latest")[0]["layers"]
    assert after[:-1] == before[:-1]
    assert after[-1] != before[-1]
    assert second.mounted == 0
    assert second.sent < 10_000
    again = push(project, lock, registry, tiny)
    assert (again.digest, again.sent, again.moved) == (second.digest, 0, ())


def test_two_machines_make_the_same_image(
    project: Project, lock: ProjectLock, registry: Registry, tiny: Tiny, tmp_path: Path
) -> None:
    first = push(project, lock, registry, tiny)
    settings = replace(tiny.context.settings, cache_dir=tmp_path / "other")
    other = replace(tiny, context=replace(tiny.context, settings=settings))
    for wheel in lock.shadowed:  # the index of this test
        source = tiny.wheels[wheel.name]
        target = settings.cache_dir / "files" / wheel.sha256[:2] / wheel.sha256 / wheel.filename
        target.parent.mkdir(parents=True)
        target.write_bytes(source.read_bytes())
        assert file_digest(target) == f"sha256:{wheel.sha256}"
    for path in project.folder.rglob("*"):
        path.touch()
    assert push(project, lock, registry, other).digest == first.digest


def test_it_is_made_again_to_the_bit(
    project: Project, lock: ProjectLock, registry: Registry, tiny: Tiny, tmp_path: Path
) -> None:
    pushed = push(project, lock, registry, tiny)

    def again() -> Reproduction:
        none = tmp_path / "none"
        return reproduce_project(project, "latest", registry, none, tiny.context)

    same = again()
    assert (same.theirs, same.ours, same.difference) == (pushed.digest, pushed.digest, None)
    (project.folder / "run.sh").write_text("#!/bin/sh\nrm -r /\n")
    difference = again().difference
    assert difference is not None
    assert "code of my-model" in difference.what
    assert "workspace/run.sh" in str(difference.file)


def test_signed_before_a_tag_moves(
    project: Project, lock: ProjectLock, registry: Registry, tiny: Tiny,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    key = ec.generate_private_key(ec.SECP256R1())
    pushed = push(project, lock, registry, tiny, key=key)
    trust = Trust((key.public_key(),), tiny.folder)
    signatures.require_signed(registry, "my-model", pushed.digest, trust)
    (project.folder / "run.sh").write_text("#!/bin/sh\n")

    def refuse(*_: object) -> bool:
        raise RegistryError("no more room for signatures")

    monkeypatch.setattr(signatures, "sign_image", refuse)
    with pytest.raises(RegistryError, match="no more room"):
        push(project, lock, registry, tiny, key=key)
    monkeypatch.undo()
    assert manifest(registry, "my-model:latest")[0]["layers"]
    again = push(project, lock, registry, tiny, tag="other", key=key)
    assert again.digest != pushed.digest
    with pytest.raises(ProjectError, match="locked"):
        push(project, replace(lock, contents="0" * 64), registry, tiny)


def test_a_base_that_is_not_there(
    project: Project, lock: ProjectLock, host: str, tiny: Tiny, tiny_dist: Path
) -> None:
    address = parse_address(f"http://{host}/empty")
    with open_registry(address, tiny.context.settings, tiny.context.reporter) as opened:
        with pytest.raises(ProjectError, match="publish the base"):
            push(project, lock, opened, tiny)
        pushed = push(project, lock, opened, tiny, dist=tiny_dist)  # with all that it stands on
        assert pushed.mounted == 0
        stages = load_stages(tiny.cell("runtime"), tiny.plan, tiny.folder)
        assert stages
        assert manifest(opened, "my-model:latest")[0]["layers"]


def test_a_base_that_lost_its_layers(
    project: Project, lock: ProjectLock, registry: Registry, tiny: Tiny, tmp_path: Path
) -> None:
    layer = manifest(registry, lock.base)[0]["layers"][0]["digest"].partition(":")[2]
    for link in (tmp_path / "registry/registry").rglob(f"{layer}/data"):
        link.unlink()
    with pytest.raises(ProjectError, match=r"lacks 1 of \d+ layers of pytorch"):
        push(project, lock, registry, tiny)
    found = subprocess.run(
        ["skopeo", "list-tags", "--tls-verify=false",
         f"docker://{registry.address.reference('my-model')}"],
        capture_output=True, check=False,
    )  # fmt: skip
    assert found.returncode, "a tag was set"


def test_it_runs_in_docker(
    project: Project, lock: ProjectLock, registry: Registry, engine: DockerClient, tiny: Tiny
) -> None:
    """The base comes from the registry, the project's own layers from here."""
    write_project_lock(project, lock)
    settings = replace(tiny.context.settings, registry=registry.address)
    context = replace(tiny.context, settings=settings)
    loader = find_loader(wanted=True, context=context)
    assert loader is not None
    built = build_project(project, project.folder / "dist", context)
    assert not built.is_whole
    load_into_docker(built, loader, context)
    code = (
        "import extra, my_model, os, sys; print(my_model.__file__, os.stat('/workspace').st_uid);"
        "site = next(path for path in sys.path if path.endswith('site-packages'));"
        "print(*sorted(x for x in os.listdir(site) if x.endswith('.dist-info') and x[0] in 'emp'))"
    )
    python = "/opt/venv/bin/python"
    ran = output_of(engine, built.tag, [python, "-c", code], entrypoint=[])
    assert ran.decode().splitlines() == [
        "/workspace/src/my_model/__init__.py 1000",
        "extra-1.0.dist-info my_model-1.2.dist-info pip-27.0.dist-info",
    ]
    ran = output_of(engine, built.tag, ["/opt/venv/bin/train"], entrypoint=[])
    assert ran == b"trained\n"
    first = built.manifest.digest
    assert push(project, lock, registry, tiny).digest == first
    assert build_project(project, project.folder / "dist", context).manifest.digest == first


def test_an_interrupted_push_moves_no_tag(
    project: Project, lock: ProjectLock, registry: Registry, tiny: Tiny, tmp_path: Path
) -> None:
    """Ctrl-C while the largest layer is on its way; the next push goes on."""
    push(project, lock, registry, tiny)
    before = manifest(registry, "my-model:latest")
    (project.folder / "weights.bin").write_bytes(os.urandom(60 << 20))
    argv = [sys.executable, "-m", "wheelyard", "push", "--registry", f"http://{registry.address}"]
    cache = {"WHEELYARD_CACHE": str(tiny.context.settings.cache_dir)}
    running = subprocess.Popen(
        argv, cwd=project.folder, env={**os.environ, **cache}, stderr=subprocess.DEVNULL
    )
    uploads = tmp_path / "registry/registry/docker/registry/v2/repositories/team/my-model/_uploads"
    deadline = time.monotonic() + 60
    while not any(x.stat().st_size > 1 << 20 for x in uploads.glob("*/data")):
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    assert running.wait(60) == 130
    assert manifest(registry, "my-model:latest") == before
    assert push(project, lock, registry, tiny).sent > 50 << 20
    assert manifest(registry, "my-model:latest") != before


def digest_of_tag(registry: Registry, name: str) -> str | None:
    return manifest_digest(registry, registry.address.repository(name), "latest")


def test_watching_pushes_what_changes(
    project: Project, lock: ProjectLock, registry: Registry, tiny: Tiny
) -> None:
    """An error of the project is said, and the next change pushes again."""
    first = push(project, lock, registry, tiny).digest
    argv = [sys.executable, "-m", "wheelyard", "push", "--watch", "--tag", "latest",
            "--registry", f"http://{registry.address}"]  # fmt: skip
    cache = {"WHEELYARD_CACHE": str(tiny.context.settings.cache_dir)}
    log = project.folder.parent / "log"
    with log.open("w") as output:
        watching = subprocess.Popen(
            argv, cwd=project.folder, env={**os.environ, **cache}, stderr=output, stdout=output
        )

    def wait_for(done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not done():
            assert watching.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)

    wait_for(lambda: "waiting for changes" in log.read_text())
    (project.folder / ".env").write_text("TOKEN=1")
    wait_for(lambda: "looks like a secret" in log.read_text())
    (project.folder / ".env").unlink()
    (project.folder / "run.sh").write_text("#!/bin/sh\n")
    wait_for(lambda: digest_of_tag(registry, "my-model") != first)
    watching.send_signal(signal.SIGINT)
    assert watching.wait(60) == 130


def test_a_base_that_the_key_has_not_signed(
    project: Project, lock: ProjectLock, registry: Registry, tiny: Tiny
) -> None:
    key, stranger = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    base = manifest_digest(
        registry, registry.address.repository("pytorch"), lock.base.partition(":")[2]
    )
    assert base is not None
    signatures.sign_image(registry, "pytorch", base, key)
    trust = Trust((stranger.public_key(),), tiny.folder)
    with pytest.raises(SignatureError):
        push(project, lock, registry, tiny, trust=trust)
    assert digest_of_tag(registry, "my-model") is None
    push(project, lock, registry, tiny, trust=Trust((key.public_key(),), tiny.folder))


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ([], "the destination is missing: --registry"),
        (["--registry", "http://127.0.0.1:9", "--known"], "--known is for images of a set"),
        (["--registry", "http://127.0.0.1:9", "--tag", "a b"], "'a b' is not a tag"),
        (["--registry", "http://127.0.0.1:9"], "is out of date"),
    ],
)
def test_what_is_refused_before_anything_is_asked(
    project: Project, lock: ProjectLock, words: list[str], what: str
) -> None:
    write_project_lock(project, lock)
    if "out of date" in what:
        text = (project.folder / "pyproject.toml").read_text()
        (project.folder / "pyproject.toml").write_text(text.replace("demo>=1", "demo>=2"))
    ran = subprocess.run(
        [sys.executable, "-m", "wheelyard", "push", *words],
        cwd=project.folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode
    assert what in ran.stderr


def test_a_build_from_a_folder_of_the_project(
    project: Project, lock: ProjectLock, registry: Registry, tiny: Tiny
) -> None:
    """The layout lies in the project, and is not part of it."""
    write_project_lock(project, lock)
    argv = [sys.executable, "-m", "wheelyard", "build", "--no-load", "--json",
            "--registry", f"http://{registry.address}"]  # fmt: skip
    cache = {"WHEELYARD_CACHE": str(tiny.context.settings.cache_dir)}
    results = [
        subprocess.run(
            argv, cwd=project.folder / "src", env={**os.environ, **cache}, check=True,
            capture_output=True, text=True,
        ).stdout
        for _ in range(2)
    ]  # fmt: skip
    assert results[0] == results[1]
    assert (project.folder / "dist/oci-layout").is_file()
    assert not (project.folder / "src/dist").exists()


def test_files_that_run_what_was_pushed(
    project: Project, lock: ProjectLock, registry: Registry, tiny: Tiny
) -> None:
    def deploy(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "wheelyard", "deploy", "--kind", "compose", "--force", *words],
            cwd=project.folder, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def read_service() -> dict[str, Any]:
        data = yaml.safe_load((project.folder / "compose.yaml").read_text())
        (found,) = data["services"].values()
        return dict(found)

    write_project_lock(project, lock)
    there = ("--registry", f"http://{registry.address}")
    assert "does not exist; run: wheelyard push" in deploy(*there).stderr
    pushed = push(project, lock, registry, tiny)
    ran = deploy(*there)
    assert ran.returncode == 0, ran.stderr
    service = read_service()
    assert service["image"] == f"{registry.address.reference('my-model')}@{pushed.digest}"
    assert service["command"] == ["train", "--fast"]
    assert service["ports"] == ["127.0.0.1:8000:8000"]
    assert deploy().returncode == 0
    assert read_service()["image"] == "my-model:latest"


def test_bytecode_by_the_bases_own_python(
    project: Project, lock: ProjectLock, registry: Registry, tiny: Tiny, tmp_path: Path
) -> None:
    settings = replace(tiny.context.settings, cache_dir=tmp_path / "other")  # it has no layer
    other = replace(tiny, context=replace(tiny.context, settings=settings))
    lock = replace(lock, shadowed=(), wheels=lock.wheels[:1])
    plain = push(project, lock, registry, other)
    pushed = push(project, lock, registry, other, bytecode=True)
    assert pushed.digest != plain.digest
    with unpacked(registry, "my-model:latest", tmp_path / "copy") as files:
        compiled = f"{SITE}/extra/__pycache__/__init__.cpython-{PYTHON.replace('.', '')}.pyc"
        assert files[compiled].mode == 0o664
    assert push(project, lock, registry, tiny, bytecode=True).digest == pushed.digest
