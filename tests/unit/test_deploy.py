"""Files for servers: the right image, its GPUs, a token; nothing is read as a variable."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import planning
import pytest
import yaml
from hostile import TEXTS, catalogue, listed
from referring import referring_registry

from wheelyard.cli import main
from wheelyard.console.progress import QuietReporter
from wheelyard.contract.paths import GID, UID
from wheelyard.contract.runtimes import SHARED_MEMORY
from wheelyard.errors import SelectionError, StorageError, UsageError
from wheelyard.oci.address import parse_address
from wheelyard.planning.catalogue import plan_entries
from wheelyard.publish.attest.attachments import read_source
from wheelyard.publish.catalogue import publish_catalogue
from wheelyard.registry.client import open_registry
from wheelyard.rendering.deployments import (
    JUPYTER_FILE,
    KINDS,
    Deployment,
    jupyter_command,
    render_deployment,
)
from wheelyard.rendering.devcontainers import Devcontainer, render_devcontainer
from wheelyard.settings import load_settings
from wheelyard.system.templates import make_environment

PROJECT = Path(__file__).parents[2]
DIGEST = f"sha256:{'ab' * 32}"
IMAGE = f"reg.example:5000/team/pytorch@{DIGEST}"
AWKWARD = ("run", "a b", "$HOME", "$(id)", "100%", 'say "x"', "back\\slash", "it's", "")
LAB = Deployment(
    kind="compose", name="lab", title="pytorch 2.3.1 with CUDA 12.1", tag="pytorch:2.3.1-devel",
    image=IMAGE, local=False, command=jupyter_command("compose", "127.0.0.1"), jupyter=True,
    port=8888, listen="127.0.0.1", with_gpus=True, gpus=None,
)  # fmt: skip
SERVER = replace(LAB, command=("python", "serve.py"), jupyter=False, port=8000)


def render(deployment: Deployment, kind: str, **more: Any) -> dict[str, str]:
    environment = make_environment(PROJECT / "templates")
    return render_deployment(environment, replace(deployment, kind=kind, **more))


def first(files: dict[str, str]) -> str:
    return next(iter(files.values()))


def service(deployment: Deployment, **more: Any) -> Any:
    return yaml.safe_load(first(render(deployment, "compose", **more)))["services"]["lab"]


def objects(deployment: Deployment, kind: str, **more: Any) -> dict[str, Any]:
    text = first(render(deployment, kind, **more))
    return {item["kind"]: item for item in yaml.safe_load_all(text)}


def pod(deployment: Deployment, kind: str, **more: Any) -> Any:
    return objects(deployment, kind, **more)[kind.title()]["spec"]["template"]["spec"]


def unit(deployment: Deployment, **more: Any) -> list[tuple[str, str]]:
    lines = first(render(deployment, "quadlet", **more)).splitlines()
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return [(name, value) for name, _, value in pairs]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_names_the_image_by_its_digest(kind: str) -> None:
    assert IMAGE in first(render(LAB, kind))


class TestGpus:
    def test_of_compose(self) -> None:
        (device,) = service(LAB)["deploy"]["resources"]["reservations"]["devices"]
        assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
        (device,) = service(LAB, gpus=2)["deploy"]["resources"]["reservations"]["devices"]
        assert device["count"] == 2

    @pytest.mark.parametrize("kind", ["deployment", "job"])
    def test_of_kubernetes(self, kind: str) -> None:
        for gpus, expected in ((None, 1), (4, 4)):
            (container,) = pod(LAB, kind, gpus=gpus)["containers"]
            assert container["resources"]["limits"] == {"nvidia.com/gpu": expected}

    def test_of_a_quadlet(self) -> None:
        assert ("AddDevice", "nvidia.com/gpu=all") in unit(LAB)
        some = [value for name, value in unit(LAB, gpus=2) if name == "AddDevice"]
        assert some == ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]

    def test_of_apptainer(self) -> None:
        text = first(render(LAB, "apptainer"))
        assert "apptainer run --nv" in text
        with pytest.raises(UsageError, match="CUDA_VISIBLE_DEVICES"):
            render(LAB, "apptainer", gpus=1)

    @pytest.mark.parametrize("kind", KINDS)
    def test_an_image_without_cuda_asks_for_none(self, kind: str) -> None:
        text = first(render(LAB, kind, with_gpus=False))
        assert "nvidia" not in text
        assert "--nv" not in text
        with pytest.raises(UsageError):
            render(LAB, kind, with_gpus=False, gpus=1)


class TestTheWorkspace:
    """Nothing hides the code: an empty volume over /workspace did."""

    def test_of_compose(self) -> None:
        assert service(SERVER)["volumes"] == ["workspace:/workspace"]
        assert "volumes" not in service(SERVER, workspace="image")
        (mount,) = service(SERVER, workspace="./co$de")["volumes"]
        assert mount == {"type": "bind", "source": "./co$$de", "target": "/workspace"}

    def test_of_a_quadlet(self) -> None:
        assert ("Volume", "/srv/a%%b:/workspace") in unit(SERVER, workspace="/srv/a%b")
        assert not [x for x in unit(SERVER, workspace="image") if x[0] == "Volume"]

    def test_of_kubernetes(self) -> None:
        claimed = pod(SERVER, "job", workspace="pvc:data")
        assert claimed["volumes"][-1]["persistentVolumeClaim"] == {"claimName": "data"}
        assert claimed["containers"][0]["volumeMounts"][-1]["mountPath"] == "/workspace"
        files = pod(SERVER, "job", workspace="configmap:train.code")
        assert files["volumes"][-1]["configMap"] == {"name": "train.code"}
        plain = pod(SERVER, "job", workspace="image")
        assert [volume["name"] for volume in plain["volumes"]] == ["shm"]

    @pytest.mark.parametrize(
        ("kind", "what"),
        [
            ("job", "./code"), ("job", "pvc:"), ("job", "pvc:A\nb"), ("compose", "pvc:data"),
            ("compose", "code"), ("compose", "/a:/b"), ("quadlet", "/a\n[Service]"),
            ("apptainer", "./code"), ("compose", "./a\tb"),
        ],
    )  # fmt: skip
    def test_what_a_kind_cannot_mount(self, kind: str, what: str) -> None:
        with pytest.raises(UsageError):
            render(SERVER, kind, workspace=what)


class TestJupyter:
    @pytest.mark.parametrize("kind", KINDS)
    def test_no_file_says_that_there_is_no_token(self, kind: str) -> None:
        for text in render(LAB, kind).values():
            assert not re.search(r"token\s*[=:]\s*(''|\"\")", text)
            assert "--IdentityProvider" not in text

    @pytest.mark.parametrize("kind", ["compose", "quadlet", "apptainer"])
    def test_its_settings_lie_beside_and_are_mounted(self, kind: str) -> None:
        files = render(LAB, kind)
        compile(files[JUPYTER_FILE], JUPYTER_FILE, "exec")
        assert f"/etc/jupyter/{JUPYTER_FILE}" in first(files)

    def test_a_deployment_carries_them(self) -> None:
        made = objects(LAB, "deployment")
        expected = render(LAB, "compose")[JUPYTER_FILE]
        assert made["ConfigMap"]["data"] == {JUPYTER_FILE: expected}
        spec = pod(LAB, "deployment")
        mounts = {x["name"]: x["mountPath"] for x in spec["containers"][0]["volumeMounts"]}
        assert mounts["jupyter"] == "/etc/jupyter"
        volumes = {x["name"]: x for x in spec["volumes"]}
        assert volumes["jupyter"]["configMap"]["name"] == made["ConfigMap"]["metadata"]["name"]

    def test_a_secret_is_named_and_never_written(self) -> None:
        (entry,) = pod(LAB, "deployment")["containers"][0]["env"]
        assert entry["valueFrom"]["secretKeyRef"]["optional"]
        assert service(LAB)["environment"] == {"JUPYTER_TOKEN": "${JUPYTER_TOKEN:-}"}

    def test_only_this_host_reaches_it_unless_told_otherwise(self) -> None:
        assert service(LAB)["ports"] == ["127.0.0.1:8888:8888"]
        assert service(LAB, listen="::1")["ports"] == ["[::1]:8888:8888"]
        assert ("PublishPort", "127.0.0.1:8888:8888") in unit(LAB)
        assert objects(LAB, "deployment")["Service"]["spec"]["type"] == "ClusterIP"
        assert "--ip=127.0.0.1" in jupyter_command("apptainer", "127.0.0.1")


class TestAnothersCommand:
    def test_brings_no_settings_of_jupyters(self) -> None:
        for kind in KINDS:
            files = render(SERVER, kind)
            assert len(files) == 1
            assert "jupyter" not in first(files).lower()

    def test_words_stay_as_they_are(self) -> None:
        """As each reader takes them apart; compose's and podman's own do in tests/peers."""
        assert service(SERVER, command=AWKWARD)["command"] == [
            word.replace("$", "$$") for word in AWKWARD
        ]
        for kind in ("deployment", "job"):
            (container,) = pod(SERVER, kind, command=AWKWARD)["containers"]
            assert container["args"] == [word.replace("$", "$$") for word in AWKWARD]
        text = first(render(SERVER, "apptainer", command=AWKWARD))
        assert f"    exec {shlex.join(AWKWARD)}\n" in text

    @pytest.mark.parametrize("word", ["a\nb", "a\x00b", "a\x1bb"])
    def test_a_control_character_is_refused(self, word: str) -> None:
        for kind in KINDS:
            with pytest.raises(UsageError, match="control character"):
                render(SERVER, kind, command=("echo", word))

    def test_an_empty_word_is_refused_for_a_quadlet(self) -> None:
        """podman 5.4 drops it, and all that follows."""
        assert service(SERVER, command=("a", "", "b"))["command"] == ["a", "", "b"]
        with pytest.raises(UsageError, match="empty word"):
            render(SERVER, "quadlet", command=("a", "", "b"))

    def test_without_a_port_nothing_is_published(self) -> None:
        assert "ports" not in service(SERVER, port=None)
        assert "Service" not in objects(SERVER, "deployment", port=None)


class TestSurroundings:
    @pytest.mark.parametrize("kind", ["deployment", "job"])
    def test_pods_are_the_images_user(self, kind: str) -> None:
        context = pod(LAB, kind)["securityContext"]
        assert (context["runAsUser"], context["supplementalGroups"]) == (UID, [GID])
        assert context["runAsNonRoot"] is True

    def test_nothing_gains_privileges(self) -> None:
        made = service(LAB)
        assert (made["security_opt"], made["cap_drop"]) == (["no-new-privileges:true"], ["ALL"])
        assert {("NoNewPrivileges", "true"), ("DropCapability", "all")} <= set(unit(LAB))
        for kind in ("deployment", "job"):
            (container,) = pod(LAB, kind)["containers"]
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
            }  # fmt: skip

    def test_data_loaders_have_room(self) -> None:
        assert service(LAB)["shm_size"] == "8gb"
        assert ("PodmanArgs", SHARED_MEMORY) in unit(LAB)
        volumes = {x["name"]: x for x in pod(LAB, "job")["volumes"]}
        assert volumes["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "8Gi"}

    @pytest.mark.parametrize("image", [LAB, replace(SERVER, command=AWKWARD)])
    def test_apptainers_scripts_are_sound(self, image: Deployment, tmp_path: Path) -> None:
        text = first(render(image, "apptainer"))
        header, *sections = re.split(r"^%(\w+).*\n", text, flags=re.MULTILINE)
        fields = dict(re.findall(r"^(\w+): (\S+)$", header, re.MULTILINE))
        assert fields == {"Bootstrap": "docker", "From": IMAGE}
        found = dict(zip(sections[::2], sections[1::2], strict=True))
        assert {"runscript", "startscript", "help", "labels"} <= set(found)
        shellcheck = shutil.which("shellcheck", path=str(Path(sys.executable).parent))
        if shellcheck is None:
            pytest.skip("shellcheck is not installed beside this Python")
        for name in ("runscript", "startscript"):
            path = tmp_path / name
            path.write_text(f"#!/bin/sh\n{found[name]}")
            # What stands in single quotes is meant as it is.
            argv = [shellcheck, "--exclude=SC2016", str(path)]
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            assert done.stdout == ""

    def test_a_local_image_comes_from_the_engine(self) -> None:
        text = first(render(LAB, "apptainer", local=True))
        assert "Bootstrap: docker-daemon\n" in text

    @pytest.mark.parametrize("name", ["", "Lab", "-lab", "lab-", "l" * 53, "a.b", "lab\n"])
    def test_a_name_that_not_all_take(self, name: str) -> None:
        with pytest.raises(UsageError, match="--name"):
            render(LAB, "compose", name=name)

    def test_an_address_that_is_none(self) -> None:
        with pytest.raises(UsageError, match="write an IP address"):
            render(LAB, "compose", listen="everywhere")


FIELDS = ("image", "tag", "title", "name", "listen")


class TestHostileWords:
    """A deployment that no schema has looked at: it is refused, or stays what it is."""

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("name", TEXTS)
    def test_no_field_becomes_more_than_its_word(self, kind: str, name: str) -> None:
        for field in FIELDS:
            with pytest.raises(UsageError):
                render(SERVER, kind, **{field: TEXTS[name] + "\x1b"})
            try:
                made = first(render(SERVER, kind, **{field: TEXTS[name]}))
            except UsageError:
                continue
            # An image's name, and words that a title may have.
            assert (name, field) in {("host", "image"), ("host", "tag"), ("options", "title")}
            assert len(made.splitlines()) == len(first(render(SERVER, kind)).splitlines())

    @pytest.mark.parametrize("name", ["on", "null", "true", "y"])
    def test_a_name_that_yaml_takes_for_something_else(self, name: str) -> None:
        made = yaml.safe_load(first(render(SERVER, "compose", name=name)))
        assert (made["name"], list(made["services"])) == (name, [name])
        for kind in ("deployment", "job"):
            assert objects(SERVER, kind, name=name)[kind.title()]["metadata"]["name"] == name

    def test_words_that_a_reader_would_obey(self) -> None:
        with pytest.raises(UsageError, match="word ;"):
            render(SERVER, "quadlet", command=("a", ";", "/bin/rm"))
        with pytest.raises(UsageError, match="build argument"):
            render(SERVER, "apptainer", command=("echo", "{{ x }}"))
        with pytest.raises(UsageError, match="zone"):
            render(SERVER, "compose", listen="fe80::1%eth0")
        (container,) = pod(SERVER, "job", command=("$$(HOME)",))["containers"]
        assert expanded(container["args"][0], {"HOME": "/root"}) == "$$(HOME)"

    @pytest.mark.parametrize("image", ["${X}", "pytorch:${localEnv:HOME}", "x\n"])
    def test_a_dev_container_neither(self, image: str) -> None:
        environment = make_environment(PROJECT / "templates")
        with pytest.raises(SelectionError, match="is not written"):
            render_devcontainer(environment, Devcontainer("x", image, {}, False), written=False)
        with pytest.raises(SelectionError, match="is not written"):
            render_devcontainer(environment, Devcontainer(image, "x", {}, False), written=False)


def expanded(text: str, environment: dict[str, str]) -> str:
    """As Kubernetes does it (third_party/forked/golang/expansion)."""
    pattern = re.compile(r"\$(\$|\(([^)]*)\))")
    return pattern.sub(lambda m: "$" if m[1] == "$" else environment.get(m[2], m[0]), text)


class TestNobodysFolder:
    """Templates are code: only those of a project that was named are run, and in a sandbox."""

    CODE = "{{ ''.__class__.__mro__[1].__subclasses__() }}"

    def folder(self, path: Path, template: str) -> Path:
        (path / "templates/deploy").mkdir(parents=True)
        (path / "templates/deploy/compose.yaml.j2").write_text(template)
        return path

    def deploy(self, *words: str) -> int:
        given = ["deploy", TestTheCommand.TAG, "--kind", "compose", *words]
        with catalogue(listed()) as shelf:
            return main([*given, "--registry", shelf.url])

    def test_one_that_is_only_stood_in_is_passed_over(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
    ) -> None:
        here = self.folder(tmp_path / "here", "privileged: true\n")
        monkeypatch.chdir(here)
        for matrix in (False, True):
            if matrix:
                (here / "matrix.yaml").write_text("matrix: []\n")
            out = tmp_path / f"out-{matrix}"
            assert self.deploy("--output", str(out)) == 0
            assert "privileged" not in (out / "compose.yaml").read_text()
            assert ("--project" in capsys.readouterr().err) == matrix  # of use to it

    def test_a_named_one_writes_text_and_runs_no_code(self, tmp_path: Path, capsys: Any) -> None:
        plain = self.folder(tmp_path / "plain", "ours: {{ d.name }}\n")
        (plain / "matrix.yaml").write_text("matrix: []\n")
        out = tmp_path / "out"
        assert self.deploy("--output", str(out), "--project", str(plain)) == 0
        assert (out / "compose.yaml").read_text() == "ours: pytorch\n"

    @pytest.mark.parametrize(
        "code",
        [
            CODE,
            "{{ d.render.__globals__ }}",
            "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        ],
    )
    def test_code_in_one_is_an_error(self, code: str, tmp_path: Path, capsys: Any) -> None:
        folder = self.folder(tmp_path / "named", code)
        (folder / "matrix.yaml").write_text("matrix: []\n")
        out = tmp_path / "out"
        exit_code = self.deploy("--output", str(out), "--project", str(folder))
        assert exit_code == StorageError.exit_code
        assert "compose.yaml.j2" in capsys.readouterr().err
        assert not out.exists()

    def test_gits_settings_of_a_checkout_start_nothing(self, tmp_path: Path) -> None:
        made = tmp_path / "checkout"
        subprocess.run(["git", "init", "-q", str(made)], check=True)
        hook = f"touch {tmp_path}/pwned"
        config = ["git", "-C", str(made), "config", "core.fsmonitor", hook]
        subprocess.run(config, check=True)
        read_source(made)
        assert not (tmp_path / "pwned").exists()
        subprocess.run(["git", "-C", str(made), "status"], check=True, capture_output=True)
        assert (tmp_path / "pwned").exists()  # what the line above stands on


class TestTheCommand:
    TAG = "pytorch:2.3.1-cuda12.1-cudnn8.9-py3.11"

    def deploy(self, folder: Path, *words: str) -> int:
        given = ["deploy", *words, "--project", str(PROJECT), "--output", str(folder)]
        return main([*given, "--dist", str(folder / "none")])

    def test_a_devel_image_is_jupyterlab(self, tmp_path: Path, capsys: Any) -> None:
        assert self.deploy(tmp_path, f"{self.TAG}-devel", "--kind", "compose") == 0
        said = capsys.readouterr()
        assert said.out.split() == [str(tmp_path / x) for x in ("compose.yaml", JUPYTER_FILE)]
        assert "known only to engines that loaded it" in said.err

    def test_others_check_themselves(self, tmp_path: Path) -> None:
        assert self.deploy(tmp_path, self.TAG, "--kind", "compose") == 0
        made = yaml.safe_load((tmp_path / "compose.yaml").read_text())
        assert made["services"]["pytorch"]["command"] == ["selfcheck", "--require-gpu"]

    def test_a_deployment_of_something_that_ends_is_refused(
        self, tmp_path: Path, capsys: Any
    ) -> None:
        code = self.deploy(tmp_path, self.TAG, "--kind", "deployment")
        assert code == UsageError.exit_code
        assert "restarts a program that ends" in capsys.readouterr().err
        words = ["--kind", "deployment", "--command", "python 'my serve.py'", "--port", "8000"]
        assert self.deploy(tmp_path, self.TAG, *words) == 0

    def test_what_is_there_stays(self, tmp_path: Path, capsys: Any) -> None:
        words = (self.TAG, "--kind", "job")
        assert self.deploy(tmp_path, *words) == 0
        (tmp_path / "job.yaml").write_text("mine")
        assert self.deploy(tmp_path, *words) == UsageError.exit_code
        assert (tmp_path / "job.yaml").read_text() == "mine"
        assert self.deploy(tmp_path, *words, "--force") == 0

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["--command", "'"], "--command '"),
            (["--command", " "], "--command is empty"),
            (["--name", "Lab"], "--name Lab"),
        ],
    )
    def test_what_is_refused(
        self, words: list[str], said: str, tmp_path: Path, capsys: Any
    ) -> None:
        code = self.deploy(tmp_path, self.TAG, "--kind", "compose", *words)
        assert code == UsageError.exit_code
        assert said in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []

    def test_an_image_that_is_none(self, tmp_path: Path, capsys: Any) -> None:
        assert self.deploy(tmp_path, f"{self.TAG}x", "--kind", "job") == SelectionError.exit_code
        assert self.TAG in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("kind", "file", "line"),
        [
            ("job", "job.yaml", "containerd has the stargz snapshotter"),
            ("quadlet", "pytorch.container", "enable_partial_images"),
            ("compose", "compose.yaml", None),
        ],
    )
    def test_the_catalogues_digest_is_taken(
        self, kind: str, file: str, line: str | None, tmp_path: Path, capsys: Any
    ) -> None:
        """And the line is named that saves a whole pull there, where there is one."""
        _matrix, upstream, plan = planning.committed()
        (entry,) = plan_entries([c for c in plan.cells if self.TAG in c.tags], upstream, [])
        settings = load_settings({"project": str(PROJECT)})
        with referring_registry("catalogue") as shelf:
            address = parse_address(shelf.url)
            with open_registry(address, settings, QuietReporter(None)) as opened:
                publish_catalogue(opened, [replace(entry, digest=DIGEST)])
            words = [self.TAG, "--kind", kind, "--registry", shelf.url]
            assert self.deploy(tmp_path, *words) == 0
            said = capsys.readouterr().err
            assert self.deploy(tmp_path, *words, "--force", "--json") == 0
        assert f"{address.host}/pytorch@{DIGEST}" in (tmp_path / file).read_text()
        assert said.count("\n") == (line is not None)
        assert (line or "") in said
        told = capsys.readouterr()
        assert told.err == ""
        assert json.loads(told.out)["notes"] == said.splitlines()
