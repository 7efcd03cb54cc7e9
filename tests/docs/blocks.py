"""The commands of README and docs, in page order, and why some of them are not run here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[2]
# In the order in which somebody would go through them; other pages follow.
_FIRST = (
    "README.md", "docs/build.md", "docs/run.md", "docs/extend.md", "docs/nvcc.md",
    "docs/publish.md", "docs/reproduce.md", "docs/servers.md", "docs/devcontainer.md",
)  # fmt: skip
PAGES = tuple(
    dict.fromkeys(
        (*_FIRST, *sorted(str(p.relative_to(PROJECT)) for p in (PROJECT / "docs").rglob("*.md")))
    )
)
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What is not run, by what the command says: the kind that is counted, and the reason.
NOT_RUN = (
    (r"--gpus |^wheelyard (pick|pull|pick) --registry|^wheelyard doctor --for gpu|\bcuda$",
     "gpu", "a machine with an NVIDIA GPU"),
    (r"^wheelyard (upstream|audit)\b", "internet", "asks Debian's and Python's archives"),
    (r"^wheelyard (build|push) pytorch:devel|^wheelyard devcontainer pin ", "internet",
     "fetches the newest PyTorch"),
    (r"^docker (build|buildx bake) |\buv pip install\b", "internet",
     "its steps fetch from an index"),
    (r"^cosign ", "internet", "a program that Debian bookworm has not; tests/peers runs it"),
    (r"^make test$", "elsewhere", "the suites themselves"),
    (r"\barm64$|\barm64 |qemu-user-static", "elsewhere", "make test-arm64 makes and tries it"),
    (r"--engine |^wheelyard base ", "elsewhere", "tests/engines builds this way"),
    (r"\bfar\b", "elsewhere", "a builder on another machine; tests/engines has one"),
    (r"^(podman|ctr-remote|/opt/nvidia/\S+) .* train\.py$", "elsewhere",
     "tests/use runs podman; the others are a snapshotter's and NVIDIA's"),
    (r"^cd my-project\b|^wheelyard (init|lock|push) --registry registry\.example/team$",
     "elsewhere", "a project of the reader's; tests/peers pushes one"),
    (r"^torchrun ", "gpu", "runs in the image, on two nodes"),
    (r"^ctr-remote ", "elsewhere", "containerd with a snapshotter; tests/peers has one"),
    (r"jupyter lab", "elsewhere", "runs until it is stopped; tests/devcontainer opens it"),
    (r"^wheelyard devcontainer init ", "gpu", "chooses by this machine's driver"),
)  # fmt: skip
# Dockerfiles are built, from the reader's index and Debian's archive, but for this one.
NOT_BUILT = (
    (r"nvidia-cuda-toolkit", "elsewhere", "5 GB of Debian's; tests/peers installs what it names"),
)
BUILD = "docker build --network host - <<'END'\n"
ENGINE = re.compile(r"^docker |\| docker |^wheelyard run (?!--print)")
# The set of CUDA 12.1 is two images here, and what asks somebody on a terminal does not.
_INSTEAD = (
    (r"(?<=[ =])cuda12\.1(?=\s|$)", "pytorch:2.3,pytorch:2.3-devel"),
    (r"(?<=push )pytorch-2\.3\.1(?= )", "pytorch:2.3"),
    (r" -it ", " "),
    (r" -aes256 ", " "),
)


@dataclass(frozen=True, slots=True)
class Command:
    """A line that somebody would paste, and what the page shows of its output."""

    page: str
    line: int
    text: str  # without the comment behind it
    shown: str = ""

    @property
    def skipped(self) -> tuple[str, str] | None:
        """Kind and reason where it is never run here."""
        rules = NOT_BUILT if self.text.startswith(BUILD) else NOT_RUN
        return next(((kind, why) for rule, kind, why in rules if re.search(rule, self.text)), None)

    @property
    def needs_engine(self) -> bool:
        return ENGINE.search(self.text) is not None

    def here(self, registry: str) -> str:
        """The command as it is run: with a registry on loopback in the example's place."""
        text = self.text.replace("registry.example/team", f"http://{registry}/team")
        for pattern, instead in _INSTEAD:
            text = re.sub(pattern, instead, text)
        return text


def blocks(page: str) -> Iterator[tuple[int, str, str]]:
    """Line, language and text of every fenced block."""
    text = (PROJECT / page).read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        yield text.count("\n", 0, found.start()) + 2, found[1], found[2]


def commands(page: str) -> Iterator[Command]:
    """The lines of its shell blocks, its Dockerfiles, and what a prompt shows, with its output."""
    for start, language, text in blocks(page):
        if language == "sh":
            for number, line in enumerate(text.splitlines()):
                if stripped := _bare(line):
                    yield Command(page, start + number, stripped)
        elif language == "dockerfile":
            yield Command(page, start, f"{BUILD}{text}END")
        elif text.startswith("$ "):
            for piece in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                first, _, shown = piece.partition("\n")
                yield Command(page, start, _bare(first), shown)


def _bare(line: str) -> str:
    return re.sub(r"\s+#.*$|^#.*$", "", line).strip()


def is_shown(shown: str, printed: str) -> bool:
    """Whether a program printed what the page shows: lines may be wrapped, `...` leaves out."""
    pieces = [" ".join(piece.split()) for piece in re.split(r"\.\.\.|\n(?=\S)", shown)]
    at, text = 0, " ".join(printed.split())
    for piece in filter(None, pieces):
        at = text.find(piece, at)
        if at < 0:
            return False
        at += len(piece)
    return True
