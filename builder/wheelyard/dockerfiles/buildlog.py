"""What an engine reports while it builds: the log, the current step, the image or the error.

The classic builder writes lines of text, BuildKit reports the state of each step.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import Any, TextIO

from wheelyard.console.tasks import Reporter, Task
from wheelyard.dockerfiles.trace import Vertex, decode_trace

TAIL_LINES = 20
TRACE = "moby.buildkit.trace"  # the id of BuildKit's messages
_CLASSIC_STEP = re.compile(r"Step (\d+)/(\d+) : (.*)", re.DOTALL)
_BUILDKIT_STEP = re.compile(r"\[(?:\S+ )?(\d+)/(\d+)\] (.*)", re.DOTALL)
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


class BuildLog:
    """The messages of one build of the image `label`, written to `log`."""

    def __init__(self, label: str, log: TextIO, reporter: Reporter) -> None:
        self.step = ""
        self.image: str | None = None  # its id
        self.error: str | None = None
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)  # of what the steps wrote
        self._label, self._log, self._reporter = label, log, reporter
        self._said: set[str] = set()  # BuildKit's steps that have begun
        self._stack = ExitStack()
        self._task: Task | None = None

    def __enter__(self) -> BuildLog:
        self._stack.__enter__()
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self._stack.__exit__(*error)

    def take(self, message: Mapping[str, Any]) -> None:
        """Process one message of the engine; EngineError if it cannot be read."""
        if message.get("id") == TRACE:
            self._follow(str(message["aux"]))
            return
        text = str(message.get("stream") or message.get("error") or message.get("status") or "")
        self._write(text)
        self._keep(line for line in text.splitlines() if _is_said(line))
        if match := _CLASSIC_STEP.match(text):
            self._begin(int(match[2]), match[3].strip())
        if "aux" in message and "ID" in message["aux"]:
            self.image = str(message["aux"]["ID"])
        if "error" in message:
            self.error = str(message["error"])

    def _follow(self, encoded: str) -> None:
        begun, texts = decode_trace(encoded)
        for vertex in begun:
            if vertex.digest not in self._said:
                self._said.add(vertex.digest)
                self._announce(vertex)
        for text in texts:
            self._write(text)
            self._keep(text.splitlines())

    def _announce(self, vertex: Vertex) -> None:
        self._write(f"{vertex.name}{' CACHED' if vertex.is_cached else ''}")
        if match := _BUILDKIT_STEP.match(vertex.name):
            self._begin(int(match[2]), match[3].strip())

    def _write(self, text: str) -> None:
        text = _ESCAPES.sub("", text)
        if text.strip():
            self._log.write(text if text.endswith("\n") else f"{text}\n")
            self._log.flush()

    def _keep(self, lines: Iterable[str]) -> None:
        self.tail.extend(plain for line in lines if (plain := _ESCAPES.sub("", line)).strip())

    def _begin(self, total: int, step: str) -> None:
        if self._task is None:
            context = self._reporter.task(self._label, total, "items")
            self._task = self._stack.enter_context(context)
        else:
            self._task.advance(1)
        self.step = step


def _is_said(line: str) -> bool:
    """Tell whether a line comes from the step itself, not from the classic builder."""
    return bool(line.strip()) and not line.startswith(("Step ", " ---> ", "Removed intermediate"))
