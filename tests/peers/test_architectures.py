"""One tag for two architectures: what other people's tools find, copy and pull."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from devcontainers import read_config
from docker import DockerClient
from locking import Index
from tiny import Tiny, make_both

from tests.engines.podman import Storage
from tests.peers.command import wheelyard
from tests.peers.project import REPOSITORY
from tests.peers.pushed import RUNTIME, digest_there, layout_digest
from wheelyard.architecture import ARCHITECTURES
from wheelyard.cli import main
from wheelyard.console.progress import QuietReporter
from wheelyard.devcontainers.preparing import prepare
from wheelyard.errors import StorageError
from wheelyard.images.build.build import build_images
from wheelyard.images.build.results import Built
from wheelyard.oci.layout import Layout
from wheelyard.publish.unbundle import import_bundle
from wheelyard.rendering.devcontainers import find_variant

pytestmark = pytest.mark.usefixtures("at_nobodys_home", "registry_tools")

ARM = f"{RUNTIME}-arm64"
DEVEL = f"{RUNTIME}-devel"
SHORT = "pytorch:2.3.1"


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make_both(tmp_path_factory.mktemp("both"))


@pytest.fixture(scope="module")
def dist(both: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("both-out") / "dist"
    results = build_images(both.plan.cells, both.plan, folder, both.context)
    assert all(isinstance(result, Built) for result in results), results
    return folder


@pytest.fixture
def push(both: Tiny, dist: Path, tmp_path: Path, address: str) -> Callable[..., int]:
    def call(*words: str) -> int:
        given = ["push", "--project", both.folder, "--output", dist, "--timeout", 5]
        where = ["--cache-dir", tmp_path / "cache", "--registry", f"http://{address}/team"]
        return main([*map(str, (*given, *where)), *words])

    return call


def raw(address: str, tag: str) -> Any:
    command = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{address}/team/{tag}"]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def listed(address: str, tag: str) -> dict[str, str]:
    """Architecture -> digest, of the index that a tag names."""
    entries = raw(address, tag)["manifests"]
    return {entry["platform"]["architecture"]: entry["digest"] for entry in entries}


def test_layers_that_fit_every_processor_are_shared(dist: Path) -> None:
    layers = {
        tag: [
            layer["digest"] for layer in json.loads(blob(dist, layout_digest(dist, tag)))["layers"]
        ]
        for tag in (RUNTIME, ARM)
    }
    here, there = layers[RUNTIME], layers[ARM]
    assert here[0] != there[0]  # the bases
    assert here[1:-1] == there[1:-1]  # wheels for any platform, and their bytecode
    assert here[-1] != there[-1]  # the cells


def blob(dist: Path, digest: str) -> bytes:
    return (dist / "blobs/sha256" / digest.partition(":")[2]).read_bytes()


def in_layout(dist: Path, tag: str) -> dict[str, str]:
    """Architecture -> digest, of what a name of an OCI layout leads to; skopeo chooses by it."""
    entries = json.loads((dist / "index.json").read_text())["manifests"]
    names = "org.opencontainers.image.ref.name"
    (found,) = [entry for entry in entries if entry["annotations"][names] == tag]
    assert found["mediaType"] == "application/vnd.oci.image.index.v1+json"
    index = json.loads(blob(dist, found["digest"]))["manifests"]
    for entry in index:
        name = entry["platform"]["architecture"]
        command = ["skopeo", f"--override-arch={name}", "inspect", "--config", f"oci:{dist}:{tag}"]
        config = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        assert config["architecture"] == name
    return {entry["platform"]["architecture"]: entry["digest"] for entry in index}


def test_a_name_of_the_layout_and_of_a_bundle_is_an_index_of_both(
    push: Callable[..., int], dist: Path, tmp_path: Path, both: Tiny, address: str
) -> None:
    expected = {"amd64": layout_digest(dist), "arm64": layout_digest(dist, ARM)}
    assert in_layout(dist, RUNTIME) == in_layout(dist, SHORT) == expected
    assert in_layout(dist, "pytorch:latest") == expected
    bundle, imported = tmp_path / "both.tar", tmp_path / "imported"
    given = ["--project", both.folder, "--output", dist]
    assert main([*map(str, ("push", *given, "--layout", bundle)), "runtime"]) == 0
    subprocess.run(["tar", "-xf", bundle, "--one-top-level=x"], check=True, cwd=tmp_path)
    assert in_layout(tmp_path / "x", RUNTIME) == expected
    import_bundle(bundle, Layout(imported), QuietReporter(None))
    assert in_layout(imported, SHORT) == expected
    layout = Layout(imported)
    assert layout.prune() == 0
    references = layout.references()
    assert {references[RUNTIME].digest, references[ARM].digest} == {*expected.values()}
    layout.set_references({name: x for name, x in references.items() if name == RUNTIME})
    assert layout.prune() > 0  # arm64's image and the index
    assert layout.references() == {RUNTIME: references[RUNTIME]}


def test_a_damaged_index_is_named_and_made_again(dist: Path, tmp_path: Path) -> None:
    copy = Layout(tmp_path / "copy")
    shutil.copytree(dist, copy.folder)
    before = copy.references()
    index, _devel = sorted(copy.indexes())
    copy.blob(index).unlink()
    with pytest.raises(StorageError, match="is missing; build again"):
        copy.references()
    assert copy.repair({name: found.digest for name, found in before.items()}) == []
    assert copy.references() == before
    assert copy.blob(index).is_file()


def test_a_tag_is_an_index_of_both(
    push: Callable[..., int], address: str, dist: Path, tmp_path: Path, capsys: Any
) -> None:
    assert push("runtime", "--json") == 0
    seen = {image["id"]: image for image in json.loads(capsys.readouterr().out)}
    assert len(seen) == 2
    both = {"amd64": layout_digest(dist), "arm64": layout_digest(dist, ARM)}
    for tag in (RUNTIME, SHORT, "pytorch:latest"):
        assert listed(address, tag) == both
        assert raw(address, tag)["mediaType"] == "application/vnd.oci.image.index.v1+json"
    assert digest_there(f"{address}/team", ARM) == both["arm64"]
    for name, digest in both.items():
        config = json.loads(blob(dist, json.loads(blob(dist, digest))["config"]["digest"]))
        assert config["architecture"] == name
    copied = tmp_path / "copied"
    command = ["skopeo", "copy", "--all", "--src-tls-verify=false"]
    source = f"docker://{address}/team/{RUNTIME}"
    subprocess.run([*command, source, f"oci:{copied}:x"], check=True, capture_output=True)
    for digest in both.values():
        assert blob(copied, digest) == blob(dist, digest)
    assert push("runtime", "--json") == 0
    assert [image["moved"] for image in json.loads(capsys.readouterr().out)] == [[], []]


def test_docker_and_podman_pull_the_image_of_their_machine(
    push: Callable[..., int], address: str, dist: Path, engine: DockerClient, podman: Storage
) -> None:
    """And the other one where they are asked for it."""
    assert push("runtime") == 0
    name = f"{address}/team/{RUNTIME}"
    for architecture, tag in (("amd64", RUNTIME), ("arm64", ARM)):
        there = json.loads(blob(dist, layout_digest(dist, tag)))["config"]["digest"]
        others = () if architecture == "amd64" else (f"--platform=linux/{architecture}",)
        image = engine.images.pull(name, platform=f"linux/{architecture}" if others else None)
        assert (image.attrs["Architecture"], image.id) == (architecture, there)
        podman.podman("pull", "--quiet", "--tls-verify=false", *others, name)
        (image,) = json.loads(podman.podman("image", "inspect", name))
        assert (image["Architecture"], f"sha256:{image['Id']}") == (architecture, there)


def test_an_image_that_was_there_alone_joins_the_index(
    push: Callable[..., int], address: str, dist: Path
) -> None:
    """As published before arm64 was: the tag names the image itself."""
    source, target = f"oci:{dist}:{RUNTIME}", f"docker://{address}/team/{RUNTIME}"
    command = ["skopeo", "copy", "--dest-tls-verify=false", source, target]
    subprocess.run(command, check=True, capture_output=True)
    assert push(ARM) == 0
    assert listed(address, RUNTIME) == {
        "amd64": layout_digest(dist),
        "arm64": layout_digest(dist, ARM),
    }


def test_short_tags_wait_for_the_image_that_most_machines_need(
    push: Callable[..., int], address: str
) -> None:
    assert push(ARM) == 0
    assert list(listed(address, RUNTIME)) == ["arm64"]
    assert digest_there(f"{address}/team", SHORT) is None
    assert push(RUNTIME) == 0
    assert list(listed(address, SHORT)) == ["amd64", "arm64"]


def test_an_image_is_made_again_by_a_shared_tag(
    push: Callable[..., int], both: Tiny, address: str, tmp_path: Path, capsys: Any
) -> None:
    assert push("runtime") == 0
    given = ["reproduce", "--project", both.folder, "--cache-dir", both.context.settings.cache_dir]
    for tag in (RUNTIME, ARM):
        capsys.readouterr()
        where = ["--registry", f"http://{address}/team", tag, "--json"]
        assert main([*map(str, given), *where]) == 0
        made = json.loads(capsys.readouterr().out)
        assert made["id"].endswith("arm64") == (tag == ARM)


def test_a_project_stands_on_the_image_that_it_names(
    push: Callable[..., int], address: str, dist: Path, tmp_path: Path
) -> None:
    """On arm64's, too: the wheels for any platform are the same layers."""
    assert push("runtime") == 0
    index = Index(tmp_path / "index")
    index.add("extra", "1.0")
    env = {"WHEELYARD_REGISTRY": f"http://{address}/team", "WHEELYARD_CACHE": str(tmp_path / "c")}
    own: dict[str, list[str]] = {}
    with index.serve() as url:
        env["WHEELYARD_INDEX_URL"] = url
        for architecture, tag in (("amd64", SHORT), ("arm64", f"{SHORT}-arm64")):
            folder = tmp_path / architecture
            folder.mkdir()
            (folder / "requirements.txt").write_text("extra\n")
            (folder / "train.py").write_text("import extra\n")
            table = f'image = "{tag}"\nname = "model-{architecture}"\n'
            (folder / "wheelyard.toml").write_text(f'{table}requirements = ["requirements.txt"]\n')
            for word in ("lock", "push"):
                done = wheelyard((word,), folder, env)
                assert done.returncode == 0, done.stderr
            machine = ARCHITECTURES[architecture].machine
            assert f"platform_machine == '{machine}'" in (folder / "pylock.toml").read_text()
            base = layout_digest(dist, RUNTIME if architecture == "amd64" else ARM)
            below = json.loads(blob(dist, base))["layers"]
            layers = raw(address, f"model-{architecture}:latest")["layers"]
            assert layers[: len(below)] == below
            own[architecture] = [layer["digest"] for layer in layers[len(below) :]]
            name = f"docker://{address}/team/model-{architecture}:latest"
            command = ["skopeo", "inspect", "--config", "--raw", "--tls-verify=false", name]
            told = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            assert told["architecture"] == architecture
        refused = wheelyard(("push", "--bytecode"), tmp_path / "arm64", env)
    assert own["amd64"][0] == own["arm64"][0]  # the wheel
    assert refused.returncode != 0
    assert "runs on aarch64 only" in refused.stderr


def test_pick_goes_by_the_machine(
    push: Callable[..., int], dist: Path, address: str, tmp_path: Path, capsys: Any
) -> None:
    assert push("runtime") == 0
    given = ["pick", "--registry", f"http://{address}/team", "--gpu", "sm_90", "--json"]
    for name, tag in (("amd64", RUNTIME), ("arm64", ARM)):
        capsys.readouterr()
        assert main([*given, "--architecture", name]) == 0
        assert json.loads(capsys.readouterr().out)["digest"] == layout_digest(dist, tag)


@pytest.fixture
def configured(both: Tiny) -> Iterator[Path]:
    """The project with what its dev container is rendered from."""
    shutil.copytree(REPOSITORY / "templates", both.folder / "templates")
    before = set(both.folder.rglob("*"))
    yield both.folder
    for path in sorted(set(both.folder.rglob("*")) - before, reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    shutil.rmtree(both.folder / "templates")


def pin(project: Path, address: str, cache: Path) -> str:
    """Pin the published images, and return what the dev container opens then."""
    where = ["--project", project, "--registry", f"http://{address}/team", "--cache-dir", cache]
    assert main(["devcontainer", "pin", *map(str, where)]) == 0
    rendered = (project / "devcontainer/pytorch/devcontainer.json").read_text()
    return str(read_config(rendered)["image"])


def test_a_pinned_dev_container_is_an_index_of_both(
    push: Callable[..., int],
    configured: Path,
    dist: Path,
    address: str,
    tmp_path: Path,
    capsys: Any,
) -> None:
    assert push(DEVEL) == 0
    amd64 = layout_digest(dist, DEVEL)
    assert pin(configured, address, tmp_path / "c") == f"{address}/team/{DEVEL}@{amd64}"
    assert push("devel") == 0
    both = {"amd64": amd64, "arm64": layout_digest(dist, f"{DEVEL}-arm64")}
    assert listed(address, DEVEL) == both
    image = pin(configured, address, tmp_path / "c")
    assert image == f"{address}/team/{DEVEL}@{digest_there(f'{address}/team', DEVEL)}"
    assert amd64 not in image
    # A tag that somebody else moved is not taken for the catalogue's images.
    source, target = f"oci:{dist}:{RUNTIME}", f"docker://{address}/team/{DEVEL}"
    command = ["skopeo", "copy", "--all", "--dest-tls-verify=false", source, target]
    subprocess.run(command, check=True, capture_output=True)
    capsys.readouterr()
    assert pin(configured, address, tmp_path / "c") == f"{address}/team/{DEVEL}@{amd64}"
    assert "the one for amd64 alone is pinned" in " ".join(capsys.readouterr().err.split())


def test_an_index_that_holds_more_than_the_catalogue_s_images_is_not_pinned(
    push: Callable[..., int], configured: Path, address: str, tmp_path: Path
) -> None:
    """Nobody signed what else an index offers an engine."""
    assert push("devel") == 0
    index = raw(address, DEVEL)
    more = index["manifests"][1] | {"platform": {"architecture": "riscv64", "os": "linux"}}
    index["manifests"].append(more)
    url = f"http://{address}/v2/team/{DEVEL.replace(':', '/manifests/')}"
    answer = httpx.put(url, json=index, headers={"Content-Type": index["mediaType"]})
    assert answer.status_code == httpx.codes.CREATED
    assert len(listed(address, DEVEL)) == 3
    image = pin(configured, address, tmp_path / "c")
    assert image.endswith(f"@{index['manifests'][0]['digest']}")


def test_docker_opens_the_pinned_image_of_its_machine(
    push: Callable[..., int], configured: Path, dist: Path, address: str, engine: DockerClient,
    tmp_path: Path,
) -> None:  # fmt: skip
    """By tag and digest of the index, as programs that open dev containers pull it."""
    assert push("devel") == 0
    image = pin(configured, address, tmp_path / "c")
    subprocess.run(["docker", "pull", "--quiet", image], check=True, capture_output=True)
    there = json.loads(blob(dist, layout_digest(dist, DEVEL)))["config"]["digest"]
    found = engine.images.get(image)
    assert (found.attrs["Architecture"], found.id) == ("amd64", there)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_dev_container_is_made_for_the_engine_s_processor(
    both: Tiny, dist: Path, engine: DockerClient, machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine alone says which; it takes an image for another one all the same."""
    said = {**engine.info(), "Architecture": machine}
    monkeypatch.setattr(DockerClient, "info", lambda _self: said)
    variant = find_variant(both.plan.cells, "pytorch")
    told = prepare(variant, both.plan, dist, both.context)
    name = "arm64" if machine == "aarch64" else "amd64"
    image = engine.images.get(DEVEL)
    assert image.attrs["Architecture"] == name
    assert ("for arm64" in told) is (name == "arm64")
    assert prepare(variant, both.plan, dist, both.context) == f"{DEVEL} is in the engine"
