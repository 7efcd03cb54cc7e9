"""The rendered Dockerfile built by buildah, and the assembled image run by podman."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.engines.daemons import temporary_folder
from tests.engines.podman import Storage, rootless
from tests.engines.small import small_project, wheelhouse
from tests.engines.test_assembled import IMPORT, assert_versions
from tests.image.layout import BuiltImage
from tests.needs import need_to_be_root, need_tools
from wheelyard.contract.imageconfig import base_image, image_config
from wheelyard.lock.lockfile import read_requirements_lock
from wheelyard.model import Cell
from wheelyard.settings import Settings

INSTALLED = """
import importlib.metadata, json, os
found = {x.metadata["Name"]: x.version for x in importlib.metadata.distributions()}
print(json.dumps({"uid": os.getuid(), "groups": os.getgroups(), "found": found}))
"""


@pytest.fixture(scope="module")
def cell(scratch: Path, settings: Settings) -> Cell:
    """The one cell of a small project on the real base, rendered, and its base in a layout."""
    need_tools("mmdebstrap")
    return small_project(scratch, settings)


@pytest.fixture(scope="module")
def built(cell: Cell, scratch: Path, storage: Storage, settings: Settings) -> str:
    """The id of the image that buildah makes of the Dockerfile."""
    storage.take(scratch / "bases", base_image(cell))
    with wheelhouse(scratch, settings) as index:
        secret = scratch / "settings.sh"
        secret.write_text(f"export PIP_INDEX_URL={index} UV_DEFAULT_INDEX={index}\n")
        context = scratch / "project" / cell.folder
        return storage.build(context, "small", f"--secret=id=wheelyard-settings,src={secret}")


@pytest.fixture(scope="module")
def taken(storage: Storage, runtime_image: BuiltImage) -> str:
    """The name of the real image, taken from its layout."""
    return storage.take(runtime_image.dist, runtime_image.tags[0])


class TestBuildah:
    """A small project on the real base; its Dockerfile comes from the templates of all others."""

    def test_its_config_is_that_of_the_assembled_image(
        self, built: str, cell: Cell, scratch: Path, storage: Storage
    ) -> None:
        wanted = image_config(cell, read_requirements_lock(scratch / "project" / cell.lock))
        (found,) = json.loads(storage.podman("image", "inspect", built))
        config: dict[str, Any] = found["Config"]
        assert config["Env"] == [f"{name}={value}" for name, value in wanted.env]
        assert config["User"] == wanted.user
        assert config["WorkingDir"] == wanted.workdir
        assert tuple(config["Entrypoint"]) == wanted.entrypoint
        assert tuple(config["Cmd"]) == wanted.cmd
        assert dict(wanted.labels).items() <= config["Labels"].items()

    def test_it_holds_what_the_lock_lists(
        self, built: str, cell: Cell, scratch: Path, storage: Storage
    ) -> None:
        said = json.loads(storage.run(built, "python", "-c", INSTALLED))
        lock = read_requirements_lock(scratch / "project" / cell.lock)
        assert said["uid"] == 1000
        assert 900 in said["groups"]
        found = {name.lower().replace("_", "-"): x for name, x in said["found"].items()}
        assert {wheel.name: wheel.version for wheel in lock.wheels}.items() <= found.items()


def test_temporary_files_of_an_ordinary_user_go_with_the_storage(tmp_path: Path) -> None:
    need_to_be_root()
    need_tools("podman", "unshare", "setpriv", "newuidmap")
    with temporary_folder() as folder, temporary_folder() as state:
        storage, _ = rootless(folder, state, tmp_path, 4242)
        said = storage.podman("info", "--format={{.Store.ImageCopyTmpDir}}")
    assert said.strip() == str(folder)


class TestPodman:
    """The real image, as it was assembled."""

    def test_it_is_the_image_of_the_layout(
        self, taken: str, runtime_image: BuiltImage, storage: Storage
    ) -> None:
        (found,) = json.loads(storage.podman("image", "inspect", taken))
        assert f"sha256:{found['Id']}" == runtime_image.manifest["config"]["digest"]
        assert found["Digest"] == runtime_image.digest

    def test_torch_computes_as_the_image_s_own_user(
        self, taken: str, runtime_image: BuiltImage, storage: Storage
    ) -> None:
        uid, version, total = storage.run(taken, "python", "-c", IMPORT).split()
        assert uid == "1000"
        assert version.partition("+")[0] == runtime_image.cell["framework_version"]
        assert float(total) == 4.0

    def test_selfcheck_passes_every_version(self, taken: str, storage: Storage) -> None:
        assert_versions(json.loads(storage.run(taken, "selfcheck", "--json", "versions")))
