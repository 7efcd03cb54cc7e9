"""Offline bundles: written, carried, taken in, and refused when they are not what they say."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tiny import Tiny, make_tiny

from wheelyard.cli import main
from wheelyard.console.progress import QuietReporter
from wheelyard.errors import InspectError, SignatureError, StorageError
from wheelyard.images.build.build import build_images
from wheelyard.oci.layout import LAYER_TYPE, Layout
from wheelyard.publish.attest.signing import make_signature
from wheelyard.publish.unbundle import import_bundle

SILENT = QuietReporter(None)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def dist(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out") / "dist"
    build_images(tiny.plan.cells, tiny.plan, folder, tiny.context)
    return folder


@pytest.fixture(scope="module")
def bundle(tiny: Tiny, dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both images as one file."""
    path = tmp_path_factory.mktemp("bundle") / "both.tar"
    assert push(tiny, dist, path, "all") == 0
    return path


def push(tiny: Tiny, dist: Path, path: Path, selector: str) -> int:
    given = ["push", selector, "--layout", path, "--output", dist, "--project", tiny.folder]
    return main([*map(str, given), "--quiet"])


def take(bundle: Path, output: Path, *words: str) -> int:
    given = ["import", bundle, "--no-load", "--quiet", "--output", output, *words]
    return main(list(map(str, given)))


def report(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "build.json").read_text())["images"]
    return found


def rewrite(bundle: Path, target: Path, name: str, content: bytes | None) -> Path:
    """The same tar with one member changed, or left out."""
    with tarfile.open(bundle) as source, tarfile.open(target, "w") as copy:
        for member in source:
            file = source.extractfile(member)
            assert file is not None
            data = file.read()
            if member.name == name:
                if content is None:
                    continue
                data, member.size = content, len(content)
            copy.addfile(member, io.BytesIO(data))
    return target


def test_what_goes_in_comes_out(
    dist: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a repository around it, too."""
    assert take(bundle, tmp_path / "oci", "--json") == 0
    images = json.loads(capsys.readouterr().out)
    assert Layout(tmp_path / "oci").references() == Layout(dist).references()
    assert {tag for image in images for tag in image["tags"]} == set(Layout(dist).references())
    assert not any(image["loaded"] for image in images)
    for image, built in zip(report(tmp_path / "oci"), report(dist), strict=True):
        assert image["inspected"] == {}  # which nobody here has seen
        told = ("id", "tags", "digest", "config", "layers", "compressed_bytes", "unpacked_bytes")
        assert {name: image[name] for name in told} == {name: built[name] for name in told}
    for blob in (dist / "blobs/sha256").iterdir():
        assert (tmp_path / "oci/blobs/sha256" / blob.name).read_bytes() == blob.read_bytes()


def test_the_same_images_give_the_same_bundle(
    tiny: Tiny, dist: Path, bundle: Path, tmp_path: Path
) -> None:
    assert push(tiny, dist, tmp_path / "again.tar", "all") == 0
    assert (tmp_path / "again.tar").read_bytes() == bundle.read_bytes()


def test_one_image_of_two_beside_what_is_there(tiny: Tiny, dist: Path, tmp_path: Path) -> None:
    for flavour in ("runtime", "devel"):
        assert push(tiny, dist, tmp_path / f"{flavour}.tar", flavour) == 0
    assert take(tmp_path / "runtime.tar", tmp_path / "oci") == 0
    only = Layout(tmp_path / "oci").references()
    assert set(only) == set(tiny.cell("runtime").tags)
    assert take(tmp_path / "devel.tar", tmp_path / "oci") == 0
    assert Layout(tmp_path / "oci").references() == Layout(dist).references()


def test_a_folder_is_a_bundle_too(tiny: Tiny, dist: Path, tmp_path: Path) -> None:
    assert push(tiny, dist, tmp_path / "folder", "runtime") == 0
    (image,) = import_bundle(tmp_path / "folder", Layout(tmp_path / "oci"), SILENT)
    assert image.tags == tuple(sorted(tiny.cell("runtime").tags))


def test_a_second_import_copies_nothing(bundle: Path, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "oci")
    import_bundle(bundle, layout, SILENT)
    assert [x.new_bytes for x in import_bundle(bundle, layout, SILENT)] == [0, 0]


class TestDamage:
    def refused(self, bundle: Path, folder: Path) -> str:
        with pytest.raises(StorageError) as caught:
            import_bundle(bundle, Layout(folder / "oci"), SILENT)
        assert Layout(folder / "oci").references() == {}
        assert not list((folder / "oci/blobs/sha256").glob(".*"))
        return str(caught.value)

    def layer(self, dist: Path) -> Path:
        return max((dist / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)

    def test_a_changed_blob(self, bundle: Path, dist: Path, tmp_path: Path) -> None:
        blob = self.layer(dist)
        data = blob.read_bytes()
        name = f"blobs/sha256/{blob.name}"
        bad = rewrite(bundle, tmp_path / "x.tar", name, data[:-1] + bytes([data[-1] ^ 1]))
        assert "is damaged" in self.refused(bad, tmp_path)

    def test_a_missing_blob(self, bundle: Path, dist: Path, tmp_path: Path) -> None:
        name = f"blobs/sha256/{self.layer(dist).name}"
        assert "incomplete" in self.refused(
            rewrite(bundle, tmp_path / "x.tar", name, None), tmp_path
        )

    def test_cut_short(self, bundle: Path, tmp_path: Path) -> None:
        (tmp_path / "x.tar").write_bytes(bundle.read_bytes()[:-3_000_000])
        assert self.refused(tmp_path / "x.tar", tmp_path)

    def test_no_tar(self, tmp_path: Path) -> None:
        (tmp_path / "x.tar").write_bytes(b"<html>" * 1000)
        assert "not a tar file" in self.refused(tmp_path / "x.tar", tmp_path)

    def test_not_there(self, tmp_path: Path) -> None:
        assert "does not exist" in self.refused(tmp_path / "x.tar", tmp_path)

    def test_another_index(self, bundle: Path, tmp_path: Path) -> None:
        bad = rewrite(bundle, tmp_path / "x.tar", "index.json", b'{"manifests": [{}]}')
        assert "not a bundle of images" in self.refused(bad, tmp_path)

    def test_a_digest_that_is_a_path(self, bundle: Path, tmp_path: Path) -> None:
        with tarfile.open(bundle) as source:
            file = source.extractfile("index.json")
            assert file is not None
            index = json.loads(file.read())
        index["manifests"][0]["digest"] = "sha256:../../../etc/passwd"
        content = json.dumps(index).encode()
        bad = rewrite(bundle, tmp_path / "x.tar", "index.json", content)
        assert "is not a digest" in self.refused(bad, tmp_path)

    def test_a_blob_that_rotted_here_is_replaced(
        self, bundle: Path, dist: Path, tmp_path: Path
    ) -> None:
        layout = Layout(tmp_path / "oci")
        import_bundle(bundle, layout, SILENT)
        path = layout.blobs / self.layer(dist).name
        path.chmod(0o644)
        with path.open("r+b") as file:
            file.write(b"rot")
        import_bundle(bundle, layout, SILENT)
        assert path.read_bytes() == self.layer(dist).read_bytes()

    def test_a_blob_that_rotted_before_the_bundle_was_made(
        self, tiny: Tiny, dist: Path, tmp_path: Path
    ) -> None:
        assert push(tiny, dist, tmp_path / "folder", "runtime") == 0
        source = Layout(tmp_path / "folder")
        path = self.layer(tmp_path / "folder")
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        assert push(tiny, source.folder, tmp_path / "x.tar", "runtime") == StorageError.exit_code
        assert not (tmp_path / "x.tar").exists()


OURS, STRANGER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name, key in (("ours", OURS), ("stranger", STRANGER)):
        pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
        private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        (folder / f"{name}.pem").write_bytes(private)
        (folder / f"{name}.pub").write_bytes(key.public_key().public_bytes(pem, form))
    return folder


@pytest.fixture(scope="module")
def signed(tiny: Tiny, dist: Path, keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("signed") / "both.tar"
    given = ["push", "all", "--layout", path, "--output", dist, "--project", tiny.folder]
    assert main([*map(str, [*given, "--sign-key", keys / "ours.pem"]), "--quiet"]) == 0
    return path


def member(bundle: Path, name: str) -> Any:
    with tarfile.open(bundle) as source:
        file = source.extractfile(name)
        assert file is not None
        return json.loads(file.read())


def blob_of(content: object) -> tuple[str, bytes]:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return f"sha256:{hashlib.sha256(data).hexdigest()}", data


def backdoored(dist: Path, target: Path) -> Path:
    """Genuine images with one layer more, which holds a setuid program, and all their papers."""
    shutil.copytree(dist, target)
    index = json.loads((target / "index.json").read_text())
    images = report(target)
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as layer:
        info = tarfile.TarInfo("usr/bin/backdoor")
        info.mode = 0o4755
        layer.addfile(info)
    diff_id, _ = blob_of(tar.getvalue())
    more = blob_of(gzip.compress(tar.getvalue(), mtime=0))
    for old in {entry["digest"] for entry in index["manifests"]}:
        manifest = json.loads((target / "blobs" / old.replace(":", "/")).read_text())
        place = target / "blobs" / manifest["config"]["digest"].replace(":", "/")
        config = json.loads(place.read_text())
        config["rootfs"]["diff_ids"].append(diff_id)
        changed = blob_of(config)
        manifest["config"] |= {"digest": changed[0], "size": len(changed[1])}
        told = {"digest": more[0], "size": len(more[1])}
        manifest["layers"].append({"mediaType": LAYER_TYPE, **told})
        whole = blob_of(manifest)
        for digest, data in (more, changed, whole):
            (target / "blobs" / digest.replace(":", "/")).write_bytes(data)
        for image in images:
            if image["digest"] == old:
                said = {"title": "x", "diff_id": diff_id, "unpacked_size": len(tar.getvalue())}
                image["layers"].append(said | told)
                image |= {"digest": whole[0], "config": changed[0]}
        for entry in index["manifests"]:
            if entry["digest"] == old:
                entry |= {"digest": whole[0], "size": len(whole[1])}
    (target / "build.json").write_text(json.dumps({"version": 1, "images": images}))
    (target / "index.json").write_text(json.dumps(index))
    return target


class TestWhoseWordCounts:
    def publish(self, tiny: Tiny, output: Path, *words: str) -> int:
        """To a registry that is not there: whether the images may be published is asked before."""
        given = ["push", "all", "--output", output, "--project", tiny.folder]
        where = ["--registry", "http://127.0.0.1:1", "--cache-dir", output / "cache"]
        return main([*map(str, [*given, *where]), "--quiet", *words])

    def test_a_bundles_own_word_is_no_inspection(
        self, tiny: Tiny, dist: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        bad = backdoored(dist, tmp_path / "bad")
        assert all(image["inspected"] for image in report(bad))
        assert take(bad, tmp_path / "oci") == 0
        assert len(report(tmp_path / "oci")) == 2  # told of, and not believed
        assert self.publish(tiny, tmp_path / "oci") == InspectError.exit_code
        assert "--unverified" in capsys.readouterr().err

    def test_nor_where_a_build_here_has_seen_the_image_before(
        self, tiny: Tiny, dist: Path, bundle: Path, tmp_path: Path
    ) -> None:
        shutil.copytree(dist, tmp_path / "oci")
        assert take(bundle, tmp_path / "oci") == 0
        assert all(image["inspected"] for image in report(tmp_path / "oci"))  # the very same
        bad = backdoored(dist, tmp_path / "bad")
        assert take(bad, tmp_path / "oci") == 0
        assert self.publish(tiny, tmp_path / "oci") == InspectError.exit_code

    def test_a_signed_one_is_taken_with_its_inspection(
        self, signed: Path, keys: Path, tmp_path: Path
    ) -> None:
        key = ("--verify-key", str(keys / "ours.pub"))
        both = ("--verify-key", str(keys / "stranger.pub"), *key)
        for at, words in enumerate((key, both)):
            assert take(signed, tmp_path / str(at), *words) == 0
            assert all(image["inspected"] for image in report(tmp_path / str(at)))
        assert take(signed, tmp_path / "none") == 0
        assert not any(image["inspected"] for image in report(tmp_path / "none"))

    def refused(self, bundle: Path, keys: Path, output: Path, name: str = "ours") -> bool:
        code = take(bundle, output, "--verify-key", str(keys / f"{name}.pub"))
        assert not Layout(output).references()
        assert not (output / "build.json").exists()
        return code == SignatureError.exit_code

    def test_what_is_not_signed_by_the_key_is_refused(
        self, bundle: Path, signed: Path, dist: Path, keys: Path, tmp_path: Path
    ) -> None:
        assert self.refused(bundle, keys, tmp_path / "1")
        assert self.refused(signed, keys, tmp_path / "2", "stranger")
        bad = backdoored(dist, tmp_path / "bad")
        (bad / "signatures.json").write_text(json.dumps(member(signed, "signatures.json")))
        assert self.refused(bad, keys, tmp_path / "3")

    @pytest.mark.parametrize("name", ["index.json", "build.json"])
    def test_a_changed_file_is_refused(
        self, signed: Path, keys: Path, tmp_path: Path, name: str
    ) -> None:
        content = member(signed, name)
        if name == "index.json":  # one image's name for the other
            left, right = content["manifests"][0], content["manifests"][-1]
            left["digest"], right["digest"] = right["digest"], left["digest"]
            left["size"], right["size"] = right["size"], left["size"]
        else:
            content["images"][0]["inspected"] = {"user": "root"}
        bad = rewrite(signed, tmp_path / "x.tar", name, json.dumps(content).encode())
        assert self.refused(bad, keys, tmp_path / "oci")

    @pytest.mark.parametrize(
        "change", ["swapped", "of an image", "none", "no JSON", "wrong types", "one alone"]
    )
    def test_signatures_of_something_else(
        self, signed: Path, keys: Path, tmp_path: Path, change: str
    ) -> None:
        content = member(signed, "signatures.json")
        first, second = content["signatures"]
        if change == "swapped":
            first["file"], second["file"] = second["file"], first["file"]
        elif change == "of an image":
            for one in (first, second):
                digest = json.loads(one["payload"])["critical"]["image"]["docker-manifest-digest"]
                made = make_signature(OURS, "reg.example/pytorch", digest)
                one |= {"payload": made.payload.decode(), "signature": made.value}
        elif change == "one alone":
            content["signatures"] = [first]
        text = {"none": b"", "no JSON": b"x", "wrong types": b'{"signatures": [1]}'}
        data = text.get(change, json.dumps(content).encode())
        bad = rewrite(signed, tmp_path / "x.tar", "signatures.json", data)
        assert self.refused(bad, keys, tmp_path / "oci")


HOSTILE: list[Any] = [
    b"", b"[]", b"x", b"[" * 100_000, {"images": None}, {"images": [1]}, {"images": {}},
    {"images": [{"id": "x"}]}, {"images": [{"id": 1, "digest": []}]},
]  # fmt: skip


@pytest.mark.parametrize("content", HOSTILE, ids=range(len(HOSTILE)))
def test_a_report_of_wrong_types_is_none(bundle: Path, content: Any, tmp_path: Path) -> None:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    bad = rewrite(bundle, tmp_path / "x.tar", "build.json", data)
    assert take(bad, tmp_path / "oci") == 0
    assert report(tmp_path / "oci") == []


@pytest.mark.parametrize(
    "change",
    [
        {"config": f"sha256:{'0' * 64}"}, {"layers": []}, {"id": "tensorflow-2.16.1"},
        {"python": "3.8"}, {"id": "x\x1b[2J"}, {"inspected": {"a": 1}}, {"unpacked_bytes": -1},
        {"layers": [{"title": "x", "digest": "../..", "diff_id": "x", "size": 1}]},
    ],
)  # fmt: skip
def test_a_report_that_says_something_else_than_the_image(
    bundle: Path, change: dict[str, Any], tmp_path: Path
) -> None:
    content = member(bundle, "build.json")
    content["images"][0] |= change
    bad = rewrite(bundle, tmp_path / "x.tar", "build.json", json.dumps(content).encode())
    assert take(bad, tmp_path / "oci") == 0
    assert [x["id"] for x in report(tmp_path / "oci")] == [content["images"][1]["id"]]


@pytest.mark.parametrize(
    "entry",
    [
        {"annotations": None}, {"annotations": {"org.opencontainers.image.ref.name": "x\ny:1"}},
        {"annotations": {"org.opencontainers.image.ref.name": "../x:1"}}, {"size": -1},
        {"size": 1 << 40}, {"size": 5 << 20}, {"size": "7"}, {"digest": "sha512:" + "0" * 128},
        {"digest": None}, {"annotations": {"org.opencontainers.image.ref.name": 7}},
    ],
)  # fmt: skip
def test_an_index_of_wrong_types(bundle: Path, entry: dict[str, Any], tmp_path: Path) -> None:
    content = member(bundle, "index.json")
    content["manifests"][0] |= entry
    bad = rewrite(bundle, tmp_path / "x.tar", "index.json", json.dumps(content).encode())
    assert take(bad, tmp_path / "oci") == StorageError.exit_code
    assert Layout(tmp_path / "oci").references() == {}


def test_a_name_that_stands_for_two_images(bundle: Path, tmp_path: Path) -> None:
    content = member(bundle, "index.json")
    content["manifests"][0]["annotations"] = content["manifests"][-1]["annotations"]
    bad = rewrite(bundle, tmp_path / "x.tar", "index.json", json.dumps(content).encode())
    assert take(bad, tmp_path / "oci") == StorageError.exit_code


UNMADE = {  # where no folder can be made, and what is said of it
    "file/x": "file: is in the place of a folder; remove it: rm ",
    "link": "link: a file is where it does not belong; remove it: rm ",
    "loop/x": "Too many levels of symbolic links",
    "/proc/nowhere/x": "nothing can be written in /proc",
    f"{'long' * 64}/x": "File name too long",
}


@pytest.mark.parametrize(("place", "said"), UNMADE.items())
@pytest.mark.parametrize("wanted", ["folder", "tar", "import"])
def test_a_place_where_nothing_can_be_made(
    tiny: Tiny, dist: Path, bundle: Path, tmp_path: Path, wanted: str, place: str, said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "file").write_text("a file")
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    target = tmp_path / place
    if wanted == "import":
        code = take(bundle, target)
    else:
        code = push(tiny, dist, target / "all.tar" if wanted == "tar" else target, "all")
    printed = capsys.readouterr().err
    assert code == StorageError.exit_code
    assert said in printed.replace(f"{tmp_path}/", "")
    assert ".part" not in printed
    assert {path.name for path in tmp_path.iterdir()} == {"file", "link", "loop"}


def test_the_folders_above_are_made(tiny: Tiny, dist: Path, bundle: Path, tmp_path: Path) -> None:
    assert push(tiny, dist, tmp_path / "a/b/all.tar", "all") == 0
    assert push(tiny, dist, tmp_path / "c/d", "all") == 0
    assert take(bundle, tmp_path / "e/f") == 0
    assert (tmp_path / "a/b/all.tar").read_bytes() == bundle.read_bytes()


def test_a_tar_that_cannot_be_written_is_named_as_it_was_given(
    tiny: Tiny, dist: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in (Path("/proc/all.tar"), tmp_path / f"{'long' * 62}.tar"):
        assert push(tiny, dist, place, "all") == StorageError.exit_code
        printed = capsys.readouterr().err
        assert f"error: {place}" in printed or "nothing can be written in /proc" in printed
        assert ".part" not in printed
    assert list(tmp_path.iterdir()) == []
