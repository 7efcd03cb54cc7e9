"""Debian packages on a finished image: locked on its dpkg state, one layer of what they change."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.image.layout import BuiltImage
from wheelyard.console.progress import QuietReporter
from wheelyard.context import Context
from wheelyard.errors import LockError, ProjectError
from wheelyard.fetching.wanted import place
from wheelyard.images.assemble.store import LayerStore
from wheelyard.layers.toc import Entry
from wheelyard.model import LockedDeb
from wheelyard.oci.layout import MANIFEST_TYPE, Descriptor, Layout
from wheelyard.projects.chamber import chamber, enter
from wheelyard.projects.model import DebianLock
from wheelyard.projects.packages import lock_packages, packages_layer
from wheelyard.projects.places import Places
from wheelyard.projects.published import base_from_layout
from wheelyard.projects.table import Project, Table
from wheelyard.settings import load_settings

ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
POSTINST = """\
#!/bin/sh
set -e
mkdir -p /usr/share/odd
tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ' > /usr/share/odd/interfaces
date > /usr/share/odd/when
rm /etc/issue.net
echo noise > /var/log/odd.log
"""


class Place:
    """A project on a real image, with a cache of its own."""

    def __init__(self, image: BuiltImage, folder: Path) -> None:
        layout = Layout(folder / "dist")
        layout.create()
        for digest in (image.digest, image.manifest["config"]["digest"], *image.layers):
            layout.blob(digest).symlink_to(image.blob(digest))
        size = image.blob(image.digest).stat().st_size
        manifest = Descriptor(MANIFEST_TYPE, image.digest, size)
        layout.set_references({image.tags[0]: manifest})
        self.base, self.layout = base_from_layout(layout, image.tags[0]), layout
        self.folder = folder
        settings = load_settings({}, needs_project=False)
        self.settings = replace(settings, cache_dir=folder / "cache", registry=None)

    def context(self) -> Context:
        return Context(self.settings, QuietReporter(None))

    def project(self, *packages: str) -> Project:
        table = Table(image=self.base.reference, name="app", packages=packages)
        return Project(self.folder, self.folder / "wheelyard.toml", table, {})

    def places(self) -> Places:
        return Places(self.project(), self.base, (), self.context(), self.layout)

    def lock(self, *packages: str, previous: DebianLock | None = None) -> DebianLock:
        return lock_packages(self.project(*packages), self.places(), previous, self.context())

    def layer(self, lock: DebianLock) -> tuple[Path, dict[str, Entry]]:
        store = LayerStore(self.settings.cache_dir)
        (made,) = packages_layer(self.project("hello"), lock, self.places(), store, self.context())
        entries = store.entries(made.stored.layer)
        return made.stored.path, {entry.path: entry for entry in entries}


@pytest.fixture
def on(need_root: None, runtime_image: BuiltImage, tmp_path: Path) -> Place:
    return Place(runtime_image, tmp_path)


def test_a_package_is_locked_on_the_base_and_works(on: Place, need: Callable[..., None]) -> None:
    need("apt-get", "gpgv")
    lock = on.lock("hello")
    assert [deb.name for deb in lock.packages] == ["hello"]  # what it needs is in the base
    assert on.lock("hello", previous=lock) == lock
    blob, entries = on.layer(lock)
    assert {"usr/bin/hello", "var/lib/dpkg/status", "var/lib/dpkg/info/hello.list"} <= set(entries)
    assert not any(path.startswith(("var/log/", "var/cache/", "packages")) for path in entries)
    first = hashlib.sha256(blob.read_bytes()).hexdigest()
    shutil.rmtree(on.settings.cache_dir / "layers")
    again, _ = on.layer(lock)
    assert hashlib.sha256(again.read_bytes()).hexdigest() == first
    with chamber([*on.places().debian(), blob], on.context()) as root:
        said = enter(root, ["/usr/bin/hello"], ENV, (1000, 1000))
        audit = enter(root, ["/usr/bin/dpkg", "--audit"], ENV, (0, 0))
        kept = enter(root, ["/usr/bin/dpkg-query", "--show", "hello", "tini"], ENV, (1000, 1000))
    assert said is not None
    assert said.stdout == "Hello, world!\n"
    assert audit is not None
    assert (audit.returncode, audit.stdout) == (0, "")
    assert kept is not None
    assert kept.returncode == 0, kept.stderr


def test_what_does_not_fit_is_an_error(on: Place, need: Callable[..., None]) -> None:
    need("apt-get", "gpgv")
    with pytest.raises(LockError, match="correct `packages` in the table"):
        on.lock("no-such-package-anywhere")
    with pytest.raises(ProjectError, match="has other Debian packages than when"):
        on.layer(DebianLock("0" * 64, "20260101T000000Z", (_odd(on, "")[0],)))
    on.base = replace(on.base, reference="pytorch:0.1")  # which nothing here has
    with pytest.raises(ProjectError, match=r"dpkg state of .* build it \(wheelyard build\)"):
        on.lock("hello")


def test_what_scripts_do_is_confined_and_made_canonical(
    on: Place, need: Callable[..., None]
) -> None:
    need("apt-get", "gpgv", "dpkg-deb")
    deb, status = _odd(on, POSTINST)
    blob, entries = on.layer(DebianLock(status, "20260101T000000Z", (deb,)))
    with tarfile.open(blob, "r:gz") as tar:
        taken = tar.extractfile("usr/share/odd/interfaces")
        assert taken is not None
        assert taken.read().decode().split() == ["lo"]
        assert "etc/.wh.issue.net" in tar.getnames()
        newest = max(entry.mtime for entry in tar if entry.isfile())
    assert newest <= 1_600_000_000  # the package's own date
    assert entries["usr/bin/odd"].mode == 0o755  # it came with setuid
    assert "var/log/odd.log" not in entries


def test_a_private_key_is_not_shipped(on: Place, need: Callable[..., None]) -> None:
    need("apt-get", "gpgv", "dpkg-deb")
    key = "-----BEGIN PRIVATE KEY-----"
    deb, status = _odd(on, f"#!/bin/sh\necho '{key}' > /etc/odd.key\n")
    with pytest.raises(ProjectError, match=r"makes a private key, /etc/odd\.key"):
        on.layer(DebianLock(status, "20260101T000000Z", (deb,)))
    deb, status = _odd(on, "#!/bin/sh\necho no luck >&2\nexit 3\n")
    with pytest.raises(ProjectError, match=r"could not be installed:(.|\n)*no luck"):
        on.layer(DebianLock(status, "20260101T000000Z", (deb,)))


def _odd(on: Place, script: str) -> tuple[LockedDeb, str]:
    """A package of our own, in the cache, and the hash of the base's dpkg state."""
    tree = on.folder / "odd"
    shutil.rmtree(tree, ignore_errors=True)
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "usr/bin").mkdir(parents=True)
    control = "Package: odd\nVersion: 1\nArchitecture: all\nMaintainer: t <t@example.org>\n"
    (tree / "DEBIAN/control").write_text(f"{control}Description: odd\n")
    if script:
        (tree / "DEBIAN/postinst").write_text(script)
        (tree / "DEBIAN/postinst").chmod(0o755)
    (tree / "usr/bin/odd").write_text("#!/bin/sh\n")
    (tree / "usr/bin/odd").chmod(0o4755)
    made = on.folder / "odd_1_all.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "--build", tree, made],
        check=True, capture_output=True, env={"SOURCE_DATE_EPOCH": "1600000000", **ENV},
    )  # fmt: skip
    content = made.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    target = place(on.settings.cache_dir / "files", sha256, made.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    deb = LockedDeb("odd", "1", "all", sha256, len(content), "debian", f"pool/o/odd/{made.name}")
    status = b""
    for blob in on.places().debian():
        with tarfile.open(blob, "r:gz") as tar:
            names = [name for name in tar.getnames() if name.endswith("var/lib/dpkg/status")]
            taken = tar.extractfile(names[0]) if names else None
            status = taken.read() if taken else status
    return deb, hashlib.sha256(status).hexdigest()
