"""What engines are told and what their words become: commands, secrets, messages."""

from __future__ import annotations

import io
import json
import subprocess
from pathlib import Path

import pytest
from test_recipe import CELL
from tiny import Tiny, make_tiny

from wheelyard.console.progress import QuietReporter
from wheelyard.contract.installer import load_installer
from wheelyard.dockerfiles.bake import base_contexts, describe_failure
from wheelyard.dockerfiles.batch import EngineBuild, make_jobs, run_batch
from wheelyard.dockerfiles.buildkit import explain
from wheelyard.dockerfiles.buildlog import BuildLog
from wheelyard.dockerfiles.buildx import bake_argv, build_argv, parse_driver
from wheelyard.dockerfiles.docker_engine import pinned_context
from wheelyard.dockerfiles.route import proxies_of
from wheelyard.dockerfiles.secrets import render_script, secret_settings
from wheelyard.engines.readback import LISTING, listed, read_layers
from wheelyard.errors import DriftError, InspectError
from wheelyard.images.build.results import EngineImage, Failed
from wheelyard.rendering.render import render_all, write_rendered

ROOT = Path(__file__).parents[2]
FULL = "write /usr/lib/x: no space left on device"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    made = make_tiny(tmp_path_factory.mktemp("tiny"))
    (made.folder / "templates").symlink_to(ROOT / "templates")
    write_rendered(made.folder, made.plan.cells, render_all(made.folder, made.plan.cells))
    return made


def job() -> EngineBuild:
    return EngineBuild(CELL, (), Path("/p/images/x"), Path("/p/log"))


def test_bake_is_called_with_both_files_and_the_targets() -> None:
    argv = bake_argv([Path("a.json"), Path("b.json")], ["x", "y"], "--set=*.output=type=docker")
    assert argv == (
        "docker", "buildx", "bake", "--file", "a.json", "--file", "b.json", "--progress=plain",
        "--set=*.output=type=docker", "x", "y",
    )  # fmt: skip


def test_one_image_alone_gets_the_network_its_secrets_and_its_base() -> None:
    override = {
        "secret": ["id=s,src=/s"],
        "contexts": {"cuda": "target:cuda-1", "wheelyard/base:x": "oci-layout:///b@sha256:1"},
    }
    argv = build_argv(job(), override, "host", "--output=type=docker")
    assert "--network=host" in argv
    assert "--allow=network.host" in argv
    assert "--build-context=wheelyard/base:x=oci-layout:///b@sha256:1" in argv
    assert not [word for word in argv if "target:" in word]
    assert argv[-1] == "/p/images/x"
    assert "--allow=network.host" not in build_argv(job(), override, "none")


def test_the_driver_is_read_from_what_buildx_says() -> None:
    said = "Name:   far\nDriver: remote\nLast Activity: now\n\nNodes:\nName: far0\n"
    assert parse_driver(said) == "remote"
    assert parse_driver("") == "docker"
    assert parse_driver("Name:   default\nDriver: \nError:  Cannot connect\n") == ""
    assert base_contexts([], Path("/x")) == {}


def test_secrets_are_what_is_set_and_survive_a_shell(tiny: Tiny) -> None:
    environ = {"https_proxy": "http://me:it's@proxy:3128"}
    cell = tiny.plan.cells[0]
    values = secret_settings(cell, tiny.context, environ, "deb m s main\ndeb n s main", has_ca=True)
    assert "PIP_INDEX_URL" not in values
    assert values["SSL_CERT_FILE"] == values["PIP_CERT"] == "/run/wheelyard/ca.pem"
    script = render_script(values) + 'printf "%s|%s" "$https_proxy" "$SOURCES"'
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    assert said == "http://me:it's@proxy:3128|deb m s main\ndeb n s main"


def test_proxies_are_taken_in_either_spelling() -> None:
    assert proxies_of({"http_proxy": "a", "HTTPS_PROXY": "b", "PATH": "c"}) == {
        "HTTP_PROXY": "a",
        "HTTPS_PROXY": "b",
    }


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (FULL, "free space"),
        ("pull access denied for x, repository does not exist", "docker login"),
        ("unauthorized: authentication required", "docker login"),
        ("Head http://x/v2/: no basic auth credentials", "docker login"),
        ("manifest unknown: manifest unknown", "digest in matrix.yaml"),
        ("toomanyrequests: You have reached your pull rate limit", "try later"),
    ],
)
def test_the_engine_s_words_come_with_what_to_do(words: str, advice: str) -> None:
    assert advice in explain(words)
    assert words in explain(words)


def test_of_a_failed_bake_the_step_and_its_words_are_shown() -> None:
    log = [
        "#8 1.2 error: not here", "------", " > [cuda 1/1] RUN --mount=type=secret:",
        "1.1 looking", "1.2 error: not here", "------", "Dockerfile:60",
        "--------------------", "  60 | >>> RUN --mount", "--------------------",
        'ERROR: failed to solve: process "/bin/sh -c uv" did not complete: exit code: 2',
    ]  # fmt: skip
    assert describe_failure(log) == [
        "ERROR: failed to solve: the command did not complete: exit code: 2",
        "step: [cuda 1/1] RUN --mount=type=secret:",
        "  1.1 looking",
        "  1.2 error: not here",
    ]
    assert describe_failure(["a", "ERROR: b"]) == ["ERROR: b", "  a"]
    assert describe_failure([]) == []


def test_a_full_disk_is_seen_in_what_the_step_said() -> None:
    words = "The command 'uv' returned a non-zero code: 2"
    said = ["Caused by: No space left on device (os error 28)"]
    assert "disk is full: free space" in explain(words, said)
    assert "disk is full" not in explain(words, ["Caused by: nothing"])


def test_a_command_of_a_hundred_lines_is_not_repeated() -> None:
    words = f"The command '/bin/sh -c {'x' * 5000}' returned a non-zero code: 1"
    assert explain(words) == "the command returned a non-zero code: 1"
    words = f'process "/bin/sh -c {"x" * 5000}" did not complete successfully: exit code: 1'
    assert explain(words) == "the command did not complete successfully: exit code: 1"


def test_the_stream_of_a_build_becomes_step_log_and_image() -> None:
    log = io.StringIO()
    with BuildLog("x", log, QuietReporter(None)) as progress:
        for message in (
            {"stream": "Step 1/2 : FROM base\n"},
            {"stream": "\n"},
            {"stream": "Step 2/2 : RUN true"},
            {"stream": "\x1b[91mwarning\x1b[0m\n"},
            {"aux": {"ID": "sha256:1"}},
        ):
            progress.take(message)
        assert (progress.step, progress.image, progress.error) == ("RUN true", "sha256:1", None)
        progress.take({"errorDetail": {"code": 1}, "error": FULL})
        assert progress.error == FULL
    assert log.getvalue().splitlines() == [
        "Step 1/2 : FROM base", "Step 2/2 : RUN true", "warning", FULL,
    ]  # fmt: skip


def test_a_dockerfile_that_is_not_what_the_locks_give_is_not_built(
    tiny: Tiny, tmp_path: Path
) -> None:
    made, _ = make_jobs(tiny.plan.cells, tiny.plan, tmp_path, tiny.context)
    assert [job.cell for job in made] == list(tiny.plan.cells)
    path = tiny.folder / tiny.plan.cells[0].folder / "Dockerfile"
    text = path.read_text()
    path.write_text(text + "RUN true\n")
    try:
        made, (failed,) = make_jobs(tiny.plan.cells, tiny.plan, tmp_path, tiny.context)
        assert [job.cell for job in made] == list(tiny.plan.cells[1:])
        assert isinstance(failed.error, DriftError)
        assert "wheelyard render" in str(failed.error)
    finally:
        path.write_text(text)


def test_a_bug_in_an_engine_ends_one_image(tiny: Tiny, tmp_path: Path) -> None:
    class Engine:
        def build(self, job: EngineBuild) -> EngineImage:
            if job.cell == tiny.plan.cells[0]:
                raise ZeroDivisionError("oh")
            return EngineImage(job.cell, "sha256:0", 0, {}, (), job.log)

    jobs, _ = make_jobs(tiny.plan.cells, tiny.plan, tmp_path, tiny.context)
    jobs[0].log.parent.mkdir(parents=True)
    jobs[0].log.write_text("Step 1\n")
    broken, fine = run_batch(Engine(), jobs, tiny.context, fail_fast=False)
    assert isinstance(broken, Failed)
    assert isinstance(fine, EngineImage)
    assert broken.error.exit_code == 70
    assert jobs[0].log.read_text().startswith("Step 1\n\nTraceback")
    assert "ZeroDivisionError: oh" in jobs[0].log.read_text()


def test_layers_are_read_one_over_the_other(tmp_path: Path) -> None:
    import tarfile

    def layer(name: str, **files: bytes) -> Path:
        path = tmp_path / name
        with tarfile.open(path, "w:gz") as tar:
            for file, content in files.items():
                info = tarfile.TarInfo(file.replace("__", "/"))
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        return path

    with tarfile.open(tmp_path / "whiteout", "w") as tar:
        tar.addfile(tarfile.TarInfo("etc/.wh.gone"))
    tree = read_layers(
        [
            layer("a", etc__passwd=b"old", etc__gone=b"x"),
            tmp_path / "whiteout",
            layer("b", etc__passwd=b"new"),
        ]
    )
    assert tree.text("etc/passwd") == "new"
    assert sorted(entry.path for entry in tree) == ["etc/passwd"]
    with pytest.raises(InspectError, match="no /etc/gone"):
        tree.entry("etc/gone")


def test_a_layer_of_many_gzip_members_is_read_to_its_end(tmp_path: Path) -> None:
    """What `assemble` writes, and what a builder hands on as it got it."""
    import gzip
    import tarfile

    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name in ("etc/passwd", "etc/group"):
            info = tarfile.TarInfo(name)
            info.size = 3
            tar.addfile(info, io.BytesIO(b"abc"))
    text, path = raw.getvalue(), tmp_path / "layer"
    path.write_bytes(gzip.compress(text[:700]) + gzip.compress(text[700:]))
    tree = read_layers([path])
    assert sorted(entry.path for entry in tree) == ["etc/group", "etc/passwd"]
    assert tree.text("etc/group") == "abc"


def test_names_with_any_character_are_read_back(tmp_path: Path) -> None:
    """As `find` prints them, which escapes nothing that does not go to a terminal."""
    (tmp_path / "a\tb\nc").write_bytes(b"xyz")
    (tmp_path / "to\t1").symlink_to("tab\tand\nline")
    argv = ["find", str(tmp_path), "-mindepth", "1", "-printf", LISTING]
    listing = subprocess.run(argv, capture_output=True, check=True).stdout
    found = {entry.path: (entry.kind, entry.link) for entry in listed(listing)}
    assert found == {"a\tb\nc": ("file", ""), "to\t1": ("symlink", "tab\tand\nline")}


def test_a_pinned_base_s_context_holds_selfcheck() -> None:
    import tarfile

    with tarfile.open(fileobj=io.BytesIO(pinned_context(b"FROM x\n"))) as tar:
        names = tar.getnames()
    assert "Dockerfile" in names
    assert "builder/wheelyard/selfcheck/cli.py" in names


def test_the_installer_is_the_uv_that_requirements_pin() -> None:
    """`make requirements` takes a newer uv: then `python -m wheelyard.lock.installer` does too."""
    pin = load_installer("amd64")
    lines = (ROOT / "requirements" / "run.txt").read_text()
    block = lines.split(f"\nuv=={pin.version} ", 1)
    assert len(block) == 2, "run `python -m wheelyard.lock.installer`"
    assert f"--hash=sha256:{pin.sha256}" in block[1].split("\n\n")[0]
    assert json.dumps(pin.filename).endswith('x86_64.whl"')
