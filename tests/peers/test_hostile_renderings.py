"""Hostile texts in every field of what hosts execute, read by those who execute it.

Each text is refused by us, or is read as just that text: no reader sees a line, a service, a
variable or an option that the template did not write.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hostile import DIGEST, TEXTS

from tests.devcontainer.npm import PROGRAM, find_node, install_cli
from tests.engines.trixie import started_from
from tests.peers.project import REPOSITORY
from wheelyard.errors import SelectionError, UsageError
from wheelyard.rendering.deployments import Deployment, render_deployment
from wheelyard.rendering.devcontainers import Devcontainer, render_devcontainer
from wheelyard.settings import load_settings
from wheelyard.system.templates import make_environment

IMAGE = f"reg.example:5000/team/pytorch@{DIGEST}"
PLAIN = Deployment(
    kind="compose", name="lab", title="pytorch 2.3.1 with CUDA 12.1", tag="pytorch:2.3.1",
    image=IMAGE, local=False, command=("python", "serve.py"), jupyter=False, port=8000,
    listen="127.0.0.1", with_gpus=True, gpus=None,
)  # fmt: skip
FIELDS = ("image", "tag", "title", "name", "listen")
SECRET = {"AWS_SECRET_ACCESS_KEY": "s3cret", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}
# More than the texts of a catalogue: words for a command, which may hold anything in one line.
WORDS = (
    *TEXTS.values(), ";", "&&", "|", "-", "--", "@/bin/sh", "+x", "!x", "%i", "%%", "$$", "$${X}",
    "$", "'", '"',
    "\\", "\\n", "\\;", "a=b", "#", "a #b", "a: b", "[x]", "{a: b}", "*x", "&x", "!!x", "|", ">",
    "no", "null", "1e3", "~", " ", "a  b", "ä", "日本", "\N{ROCKET}",
)  # fmt: skip


def render(kind: str, **changed: Any) -> str:
    environment = make_environment(REPOSITORY / "templates")
    files = render_deployment(environment, replace(PLAIN, kind=kind, **changed))
    return next(iter(files.values()))


def accepted(kind: str) -> tuple[str, ...]:
    """The words that are not refused for a kind, behind one that is always there."""
    return ("run", *(word for word in WORDS if is_taken(kind, command=("run", word))))


def is_taken(kind: str, **changed: Any) -> bool:
    try:
        render(kind, **changed)
    except UsageError:
        return False
    return True


def fields(kind: str) -> Iterator[dict[str, str]]:
    """What is taken of every text in every field."""
    for field in FIELDS:
        yield from ({field: text} for text in TEXTS.values() if is_taken(kind, **{field: text}))


def test_most_texts_are_refused_in_every_field() -> None:
    for kind in ("compose", "quadlet", "job", "deployment", "apptainer"):
        taken = list(fields(kind))
        assert len(taken) <= 4, taken  # an image's name, and words that a title may have
        assert len(accepted(kind)) > 40


class TestCompose:
    def read(self, tools: Path, folder: Path, text: str) -> Any:
        (folder / "compose.yaml").write_text(text)
        compose = started_from(tools, "usr/libexec/docker/cli-plugins/docker-compose")
        argv = [*compose, "--file", str(folder / "compose.yaml"), "config", "--format", "json"]
        env = {**os.environ, **SECRET}
        done = subprocess.run(argv, check=False, capture_output=True, text=True, env=env)
        assert (done.returncode, done.stderr) == (0, "")
        assert "s3cret" not in done.stdout
        return json.loads(done.stdout)

    def test_reads_what_the_template_wrote(self, trixie_tools: Path, tmp_path: Path) -> None:
        plain = self.read(trixie_tools, tmp_path, render("compose"))
        words = accepted("compose")
        found = self.read(trixie_tools, tmp_path, render("compose", command=words))
        command = found["services"]["lab"].pop("command")
        assert [word.replace("$$", "$") for word in command] == list(words)
        plain["services"]["lab"].pop("command")
        assert found == plain
        for changed in fields("compose"):
            found = self.read(trixie_tools, tmp_path, render("compose", **changed))
            found["services"]["lab"].pop("command")
            expected = json.loads(json.dumps(plain).replace(IMAGE, changed.get("image", IMAGE)))
            assert found == expected

    def test_would_fill_in_a_variable(self, trixie_tools: Path, tmp_path: Path) -> None:
        """What the test above stands on."""
        text = render("compose").replace("serve.py", "${AWS_SECRET_ACCESS_KEY}")
        with pytest.raises(AssertionError, match="s3cret"):
            self.read(trixie_tools, tmp_path, text)


class TestQuadlet:
    def read(self, tools: Path, folder: Path, text: str) -> list[str]:
        """The unit that podman's generator makes, without its ExecStart's command."""
        (folder / "lab.container").write_text(text)
        argv = [*started_from(tools, "usr/libexec/podman/quadlet"), "-dryrun", "-user"]
        env = {**os.environ, "QUADLET_UNIT_DIRS": str(folder)}
        done = subprocess.run(argv, check=False, capture_output=True, text=True, env=env)
        assert done.returncode == 0, done.stderr
        assert "unsupported key" not in done.stderr
        _, begin, unit = done.stdout.partition("---lab.service---")
        assert begin
        return unit.splitlines()

    def test_reads_what_the_template_wrote(self, trixie_tools: Path, tmp_path: Path) -> None:
        plain = self.read(trixie_tools, tmp_path, render("quadlet"))
        (start,) = [line for line in plain if line.startswith("ExecStart=")]
        before = start.removesuffix("python serve.py")
        assert before != start
        assert " --cap-drop all " in before
        assert " --security-opt=no-new-privileges " in before
        words = accepted("quadlet")
        assert ";" not in words
        found = self.read(trixie_tools, tmp_path, render("quadlet", command=words))
        shown = [line for line in found if not line.startswith("ExecStart=")]
        assert shown[:2] == plain[:2]
        (line,) = [line for line in found if line.startswith("ExecStart=")]
        assert line.startswith(before)
        assert split_like_systemd(line.removeprefix(before)) == [
            word.replace("%", "%%").replace("$", "$$") for word in words
        ]
        assert len([x for x in found if not x.startswith(("Exec=", "ExecStart="))]) == len(
            [x for x in plain if not x.startswith(("Exec=", "ExecStart="))]
        )

    def test_systemd_takes_it(self, trixie_tools: Path, tmp_path: Path, need: Any) -> None:
        """And finds one command in it, whose words are those that were given."""
        need("systemd-analyze", "podman")
        words = accepted("quadlet")
        unit = tmp_path / "made" / "lab.service"
        unit.parent.mkdir()
        found = self.read(trixie_tools, tmp_path, render("quadlet", command=words))
        unit.write_text("\n".join(found) + "\n")
        check = ["systemd-analyze", "verify", str(unit)]
        done = subprocess.run(check, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def split_like_systemd(line: str) -> list[str]:
    """Words in quotes, with backslashes before what they escape (systemd.syntax(7))."""
    words, word, quoted, seen, rest = [], "", "", False, iter(f"{line} ")
    for letter in rest:
        if letter == "\\":
            escaped = next(rest)
            word += {"x": lambda: chr(int(next(rest) + next(rest), 16))}.get(
                escaped, lambda escaped=escaped: escaped
            )()
        elif quoted and letter == quoted:
            quoted = ""
        elif not quoted and letter in "\"'" and not word:
            quoted, seen = letter, True
        elif letter == " " and not quoted:
            if word or seen:
                words.append(word)
            word, seen = "", False
        else:
            word += letter
    return words


class TestKubernetes:
    @pytest.mark.parametrize("kind", ["job", "deployment"])
    def test_reads_what_the_template_wrote(self, kind: str) -> None:
        """By the YAML that its tools read; the schemas are in test_deploy.py."""
        plain = list(yaml.safe_load_all(render(kind)))
        words = accepted(kind)
        found = list(yaml.safe_load_all(render(kind, command=words)))
        (container,) = found[0]["spec"]["template"]["spec"]["containers"]
        assert [word.replace("$$", "$") for word in container["args"]] == list(words)
        container["args"] = ["python", "serve.py"]
        assert found == plain
        for changed in fields(kind):
            text = render(kind, **changed).replace(changed.get("image", IMAGE), IMAGE)
            assert list(yaml.safe_load_all(text)) == plain


class TestDevContainers:
    @pytest.fixture
    def cli(self) -> list[str]:
        folder = install_cli(load_settings({"project": str(REPOSITORY)}))
        return [str(find_node()[0]), str(folder / PROGRAM), "read-configuration"]

    def read(self, cli: list[str], folder: Path, text: str) -> Any:
        path = folder / ".devcontainer" / "devcontainer.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        # It asks for a container of that folder, and there is none.
        argv = [*cli, "--workspace-folder", str(folder), "--docker-path", "/bin/true"]
        env = {**os.environ, **SECRET}
        done = subprocess.run(argv, check=False, capture_output=True, text=True, env=env)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["configuration"]

    def text(self, image: str, title: str = "x") -> str:
        environment = make_environment(REPOSITORY / "templates")
        config = Devcontainer(title, image, {"left over": ["true"]}, False)
        return render_devcontainer(environment, config, written=False)

    def test_reads_what_the_template_wrote(self, cli: list[str], tmp_path: Path) -> None:
        plain = self.read(cli, tmp_path, self.text(IMAGE))
        assert (plain.pop("image"), plain.pop("name")) == (IMAGE, "x")
        taken = 0
        for text in TEXTS.values():
            for words in ((text, "x"), (f"pytorch:{text}", "x"), (IMAGE, text)):
                try:
                    written = self.text(*words)
                except SelectionError:
                    continue
                found = self.read(cli, tmp_path, written)
                assert (found.pop("image"), found.pop("name")) == words
                assert found == plain
                taken += 1
        assert taken < 8

    def test_would_fill_in_a_variable(self, cli: list[str], tmp_path: Path) -> None:
        """What the test above stands on."""
        text = self.text(IMAGE).replace(IMAGE, TEXTS["host variable"])
        assert self.read(cli, tmp_path, text)["image"] == "s3cret"
