"""Properties of every image, from manifest, config and lock alone: no container."""

from __future__ import annotations

import json
import re
from datetime import datetime
from itertools import combinations
from pathlib import Path

import pytest

from tests.image.conftest import PROJECT
from tests.image.layout import BuiltImage, read_built, read_pins, read_references
from wheelyard.lock.lockfile import read_requirements_lock

MAX_LAYERS = 127  # overlay file systems stack no more
PRIVATE = re.compile(r"(^|_)(proxy|pip|uv|index_url|token|password|secret|key)(_|$)", re.IGNORECASE)
ADDRESS_WITH_LOGIN = re.compile(r"://[^/\s]*:[^/\s]*@")


def test_the_index_names_the_image_by_all_its_tags(layout: Path, image: BuiltImage) -> None:
    references = read_references(layout)
    assert image.tags
    assert {references.get(tag) for tag in image.tags} == {image.digest}


def test_no_tag_belongs_to_two_images(layout: Path) -> None:
    for one, two in combinations(read_built(layout), 2):
        assert not set(one.tags) & set(two.tags)


def test_every_blob_is_there_at_its_full_length(image: BuiltImage) -> None:
    for descriptor in [image.manifest["config"], *image.manifest["layers"]]:
        assert image.blob(descriptor["digest"]).stat().st_size == descriptor["size"]


def test_manifest_and_config_follow_the_specification(image: BuiltImage) -> None:
    manifest, config = image.manifest, image.config
    assert manifest["schemaVersion"] == 2
    assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert manifest["config"]["mediaType"] == "application/vnd.oci.image.config.v1+json"
    assert (config["os"], config["architecture"]) == ("linux", "amd64")
    assert config["rootfs"]["type"] == "layers"
    assert len(config["rootfs"]["diff_ids"]) == len(image.layers) < MAX_LAYERS
    said = [entry for entry in config["history"] if not entry.get("empty_layer")]
    assert len(said) == len(image.layers)


def test_its_date_is_that_of_its_locks_newest_file(image: BuiltImage) -> None:
    """A clock would make every build another image."""
    date = read_requirements_lock(PROJECT / "images" / image.id / "requirements.lock").newest
    assert image.config["created"] == date
    assert {entry["created"] for entry in image.config["history"]} == {date}
    assert date is not None
    datetime.fromisoformat(date)


def test_it_runs_as_an_ordinary_user_in_the_workspace(image: BuiltImage) -> None:
    settings = image.settings
    assert settings["User"] == "1000"
    assert settings["WorkingDir"] == "/workspace"
    assert settings["Entrypoint"] == ["/usr/bin/tini", "-s", "--", "/opt/wheelyard/entrypoint"]
    assert settings["StopSignal"] == "SIGTERM"
    assert settings["Healthcheck"] == {"Test": ["NONE"]}
    assert settings["Cmd"] == ["bash"]
    assert not settings.get("Volumes")


@pytest.mark.cuda(True)
def test_it_asks_the_container_runtime_for_the_gpus(image: BuiltImage) -> None:
    environment = image.environment
    assert environment["NVIDIA_VISIBLE_DEVICES"] == "all"
    assert environment["NVIDIA_DRIVER_CAPABILITIES"] == "compute,utility"
    assert image.cell["cuda"].split(".")[0] in environment["NVIDIA_REQUIRE_CUDA"]
    assert environment["NVIDIA_REQUIRE_CUDA"].startswith("cuda>=")


@pytest.mark.cuda(False)
def test_without_cuda_it_asks_for_no_gpu(image: BuiltImage) -> None:
    assert not [name for name in image.environment if name.startswith("NVIDIA")]
    pins = read_pins(PROJECT / "images" / image.id / "requirements.lock")
    cuda = [name for name in pins if name.startswith("nvidia-") and name != "nvidia-ml-py"]
    assert cuda == []


def test_the_environment_comes_first_on_the_path(image: BuiltImage) -> None:
    assert image.environment["PATH"].split(":")[0] == "/opt/venv/bin"


def test_labels_say_what_it_is(image: BuiltImage) -> None:
    labels = image.settings["Labels"]
    for name in ("title", "description", "version", "base.name"):
        assert labels.get(f"org.opencontainers.image.{name}"), name
    cells = [json.loads(text) for text in labels.values() if text.startswith("{")]
    described = [cell for cell in cells if cell.get("id") == image.id]
    assert described
    assert described[0].items() >= image.cell.items()
    metadata = json.loads(labels["devcontainer.metadata"])
    assert any(entry.get("remoteUser") == "dev" for entry in metadata)


def test_nothing_of_the_machine_that_built_it_is_in_the_configuration(image: BuiltImage) -> None:
    text = json.dumps([image.config, image.manifest])
    assert not [name for name in image.environment if PRIVATE.search(name)]
    assert not ADDRESS_WITH_LOGIN.search(text)
    assert str(PROJECT) not in text


def test_every_distribution_is_pinned_with_its_hash(image: BuiltImage) -> None:
    text = (PROJECT / "images" / image.id / "requirements.lock").read_text()
    wanted = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert wanted
    for line in wanted:
        assert re.fullmatch(r"[a-z0-9-]+==\S+ --hash=sha256:[0-9a-f]{64}", line), line


@pytest.mark.cuda(True)
def test_one_set_of_cuda_wheels(image: BuiltImage) -> None:
    pins = read_pins(PROJECT / "images" / image.id / "requirements.lock")
    cuda = [name for name in pins if name.startswith("nvidia-") and name != "nvidia-ml-py"]
    generations = {found[0] for name in cuda if (found := re.findall(r"cu(\d+)$", name))}
    assert len(generations) <= 1
    runtimes = [name for name in cuda if name.startswith("nvidia-cuda-runtime")]
    assert len(runtimes) == 1
    assert pins[runtimes[0]].startswith(image.cell["cuda"] + ".")


@pytest.mark.flavour("devel")
def test_devel_starts_with_all_layers_of_its_runtime(layout: Path, image: BuiltImage) -> None:
    """Who has the runtime image pulls only the tools."""
    below = [
        built
        for built in read_built(layout)
        if built.flavour == "runtime"
        and built.id.removesuffix("-runtime") == image.id.removesuffix("-devel")
    ]
    if not below:
        pytest.skip("its runtime image is not in this layout")
    shared = set(below[0].layers) & set(image.layers)
    assert len(shared) >= len(below[0].layers) / 2
    assert below[0].layers[0] == image.layers[0]
