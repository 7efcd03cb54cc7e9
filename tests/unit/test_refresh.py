"""`wheelyard upstream refresh`: facts from wheels by byte ranges, and indexes that misbehave."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import planning
import pytest
from facts_index import (
    FAT_BINARY,
    METADATA,
    VERSION,
    FactsIndex,
    jax_wheel,
    serving,
    settings_for,
    tensorflow_wheel,
    torch_wheel,
)

from wheelyard.cli import main
from wheelyard.errors import FetchError
from wheelyard.fetching.transport import make_client
from wheelyard.frameworks.known import FRAMEWORKS
from wheelyard.lock.upstream.listing import parse_listing
from wheelyard.lock.upstream.refresh import FrameworkListing, offered_releases, read_releases
from wheelyard.lock.upstream.simpleindex import read_listing
from wheelyard.planning.facts import CPU, DATA, Release, facts_file, facts_target, load_upstream
from wheelyard.planning.plan import load_inputs

REPOSITORY = Path(__file__).parents[2]
NAME = "torch-2.3.1-cp311-cp311-manylinux1_x86_64.whl"


@pytest.fixture
def index() -> Iterator[FactsIndex]:
    with serving(FactsIndex()) as found:
        yield found


def read(
    folder: Path, index: FactsIndex, known: dict[str, Release] | None = None, **listing: Any
) -> dict[str, Release]:
    """The facts of a listing of `index`, by the real client."""
    wanted: dict[str, Any] = {
        "framework": "pytorch", "distribution": "torch", "since": "2.1", "local": None, **listing,
    }  # fmt: skip
    wanted["built"] = FRAMEWORKS[wanted["framework"].partition("-")[0]].built
    received: list[int] = []
    project = wanted["distribution"].partition("[")[0]
    settings = settings_for(folder, index)
    with make_client(settings) as client:
        files = read_listing(client, str(settings.index_url), project)
        assert files is not None
        shelved = FrameworkListing(**wanted, files=files)
        return read_releases(shelved, known or {}, client, received.append, reread=False)


def test_facts_are_read_from_the_wheel_by_parts(tmp_path: Path, index: FactsIndex) -> None:
    digest = index.add("torch", NAME, torch_wheel())
    index.add("torch", NAME.replace("cp311", "cp39"), torch_wheel())
    index.add("torch", NAME.replace("cp311-cp311", "cp313-cp313t"), torch_wheel())
    index.add("torch", NAME.replace("manylinux1_x86_64", "macosx_11_0_arm64"), b"")
    release = read(tmp_path, index, distribution="torch[and-cuda]")["2.3.1"]
    assert (release.cuda, release.cudnn, release.nccl) == ("12.1", "8.9.2.26", "2.20.5")
    assert release.pythons == ("3.9", "3.11")
    assert release.architectures == ("sm_80", "compute_90")
    assert (release.wheel, release.sha256, release.built_cudnn) == (NAME, digest, None)
    assert release.requires == {
        "nvidia-cuda-runtime-cu12": "==12.1.105",
        "nvidia-cudnn-cu12": "==8.9.2.26",
        "nvidia-nccl-cu12": "==2.20.5",
        "triton": "==2.3.1",
    }
    assert sum(index.sent) < 500_000  # of 5 MB


def test_tensorflow_says_what_it_was_built_for(tmp_path: Path, index: FactsIndex) -> None:
    name = "tensorflow-2.20.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
    index.add("tensorflow", name, tensorflow_wheel())
    release = read(tmp_path, index, distribution="tensorflow", framework="tensorflow")["2.20.0"]
    assert (release.cuda, release.built_cudnn) == ("12.5.1", "9")
    assert release.architectures == ("sm_60", "compute_90")


def test_tensorflow_that_states_no_cuda(tmp_path: Path, index: FactsIndex) -> None:
    name = "tensorflow-2.20.0-cp311-cp311-manylinux2014_x86_64.whl"
    index.add("tensorflow", name, tensorflow_wheel("build_info = {}"))
    with pytest.raises(FetchError, match="does not state its CUDA version"):
        read(tmp_path, index, distribution="tensorflow", framework="tensorflow")


PLUGIN = "jax_cuda12_plugin-0.12.0-cp313-cp313-manylinux_2_27_x86_64.whl"


def plugin(folder: Path, index: FactsIndex, wheel: bytes) -> Release:
    index.add("jax-cuda12-plugin", PLUGIN, wheel)
    found = read(
        folder, index, since="0.10", framework="jax-cuda12",
        distribution="jax-cuda12-plugin[with-cuda]",
    )  # fmt: skip
    return found["0.12.0"]


def test_what_jax_was_built_for_is_in_machine_code(tmp_path: Path, index: FactsIndex) -> None:
    release = plugin(tmp_path, index, jax_wheel())
    assert (release.cuda, release.built_cudnn) == ("12.9", "9.10.2")
    assert (release.cudnn, release.nccl) == ("9.10.2.21", "2.18.1")
    assert release.architectures == ("sm_80", "sm_120", "compute_120")
    assert release.compiler == ">=12.6.85"


@pytest.mark.parametrize(
    ("wheel", "says"),
    [
        (jax_wheel(cuda=13000), "_versions.so inside does not state its CUDA version"),
        (jax_wheel(cudnn=8907), "_versions.so inside does not state its CUDA version"),
        (jax_wheel(names=b"nothing"), "_versions.so inside does not state its CUDA version"),
        (jax_wheel(kernels=None), "has no jax_cuda12_plugin/_linalg.so"),
        (torch_wheel(), "has no _versions.so"),
    ],
)
def test_a_plugin_without_facts_is_named(
    tmp_path: Path, index: FactsIndex, wheel: bytes, says: str
) -> None:
    with pytest.raises(FetchError, match=says):
        plugin(tmp_path, index, wheel)


@pytest.mark.parametrize("length", range(0, 200, 7))
def test_a_fat_binary_that_ends_early(tmp_path: Path, index: FactsIndex, length: int) -> None:
    found = plugin(tmp_path, index, jax_wheel(kernels=FAT_BINARY[:length])).architectures
    assert set(found) <= {"sm_80", "sm_120", "compute_120"}


def test_only_final_releases_since_the_floor_count(tmp_path: Path, index: FactsIndex) -> None:
    for version in ("2.0.1", "2.3.1", "2.4.0rc1", "2.3.1+cu118"):
        index.add("torch", NAME.replace("2.3.1", version), torch_wheel())
    assert set(read(tmp_path, index)) == {"2.3.1"}
    assert set(read(tmp_path, index, local="cu118")) == {"2.3.1+cu118"}


def test_of_two_builds_of_one_version_the_higher_counts(tmp_path: Path, index: FactsIndex) -> None:
    index.add("torch", NAME.replace("2.3.1-", "2.3.1-3-"), torch_wheel())
    index.add("torch", NAME, torch_wheel(version=VERSION.replace("12.1", "11.8")))
    index.add("torch", NAME.replace("2.3.1-", "2.3.1-10-"), torch_wheel(), yanked="broken")
    release = read(tmp_path, index)["2.3.1"]
    assert (release.wheel, release.cuda) == (NAME.replace("2.3.1-", "2.3.1-3-"), "12.1")


def test_a_wheel_that_was_read_is_not_read_again(tmp_path: Path, index: FactsIndex) -> None:
    index.add("torch", NAME, torch_wheel())
    known = read(tmp_path, index)
    index.sent.clear()
    index.add("torch", NAME.replace("cp311", "cp310"), torch_wheel())
    again = read(tmp_path, index, known)
    assert index.sent == []
    assert again["2.3.1"].pythons == ("3.10", "3.11")


def test_a_build_without_cuda(tmp_path: Path, index: FactsIndex) -> None:
    name = NAME.replace("2.3.1", "2.3.1+cpu")
    wheel = torch_wheel(version="cuda: Optional[str] = None\n", metadata="Name: torch\n")
    index.add("torch", name, wheel)
    release = read(tmp_path, index, local="cpu")["2.3.1+cpu"]
    assert (release.cuda, release.cudnn, release.requires) == (CPU, "none", {})


def test_builds_for_other_architectures_are_read_beside_the_default(
    tmp_path: Path, index: FactsIndex
) -> None:
    metadata = METADATA.replace('"x86_64"', '"aarch64"').replace("8.9.2.26", "9.19.0.56")
    index.add("torch", NAME, torch_wheel())
    index.add("torch", NAME.replace("x86_64", "aarch64"), torch_wheel(metadata=metadata))
    known = read(tmp_path, index)
    release = known["2.3.1"]
    assert (release.machine, release.cudnn) == ("amd64", "8.9.2.26")
    build = release.builds["arm64"]
    assert (build.machine, build.cudnn, build.wheel) == (
        "arm64",
        "9.19.0.56",
        NAME.replace("x86_64", "aarch64"),
    )
    index.sent.clear()
    assert read(tmp_path, index, known) == known
    assert index.sent == []


def test_a_wheel_that_only_asks_for_another_is_no_build(tmp_path: Path, index: FactsIndex) -> None:
    """TensorFlow 2.15's for arm64: nothing but its metadata."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("torch-2.3.1.dist-info/METADATA", "Name: torch\n")
    index.add("torch", NAME, torch_wheel())
    index.add("torch", NAME.replace("x86_64", "aarch64"), content.getvalue())
    assert read(tmp_path, index)["2.3.1"].builds == {}


@pytest.mark.parametrize(
    ("wheel", "says"),
    [
        (None, "404"),
        (b"not a zip", "the file from the index is not a wheel"),
        (torch_wheel()[:-400], "the file from the index is not a wheel"),
        (torch_wheel(version="cuda = 12"), "does not state its CUDA version"),
        (torch_wheel(version=None), "has no torch/version.py, which states the CUDA of the build"),
        (torch_wheel(config=None), "has no torch/include/ATen/cuda/CUDAConfig.h"),
        (torch_wheel(metadata=None), "0 METADATA files"),
        (torch_wheel(metadata="Name: torch\n"), "it does not require cuDNN"),
        (torch_wheel(metadata="Requires-Dist: ~~\n"), "an invalid requirement"),
        (tensorflow_wheel(), "has no torch/version.py"),
    ],
)
def test_a_wheel_without_facts_is_named(
    tmp_path: Path, index: FactsIndex, wheel: bytes | None, says: str
) -> None:
    index.add("torch", NAME, wheel)
    index.add("torch", NAME.replace("2.3.1", "2.4.0"), torch_wheel())
    with pytest.raises(FetchError, match=rf"(?s)1 wheel\(s\) of pytorch.*{NAME}: .*{says}"):
        read(tmp_path, index)


def test_a_server_without_byte_ranges_is_refused(tmp_path: Path, index: FactsIndex) -> None:
    index.ranges = False
    index.add("torch", NAME, torch_wheel())
    with pytest.raises(FetchError, match="ignores byte ranges"):
        read(tmp_path, index)


def test_metadata_of_another_file_is_refused(tmp_path: Path, index: FactsIndex) -> None:
    """The index lists one file's hashes and serves another."""
    index.add("torch", NAME, torch_wheel(), **{"core-metadata": {"sha256": "0" * 64}})
    with pytest.raises(FetchError, match=f"{NAME}: its METADATA has another hash"):
        read(tmp_path, index)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((200, "text/html", b"\x00garbage"), "not contain HTML"),
        ((200, "image/png", b"x"), "it is image/png, not an index page"),
        ((200, "application/json", b"{"), "is not a project page"),
        ((200, "application/json", b"[]"), "does not contain a list of files"),
        ((200, "application/json", b'{"files": [3]}'), "an entry cannot be read"),
        ((200, "application/json", b'{"files": [{"filename": "x"}]}'), "cannot be read"),
        ((403, "text/plain", b""), "access refused"),
    ],
)
def test_an_index_that_answers_garbage(
    tmp_path: Path, index: FactsIndex, answer: tuple[int, str, bytes], says: str
) -> None:
    index.pages["/simple/torch/"] = answer
    with pytest.raises(FetchError, match=rf"(?s)torch.*{says}"):
        read(tmp_path, index)


def test_a_busy_index_is_asked_again(tmp_path: Path, index: FactsIndex) -> None:
    index.add("torch", NAME, torch_wheel())
    index.busy = 2
    assert set(read(tmp_path, index)) == {"2.3.1"}


def test_a_plain_html_index_lists_the_same() -> None:
    body = (
        b'<!DOCTYPE html><a href="/f/a-1-cp311-cp311-linux_x86_64.whl#sha256=ab" '
        b'data-yanked="bad" data-core-metadata="sha256=cd">a</a><a href="b-2.tar.gz">b</a>'
    )
    one, other = parse_listing("text/html", body, "http://host/simple/a/")
    assert one.url == "http://host/f/a-1-cp311-cp311-linux_x86_64.whl"
    assert (one.sha256, one.yanked, one.metadata) == ("ab", "bad", "cd")
    assert (other.filename, other.sha256, other.yanked) == ("b-2.tar.gz", None, None)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with the tests' matrix, and facts that know PyTorch 2.3.1 only."""
    planning.write(tmp_path, planning.document())
    return tmp_path


def refresh(project: Path, index: FactsIndex, *options: str) -> int:
    return main(
        ["--project", str(project), "--cache-dir", str(project / "cache"), "--quiet",
         "--index-url", f"{index.url}/simple", "upstream", "refresh",
         "--data", str(project / "facts.json"), *options]
    )  # fmt: skip


def test_the_command_reports_what_changed_and_writes_it(
    project: Path, index: FactsIndex, capsys: pytest.CaptureFixture[str]
) -> None:
    index.add("torch", NAME, torch_wheel())
    index.add("torch", NAME.replace("2.3.1", "2.4.0"), torch_wheel())
    index.listed["tensorflow"] = []
    assert refresh(project, index, "--json") == 0
    assert [(c["version"], c["kind"]) for c in json.loads(capsys.readouterr().out)] == [
        ("2.3.1", "new"), ("2.4.0", "new"),
    ]  # fmt: skip
    for file in index.listed["torch"]:
        file["yanked"] = "2.4.0" in file["filename"] and "crashes"
    del index.listed["torch"][0]
    newer = torch_wheel(metadata=METADATA.replace("2.20.5", "2.21.5"))
    index.add("torch", NAME.replace("2.3.1-", "2.3.1-1-"), newer)
    assert refresh(project, index, "--json") == 0
    changes = {c["version"]: c for c in json.loads(capsys.readouterr().out)}
    assert changes["2.4.0"]["kind"] == "yanked"
    assert changes["2.4.0"]["detail"] == "crashes"
    assert "nccl: 2.20.5 -> 2.21.5" not in changes["2.3.1"]["detail"]  # no extra was asked for
    assert "wheel: " in changes["2.3.1"]["detail"]
    assert set(load_upstream(project / "facts.json")["pytorch"]) == {"2.3.1", "2.4.0"}
    index.listed["torch"] = []
    assert refresh(project, index) == 0
    assert "gone" in capsys.readouterr().out


def test_a_failed_refresh_writes_nothing(
    project: Path, index: FactsIndex, capsys: pytest.CaptureFixture[str]
) -> None:
    index.add("torch", NAME, torch_wheel(version=None))
    index.listed["tensorflow"] = []
    assert refresh(project, index) == FetchError.exit_code
    assert NAME in capsys.readouterr().err
    assert not (project / "facts.json").exists()
    del index.listed["torch"]
    assert refresh(project, index) == FetchError.exit_code
    assert "has no project torch" in capsys.readouterr().err


def test_a_release_that_is_yanked_as_a_whole_is_still_an_offer() -> None:
    body = json.dumps(
        {"files": [{"filename": NAME, "url": NAME, "hashes": {}, "yanked": "bad"}]}
    ).encode()
    files = parse_listing("application/json", body, "http://host/simple/torch/")
    built = FRAMEWORKS["pytorch"].built
    listing = FrameworkListing("pytorch", "torch", "2.1", None, files, built)
    offer = offered_releases(listing)["2.3.1"]
    assert (offer.yanked, offer.pythons) == ("bad", ("3.11",))


def test_a_project_elsewhere_gets_facts_of_its_own(project: Path, index: FactsIndex) -> None:
    """What wheelyard came with stays as it is, and goes into them."""
    committed = DATA.read_bytes()
    index.add("torch", NAME.replace("2.3.1", "2.99.0"), torch_wheel())
    index.listed["tensorflow"] = []
    given = ["--project", str(project), "--cache-dir", str(project / "cache"), "--quiet"]
    asked = [*given, "--index-url", f"{index.url}/simple"]
    assert facts_file(project) == DATA
    assert main([*asked, "upstream", "refresh"]) == 0
    assert DATA.read_bytes() == committed
    assert facts_file(project) == project / "upstream.json"
    known = load_inputs(project)[1]["pytorch"]
    assert "2.99.0" in known
    assert set(load_upstream()["pytorch"]) == set(known) - {"2.99.0"}
    assert facts_target(REPOSITORY) == DATA
