"""Resolution by the real uv, from an index on loopback."""

from __future__ import annotations

import ssl
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import trustme
from locking import (
    Index,
    devel_cell,
    make_settings,
    runtime_cell,
    sha256,
    torch_index,
)
from uv import find_uv_bin

from wheelyard.errors import FetchError, LockError, StorageError
from wheelyard.lock.lockfile import render_requirements_lock
from wheelyard.lock.pylock import parse_pylock
from wheelyard.lock.resolve import resolve_cell
from wheelyard.lock.uv import uv_environment, uv_error
from wheelyard.model import RequirementsLock
from wheelyard.system.subprocesses import Result

INPUTS = "0" * 64


def versions(lock: RequirementsLock) -> dict[str, str]:
    return {wheel.name: wheel.version for wheel in lock.wheels}


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return torch_index(tmp_path / "index")


def lock(
    index: Index,
    tmp_path: Path,
    cell: object = None,
    parent: RequirementsLock | None = None,
    previous: RequirementsLock | None = None,
) -> RequirementsLock:
    with index.serve() as url:
        settings = make_settings(tmp_path, url)
        chosen = runtime_cell() if cell is None else cell
        kept = {} if previous is None else versions(previous)
        return resolve_cell(chosen, INPUTS, parent, kept, settings)  # type: ignore[arg-type]


def test_every_distribution_is_pinned_to_the_file_the_index_has(
    index: Index, tmp_path: Path
) -> None:
    made = lock(index, tmp_path)
    assert [wheel.name for wheel in made.wheels] == [
        "filelock",
        "numpy",
        "nvidia-cuda-runtime-cu12",
        "nvidia-cudnn-cu12",
        "torch",
    ]
    for wheel in made.wheels:
        file = index.folder / "files" / wheel.filename
        assert (wheel.sha256, wheel.size) == (sha256(file), file.stat().st_size)
    assert "127.0.0.1" not in render_requirements_lock(made)


def test_uv_installs_the_lock_and_refuses_another_file(index: Index, tmp_path: Path) -> None:
    text = render_requirements_lock(lock(index, tmp_path))
    digit = text.partition("--hash=sha256:")[2][0]
    other = "1" if digit == "0" else "0"
    with index.serve() as url:
        good = install(text, url, tmp_path / "good")
        bad = install(
            text.replace(f"--hash=sha256:{digit}", f"--hash=sha256:{other}", 1),
            url,
            tmp_path / "bad",
        )
    assert good.returncode == 0, good.stderr
    assert (tmp_path / "good" / "torch" / "__init__.py").exists()
    assert bad.returncode != 0
    assert b"Hash mismatch" in bad.stderr


def install(text: str, url: str, target: Path) -> subprocess.CompletedProcess[bytes]:
    path = target.with_suffix(".lock")
    path.write_text(text)
    argv = [find_uv_bin(), "pip", "install", "--no-config", "--require-hashes", "--no-cache"]
    argv += ["--target", str(target), "--requirement", str(path), "--default-index", url]
    return subprocess.run(argv, capture_output=True)


def test_the_machines_own_configuration_changes_nothing(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = Index(tmp_path / "local")
    local.add("torch", "2.3.1+cpu")
    local.add("filelock", "99")
    (tmp_path / "pins.txt").write_text("numpy<1\n")
    for name in ("PIP_FIND_LINKS", "UV_FIND_LINKS"):
        monkeypatch.setenv(name, str(local.folder / "files"))
    monkeypatch.setenv("UV_CONSTRAINT", str(tmp_path / "pins.txt"))
    monkeypatch.setenv("UV_INDEX", "http://127.0.0.1:9/simple")
    config = tmp_path / "config" / "uv" / "uv.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'find-links = ["{local.folder / "files"}"]\n')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    made = lock(index, tmp_path)
    assert versions(made)["filelock"] == "3.1"
    assert versions(made)["torch"] == "2.3.1"


def test_locked_versions_stay_until_an_upgrade(index: Index, tmp_path: Path) -> None:
    first = lock(index, tmp_path)
    index.add("filelock", "3.2")
    assert versions(lock(index, tmp_path, previous=first)) == versions(first)
    assert versions(lock(index, tmp_path))["filelock"] == "3.2"


def test_a_locked_version_gives_way_where_the_matrix_asks_for_another(
    index: Index, tmp_path: Path
) -> None:
    first = lock(index, tmp_path)
    index.add("numpy", "1.25")
    cell = replace(runtime_cell(), constraints=("numpy<1.26",))
    assert versions(lock(index, tmp_path, cell, previous=first))["numpy"] == "1.25"


def test_devel_holds_every_pin_of_runtime(index: Index, tmp_path: Path) -> None:
    below = lock(index, tmp_path)
    index.add("filelock", "3.2")
    made = lock(index, tmp_path, devel_cell(), parent=below)
    assert set(below.wheels) < set(made.wheels)
    assert versions(made)["jupyterlab"] == "4.2"


def test_devel_that_drops_a_requirement_of_runtime_is_refused(index: Index, tmp_path: Path) -> None:
    below = lock(index, tmp_path)
    cell = replace(devel_cell(), requirements=("torch==2.3.1", "jupyterlab"))
    with pytest.raises(LockError, match=r"does not contain its numpy 1\.26\.4"):
        lock(index, tmp_path, cell, parent=below)


def test_another_cuda_than_the_cells_is_named_with_both_values(
    index: Index, tmp_path: Path
) -> None:
    cell = replace(runtime_cell(), cuda="12.4", cudnn="9.1")
    with pytest.raises(LockError) as raised:
        lock(index, tmp_path, cell)
    text = str(raised.value)
    assert "CUDA: the cell says 12.4, but 12.1.105" in text
    assert "cuDNN: the cell says 9.1, but 8.9.2.26" in text


def test_where_cuda_is_followed_nothing_of_the_toolkit_floats(index: Index, tmp_path: Path) -> None:
    """cuBLAS and its like have numbers of their own: only the toolkit's list can hold them."""
    index.add("nvidia-cublas-cu12", "12.1.3.1")
    index.add("nvidia-cublas-cu12", "12.9.1.4")
    listed = 'nvidia-cublas-cu12==12.1.3.1; extra == "cublas"\nProvides-Extra: cublas'
    index.add("cuda-toolkit", "12.1.1", [listed])
    floats = ("torch==2.3.1", "numpy", "nvidia-cublas-cu12", "cuda-toolkit")
    cell = replace(runtime_cell(), policy="follow-cuda", requirements=floats)
    with pytest.raises(LockError, match=r"4 to CUDA 12\.1; add cuda-toolkit\[cublas\] to"):
        lock(index, tmp_path, cell)
    cell = replace(cell, requirements=(*floats[:-1], "cuda-toolkit[cublas]"))
    assert versions(lock(index, tmp_path, cell))["nvidia-cublas-cu12"] == "12.1.3.1"


def test_a_cudnn_of_the_cells_own_overrides_upstreams_pin(index: Index, tmp_path: Path) -> None:
    index.add("nvidia-cudnn-cu12", "9.5.1.17")
    pin = "nvidia-cudnn-cu12==9.5.1.17"
    cell = replace(runtime_cell(), cudnn="9.5.1", overrides=(pin,))
    assert versions(lock(index, tmp_path, cell))["nvidia-cudnn-cu12"] == "9.5.1.17"
    with pytest.raises(LockError, match="nvidia-cudnn-cu12"):
        lock(index, tmp_path, replace(cell, overrides=(), constraints=(pin,)))


def test_requirements_without_a_solution_say_so(index: Index, tmp_path: Path) -> None:
    cell = replace(runtime_cell(), requirements=("torch==2.3.1", "numpy>=2"))
    with pytest.raises(LockError, match=r"(?s)runtime.*numpy.*matrix\.yaml"):
        lock(index, tmp_path, cell)


def test_an_extra_ca_is_trusted_and_a_missing_one_named(index: Index, tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    with index.serve(context) as url:
        settings = make_settings(tmp_path, url)
        with pytest.raises(FetchError, match="--ca-bundle"):
            resolve_cell(runtime_cell(), INPUTS, None, {}, settings)
        trusting = replace(settings, ca_bundle=bundle)
        assert resolve_cell(runtime_cell(), INPUTS, None, {}, trusting).wheels


@pytest.mark.parametrize(
    ("stderr", "kind", "advice"),
    [
        ("error: No solution found when resolving dependencies", LockError, "matrix.yaml"),
        ("error: Failed to fetch: x\n cause: Connection refused", FetchError, "--index-url"),
        ("error: Failed to fetch: x\n cause: operation timed out", FetchError, "--timeout"),
        ("cause: invalid peer certificate: UnknownIssuer", FetchError, "--ca-bundle"),
        ("cause: peer closed connection without sending TLS close_notify", FetchError, "--index"),
    ],
)
def test_uvs_failures_are_told_apart(stderr: str, kind: type[Exception], advice: str) -> None:
    error = uv_error(Result(("uv",), 2, "", stderr), "pytorch-x")
    assert type(error) is kind
    assert advice in str(error)
    assert stderr.splitlines()[-1].strip() in str(error)


@pytest.mark.parametrize(
    ("number", "advice"), [(2, "--cache-dir"), (13, "--cache-dir"), (20, "rm")]
)
def test_a_cache_that_uv_cannot_use_is_not_the_matrix_s_fault(number: int, advice: str) -> None:
    argv = ("uv", "--cache-dir", "/c/uv")
    stderr = f"error: Failed to initialize cache at `/c/uv`\n cause: x (os error {number})"
    error = uv_error(Result(argv, 2, "", stderr), "pytorch-x")
    assert type(error) is StorageError
    assert advice in str(error)


def test_uv_keeps_the_proxy_and_loses_what_steers_it() -> None:
    environ = {"PATH": "/bin", "HTTPS_PROXY": "http://p", "UV_INDEX": "x", "PIP_INDEX_URL": "y"}
    assert uv_environment(environ, Path("/ca.pem"), 30.4) == {
        "PATH": "/bin",
        "HTTPS_PROXY": "http://p",
        "UV_HTTP_TIMEOUT": "30",
        "SSL_CERT_FILE": "/ca.pem",
    }


WHEEL = '{name = "demo-1.0-py3-none-any.whl", url = "https://i.example/d.whl", hashes = {%s}}'
HASHED = WHEEL % f'sha256 = "{"ab" * 32}"'
UNHASHED = WHEEL % 'md5 = "ab"'


@pytest.mark.parametrize(
    ("package", "says"),
    [
        ('name = "demo"\nversion = "1.0"', "what uv resolved cannot be used"),
        (f'name = "demo"\nwheels = [{HASHED}]', "demo: the index has no wheel for it"),
        (f'name = "demo"\nversion = "1.0"\nwheels = [{UNHASHED}]', "no SHA-256 for demo"),
        (f'name = "demo"\nversion = "2.0"\nwheels = [{HASHED}]', "not consistent"),
        ('name = "demo"\nwheels = 1', "what uv resolved cannot be used"),
        ("name = ", "what uv resolved cannot be used"),
    ],
)  # fmt: skip
def test_an_answer_that_is_no_list_of_hashed_wheels_is_refused(package: str, says: str) -> None:
    with pytest.raises(LockError, match=says):
        parse_pylock(f'lock-version = "1.0"\ncreated-by = "uv"\n[[packages]]\n{package}\n')
