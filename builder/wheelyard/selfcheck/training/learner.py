"""What every framework's side of a training can do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..data.pictures import Split
from ..models.catalogue import Spec


class NotHereError(Exception):
    """A model needs a package that this environment does not have; not a failure."""


@dataclass(frozen=True, slots=True)
class Setup:
    """How a model is trained."""

    spec: Spec
    split: Split
    device: str  # "cpu" or "cuda"
    seed: int
    mixed: bool = False  # automatic mixed precision
    half: str | None = None  # its type; None: the usual one of the device
    dropout: bool = True
    threads: int | None = None  # None: the framework's own choice


@dataclass(frozen=True, slots=True)
class Answers:
    """What a model says about the test pictures."""

    outputs: list[list[float]]  # probabilities of the classes, or one number
    truth: list[float]
    loss: float


class Learner(Protocol):
    """A model in training."""

    model: Any
    device_name: str  # "NVIDIA H100 80GB HBM3", or the processor's
    mixed_type: str  # the type that mixed precision computes in, "float32" without it
    halves: tuple[str, ...]  # the types that it may compute in on this device
    peak_type: str  # the stated rate that its arithmetic is held to: "tf32" where that is used
    repeats: bool  # a checkpoint holds all that decides the next losses

    def step(self, rows: Sequence[int]) -> Any:
        """Train on these rows of the training pictures; return the loss without waiting for it."""

    def accumulated(self, parts: Sequence[Sequence[int]]) -> Any:
        """Take one step by the gradients of a batch's parts; return the loss without waiting."""

    def numbers(self, losses: Sequence[Any]) -> list[float]:
        """Wait for losses."""

    def answers(self) -> Answers:
        """Ask about the test pictures."""

    def known_weights(self) -> None:
        """Set every weight by `known.weight`'s formula."""

    def moved(self, place: int) -> list[float]:
        """Measure how far the output at each place moves when the data at `place` are changed."""

    def computed(self, rows: Sequence[int]) -> frozenset[str]:
        """Return the types in which a training step multiplies matrices."""

    def loss_scale(self) -> float:
        """Return what losses are multiplied with before gradients are computed."""

    def state(self) -> dict[str, str]:
        """Digest everything that a checkpoint must bring back, by name."""

    def save(self, folder: Path) -> None:
        """Write a checkpoint."""

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint."""

    def peak_memory(self) -> int | None:
        """Return the most bytes of the device that were in use; None for the CPU."""
