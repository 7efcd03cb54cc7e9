"""Debian's skopeo, umoci, docker and docker-registry take our images as they are."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.engines.daemons import client_environment, own_engine
from tests.image.layout import BuiltImage, read_built, read_references
from tests.peers.command import wheelyard
from tests.peers.project import REPOSITORY, machine_cache
from tests.peers.registries import registry

if TYPE_CHECKING:
    from docker import DockerClient

TIMEOUT = 600
IMPORT = "import torch; print(torch.__version__, torch.ones(2, 2).sum().item())"


def run(*argv: str | Path, **options: Any) -> str:
    """Run a tool that must succeed; what it prints."""
    done = subprocess.run(
        list(map(str, argv)), check=False, capture_output=True, timeout=TIMEOUT, **options
    )
    assert done.returncode == 0, f"{argv}: {done.stderr.decode()}"
    return str(done.stdout.decode())


class TestSkopeo:
    @pytest.fixture(autouse=True)
    def _needs_skopeo(self, need: Callable[..., None]) -> None:
        need("skopeo")

    def test_every_reference_can_be_inspected(self, dist: Path) -> None:
        for name, digest in read_references(dist).items():
            assert json.loads(run("skopeo", "inspect", f"oci:{dist}:{name}"))["Digest"] == digest

    def test_every_image_is_seen_as_the_build_reported_it(
        self, dist: Path, images: tuple[BuiltImage, ...]
    ) -> None:
        reported = {x["id"]: x for x in json.loads((dist / "build.json").read_text())["images"]}
        assert len(images) == len(reported) > 0
        for image in images:
            seen = json.loads(run("skopeo", "inspect", f"oci:{dist}:{image.tags[0]}"))
            report = reported[image.id]
            assert seen["Digest"] == report["digest"]
            assert seen["Layers"] == [layer["digest"] for layer in report["layers"]]
            assert seen["Labels"] == image.settings["Labels"]
            assert json.loads(seen["Labels"]["wheelyard.cell"])["id"] == image.id
            assert (seen["Os"], seen["Architecture"]) == ("linux", "amd64")
            assert seen["Env"] == image.settings["Env"]

    def test_a_copy_holds_the_same_image(self, tiny_dist: Path, scratch: Path) -> None:
        """skopeo hashes every blob that it copies; a real image is copied to a registry below."""
        image = read_built(tiny_dist)[0]
        run("skopeo", "copy", f"oci:{tiny_dist}:{image.tags[0]}", f"oci:{scratch}/copy:it")
        assert set(read_references(scratch / "copy").values()) == {image.digest}
        names = {image.digest, image.manifest["config"]["digest"], *image.layers}
        assert {f"sha256:{x.name}" for x in (scratch / "copy/blobs/sha256").iterdir()} == names


class TestUmoci:
    """umoci refuses a layer whose content is not its diff_id."""

    @pytest.fixture(autouse=True)
    def _needs_umoci(self, need: Callable[..., None], need_root: None) -> None:
        need("umoci")

    def test_small_images_are_unpacked(self, tiny_dist: Path, scratch: Path) -> None:
        for image in read_built(tiny_dist):
            run("umoci", "unpack", "--image", f"{tiny_dist}:{image.tags[0]}", scratch / image.id)
            check_unpacked(image, scratch / image.id)

    def test_a_real_image_is_unpacked(
        self, dist: Path, runtime_image: BuiltImage, scratch: Path
    ) -> None:
        bundle = scratch / "bundle"
        run("umoci", "unpack", "--image", f"{dist}:{runtime_image.tags[0]}", bundle)
        check_unpacked(runtime_image, bundle)
        assert next(
            (bundle / "rootfs").glob("opt/venv/lib/python*/site-packages/torch/__init__.py")
        )

    def test_a_layer_that_is_not_its_diff_id_is_noticed(
        self, tiny_dist: Path, scratch: Path
    ) -> None:
        """What the tests above stand on."""
        image = read_built(tiny_dist)[0]
        run("skopeo", "copy", f"oci:{tiny_dist}:{image.tags[0]}", f"oci:{scratch}/bad:it")
        with_wrong_diff_id(scratch / "bad")
        argv = ["umoci", "unpack", "--image", f"{scratch}/bad:it", str(scratch / "bundle")]
        done = subprocess.run(argv, check=False, capture_output=True, timeout=TIMEOUT)
        assert done.returncode != 0
        assert b"diffid mismatch" in done.stderr


def check_unpacked(image: BuiltImage, bundle: Path) -> None:
    """The bundle runs as the image says, and its users are there."""
    process = json.loads((bundle / "config.json").read_text())["process"]
    assert process["user"]["uid"] == 1000
    assert process["cwd"] == image.settings["WorkingDir"]
    assert "dev:x:1000:1000" in (bundle / "rootfs/etc/passwd").read_text()
    venv = (bundle / "rootfs/opt/venv").stat()
    assert (venv.st_uid, venv.st_gid, venv.st_mode & 0o7777) == (0, 900, 0o2775)


def with_wrong_diff_id(layout: Path) -> None:
    """Change one diff_id, and every digest above it to match."""

    def put(content: dict[str, Any]) -> dict[str, Any]:
        data = json.dumps(content).encode()
        digest = hashlib.sha256(data).hexdigest()
        (layout / "blobs/sha256" / digest).write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    def get(digest: str) -> Any:
        return json.loads((layout / "blobs" / digest.replace(":", "/")).read_text())

    index = json.loads((layout / "index.json").read_text())
    manifest = get(index["manifests"][0]["digest"])
    config = get(manifest["config"]["digest"])
    config["rootfs"]["diff_ids"][-1] = f"sha256:{'0' * 64}"
    manifest["config"] |= put(config)
    index["manifests"][0] |= put(manifest)
    (layout / "index.json").write_text(json.dumps(index))


@pytest.fixture
def engine(need: Callable[..., None], need_root: None, scratch: Path) -> Iterator[DockerClient]:
    """An engine that has never seen our layers."""
    need("dockerd", "docker")
    with own_engine(scratch) as client:
        yield client


def test_docker_loads_a_layout_it_knows_nothing_of(
    engine: DockerClient, tiny_dist: Path, scratch: Path
) -> None:
    load(scratch, tiny_dist)
    for image in read_built(tiny_dist):
        for tag in image.tags:
            found = engine.images.get(tag)
            assert found.id == image.manifest["config"]["digest"]
            assert found.attrs["RootFS"]["Layers"] == image.config["rootfs"]["diff_ids"]


def test_docker_pulls_from_a_registry_and_loads_the_layout_as_a_tar(
    engine: DockerClient,
    need: Callable[..., None],
    dist: Path,
    runtime_image: BuiltImage,
    scratch: Path,
) -> None:
    """Pushed by skopeo, pulled and run by docker; then loaded, and found to be what it has."""
    need("docker-registry", "skopeo")
    tag = runtime_image.tags[0]
    with registry(scratch) as address:
        name = f"{address}/{tag}"
        run("skopeo", "copy", "--dest-tls-verify=false", f"oci:{dist}:{tag}", f"docker://{name}")
        shown = run("skopeo", "inspect", "--tls-verify=false", f"docker://{name}")
        assert json.loads(shown)["Digest"] == runtime_image.digest
        run("docker", "pull", "--quiet", name, env=client_environment(scratch))
    pulled = engine.images.get(name)
    repository = name.rpartition(":")[0]
    assert pulled.attrs["RepoDigests"] == [f"{repository}@{runtime_image.digest}"]
    assert_imports(scratch, name, runtime_image)

    image = only_this(runtime_image, scratch / "one")
    load(scratch, image.dist)
    for tag in image.tags:
        assert engine.images.get(tag).id == image.manifest["config"]["digest"]
    if image.digest == runtime_image.digest:
        assert engine.images.get(image.tags[0]).id == pulled.id
    assert_imports(scratch, image.tags[0], image)


def load(engine: Path, layout: Path) -> None:
    """`tar -C layout -c . | docker load`."""
    tar = ["tar", "-C", str(layout), "-c", "."]
    with subprocess.Popen(tar, stdout=subprocess.PIPE) as packing:
        run("docker", "load", stdin=packing.stdout, env=client_environment(engine))
    assert packing.returncode == 0


def only_this(image: BuiltImage, layout: Path) -> BuiltImage:
    """The image in a layout of its own, built from what the cache knows."""
    given: list[str | Path] = ["build", image.id, "--no-load", "--output", layout]
    given += ["--project", REPOSITORY, "--cache-dir", machine_cache()]
    built = wheelyard(given, layout.parent)
    assert built.returncode == 0, built.stderr
    (made,) = read_built(layout)
    return made


def assert_imports(engine: Path, name: str, image: BuiltImage) -> None:
    """A container computes something, as the image's own user."""
    docker = ["docker", "run", "--rm", "--network=none", name, "python", "-c", IMPORT]
    said = run(*docker, env=client_environment(engine))
    version, total = said.split()
    assert version.partition("+")[0] == image.cell["framework_version"]
    assert float(total) == 4.0
