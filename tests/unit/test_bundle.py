"""Offline bundles: written, carried, taken in, and refused when they are not what they say."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from tiny import Tiny, make_tiny

from builder.assemble.layout import Layout
from builder.building.build import build_images
from builder.cli import main
from builder.console.progress import QuietReporter
from builder.errors import StorageError
from builder.publishing.unbundle import import_bundle

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
    report = json.loads((tmp_path / "oci/build.json").read_text())
    assert report == json.loads((dist / "build.json").read_text())
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
        assert "whole" in self.refused(rewrite(bundle, tmp_path / "x.tar", name, None), tmp_path)

    def test_cut_short(self, bundle: Path, tmp_path: Path) -> None:
        (tmp_path / "x.tar").write_bytes(bundle.read_bytes()[:-3_000_000])
        assert self.refused(tmp_path / "x.tar", tmp_path)

    def test_no_tar(self, tmp_path: Path) -> None:
        (tmp_path / "x.tar").write_bytes(b"<html>" * 1000)
        assert "not a tar file" in self.refused(tmp_path / "x.tar", tmp_path)

    def test_not_there(self, tmp_path: Path) -> None:
        assert "there is no bundle" in self.refused(tmp_path / "x.tar", tmp_path)

    def test_another_index(self, bundle: Path, tmp_path: Path) -> None:
        bad = rewrite(bundle, tmp_path / "x.tar", "index.json", b'{"manifests": [{}]}')
        assert "no bundle of images" in self.refused(bad, tmp_path)

    def test_a_digest_that_is_a_path(self, bundle: Path, tmp_path: Path) -> None:
        with tarfile.open(bundle) as source:
            file = source.extractfile("index.json")
            assert file is not None
            index = json.loads(file.read())
        index["manifests"][0]["digest"] = "sha256:../../../etc/passwd"
        content = json.dumps(index).encode()
        bad = rewrite(bundle, tmp_path / "x.tar", "index.json", content)
        assert "no SHA-256" in self.refused(bad, tmp_path)

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
