"""The engines that build Dockerfiles, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from wheelyard.dockerfiles.bake import bake_engine
from wheelyard.dockerfiles.docker_engine import docker_engine

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.dockerfiles.batch import Engine, Job, Options
    from wheelyard.model import Plan

    Opener = Callable[[Sequence[Job], Plan, Options, Context], AbstractContextManager[Engine]]

ENGINES: dict[str, Opener] = {"docker": docker_engine, "bake": bake_engine}
