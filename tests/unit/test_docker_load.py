"""What is sent to an engine, and what is said when there is none: everything short of an engine."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import socket
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from wheelyard.engines import docker
from wheelyard.errors import EngineError, StorageError
from wheelyard.oci import archive
from wheelyard.oci.archive import LoadableImage


@pytest.fixture(autouse=True)
def no_docker_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither this user's contexts nor this shell's variables count."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker-config"))


@pytest.fixture
def blobs(tmp_path: Path) -> Path:
    folder = tmp_path / "blobs" / "sha256"
    folder.mkdir(parents=True)
    return folder


def put(blobs: Path, content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()
    (blobs / digest).write_bytes(content)
    return f"sha256:{digest}"


def make_image(blobs: Path, *contents: bytes, manifest: bool = False) -> LoadableImage:
    layers = tuple((put(blobs, content), f"sha256:diff-{content!r}") for content in contents)
    return LoadableImage(
        put(blobs, b"config"),
        layers,
        ("pytorch:2.3.1", "pytorch:2.3"),
        put(blobs, b"manifest") if manifest else None,
    )


def read_tar(members: tuple[archive.ArchiveMember, ...]) -> dict[str, bytes]:
    content = b"".join(archive.stream(members))
    assert len(content) == archive.archive_size(members)
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        entries = tar.getmembers()
        assert len({entry.name for entry in entries}) == len(entries)
        return {entry.name: tar.extractfile(entry).read() for entry in entries}  # type: ignore[union-attr]


def test_archive_carries_manifest_config_and_layers(blobs: Path) -> None:
    image = make_image(blobs, b"base", b"torch" * 300)
    files = read_tar(archive.make_archive(blobs, image))
    (entry,) = json.loads(files["manifest.json"])
    assert entry["RepoTags"] == ["pytorch:2.3.1", "pytorch:2.3"]
    assert files[entry["Config"]] == b"config"
    assert [files[name] for name in entry["Layers"]] == [b"base", b"torch" * 300]
    assert "index.json" not in files


def test_a_blob_used_twice_is_sent_once(blobs: Path) -> None:
    image = make_image(blobs, b"empty", b"torch", b"empty")
    files = read_tar(archive.make_archive(blobs, image))
    (entry,) = json.loads(files["manifest.json"])
    assert [files[name] for name in entry["Layers"]] == [b"empty", b"torch", b"empty"]


def test_layers_that_are_there_keep_their_place_but_not_their_bytes(blobs: Path) -> None:
    image = make_image(blobs, b"base", b"cuda", b"torch")
    files = read_tar(archive.make_archive(blobs, image, omit=2))
    (entry,) = json.loads(files["manifest.json"])
    assert len(entry["Layers"]) == 3
    assert [name in files for name in entry["Layers"]] == [False, False, True]


def test_a_local_engine_gets_its_layers_inflated(blobs: Path) -> None:
    contents = b"base" * 4000, b"torch" * 300
    packed = [gzip.compress(content[:9]) + gzip.compress(content[9:]) for content in contents]
    image = make_image(blobs, manifest=True)
    layers = tuple(
        (put(blobs, blob), f"sha256:{hashlib.sha256(content).hexdigest()}")
        for blob, content in zip(packed, contents, strict=True)
    )
    image = replace(image, layers=layers, sizes=tuple(map(len, contents)))
    files = read_tar(archive.make_inflated_archive(blobs, image))
    (entry,) = json.loads(files["manifest.json"])
    assert files[entry["Config"]] == b"config"
    assert [files[name] for name in entry["Layers"]] == list(contents)
    assert not {"index.json", "oci-layout"} & files.keys()
    upper = read_tar(archive.make_inflated_archive(blobs, image, omit=1))
    assert [name in upper for name in entry["Layers"]] == [False, True]
    wrong = replace(image, sizes=(1 << 20, 1))
    with pytest.raises(StorageError, match="is shorter than it was"):
        list(archive.stream(archive.make_inflated_archive(blobs, wrong)))


def test_with_a_manifest_the_archive_is_an_oci_layout_too(blobs: Path) -> None:
    image = make_image(blobs, b"base", manifest=True)
    files = read_tar(archive.make_archive(blobs, image))
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads(files["index.json"])
    assert {item["digest"] for item in index["manifests"]} == {image.manifest}
    assert {item["size"] for item in index["manifests"]} == {len(b"manifest")}
    assert [item["annotations"]["io.containerd.image.name"] for item in index["manifests"]] == [
        "docker.io/library/pytorch:2.3.1",
        "docker.io/library/pytorch:2.3",
    ]
    assert files[archive.blob_name(str(image.manifest))] == b"manifest"


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        ("pytorch:2.3.1", "docker.io/library/pytorch:2.3.1"),
        ("me/pytorch:2.3.1", "docker.io/me/pytorch:2.3.1"),
        ("registry.example/pytorch:2.3.1", "registry.example/pytorch:2.3.1"),
        ("localhost/pytorch:2.3.1", "localhost/pytorch:2.3.1"),
        ("host:5000/pytorch:2.3.1", "host:5000/pytorch:2.3.1"),
    ],
)
def test_names_are_completed_as_docker_does(tag: str, name: str) -> None:
    assert archive.full_name(tag) == name


def test_a_size_beyond_eight_gibibytes_fits_the_header(tmp_path: Path) -> None:
    sparse = tmp_path / "big"
    with sparse.open("wb") as file:
        file.truncate(9 << 30)
    header = next(archive.stream([archive.ArchiveMember("blobs/sha256/x", 9 << 30, sparse)]))
    assert tarfile.TarInfo.frombuf(header, "utf-8", "strict").size == 9 << 30


def test_a_missing_blob_is_named_before_anything_is_sent(blobs: Path) -> None:
    image = make_image(blobs, b"base")
    (blobs / image.config.partition(":")[2]).unlink()
    with pytest.raises(StorageError, match="is missing from the image layout; build it again"):
        archive.make_archive(blobs, image)


def test_a_blob_that_shrinks_while_it_is_sent_is_an_error(blobs: Path) -> None:
    image = make_image(blobs, b"base" * 1000)
    members = archive.make_archive(blobs, image)
    (blobs / image.layers[0][0].partition(":")[2]).write_bytes(b"short")
    with pytest.raises(StorageError, match="is shorter than it was"):
        list(archive.stream(members))


@pytest.mark.parametrize(
    ("present", "count"),
    [
        ([], 0),
        ([("a", "b", "c")], 3),
        ([("a", "b", "c", "d")], 3),
        ([("a",), ("a", "b", "x"), ("b", "c")], 2),
        ([("b", "a")], 0),
        ([()], 0),
    ],
)
def test_only_a_common_beginning_of_layers_is_shared(
    present: list[tuple[str, ...]], count: int
) -> None:
    assert archive.shared_layers(("a", "b", "c"), present) == count


def test_default_socket_when_nothing_is_chosen() -> None:
    endpoint = docker.find_endpoint({})
    assert (endpoint.url, endpoint.chosen_by) == ("unix:///var/run/docker.sock", None)


def test_docker_host_comes_before_the_context() -> None:
    endpoint = docker.find_endpoint({"DOCKER_HOST": "tcp://10.0.0.1:2375", "DOCKER_CONTEXT": "x"})
    assert (endpoint.url, endpoint.chosen_by) == ("tcp://10.0.0.1:2375", "DOCKER_HOST")


def write_context(config: Path, name: str, host: str) -> None:
    meta = config / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest()
    meta.mkdir(parents=True)
    (config / "config.json").write_text(json.dumps({"currentContext": name}))
    endpoints = {"docker": {"Host": host, "SkipTLSVerify": False}}
    (meta / "meta.json").write_text(
        json.dumps({"Name": name, "Metadata": {}, "Endpoints": endpoints})
    )


def test_the_current_context_of_the_docker_command_is_followed(tmp_path: Path) -> None:
    write_context(tmp_path / "docker-config", "rootless", "unix:///run/user/1000/docker.sock")
    endpoint = docker.find_endpoint({})
    assert endpoint.url == "unix:///run/user/1000/docker.sock"
    assert endpoint.chosen_by == "docker context 'rootless'"


def test_a_context_that_is_not_there_is_named() -> None:
    with pytest.raises(EngineError, match="no docker context 'gone'; see `docker context ls`"):
        docker.find_endpoint({"DOCKER_CONTEXT": "gone"})


def test_a_chosen_engine_that_is_not_running_is_an_error(tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/none.sock"
    with pytest.raises(EngineError, match=r"chosen by DOCKER_HOST\) is not running: start it"):
        docker.connect({"DOCKER_HOST": url})


def test_no_engine_at_the_default_socket_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker, "DEFAULT_UNIX_SOCKET", f"http+unix://{tmp_path}/none.sock")
    assert docker.connect({}) is None


def test_a_socket_without_an_engine_behind_it_counts_as_not_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(stale))
    monkeypatch.setattr(docker, "DEFAULT_UNIX_SOCKET", f"http+unix://{stale}")
    assert docker.connect({}) is None


@pytest.fixture
def silent_engine() -> Iterator[str]:
    """Something listens, takes the connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"


def test_an_engine_that_says_nothing_is_an_error(
    silent_engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker, "CONNECT_TIMEOUT", 0.2)
    with pytest.raises(EngineError, match="does not answer"):
        docker.connect({"DOCKER_HOST": silent_engine, "NO_PROXY": "127.0.0.1"})


def test_an_engine_behind_ssh_is_reached_by_a_forwarded_socket() -> None:
    """The SDK's way there is a library that we do not bring."""
    with pytest.raises(EngineError, match=r"ssh -nNT -L .*docker\.sock") as caught:
        docker.connect({"DOCKER_HOST": "ssh://anna@far.example"})
    assert "DOCKER_HOST=unix://" in str(caught.value)


def test_no_permission_says_how_to_get_it() -> None:
    error = OSError("Connection aborted", PermissionError(13, "Permission denied"))
    message = docker.explain_connection(docker.Endpoint("unix:///x.sock", None), error)
    assert "add the user to the group that owns the socket" in message


def test_a_full_disk_is_named_as_such() -> None:
    words = "Error processing tar file(exit status 1): write /layer.tar: no space left on device"
    assert docker.explain_failure(words).startswith("the engine's disk is full")
    assert words in docker.explain_failure(words)
