"""The frameworks' learners, by name; only the one asked for is imported."""

from __future__ import annotations

from ..frameworks import import_framework
from ..training.run import MakeLearner


def learner_of(framework: str) -> MakeLearner:
    """Return what makes a Learner from a Setup."""
    import_framework(framework)
    if framework == "tensorflow":
        from ..training.keras_learner import KerasLearner

        return KerasLearner
    if framework == "jax":
        from ..training.jax_learner import JaxLearner

        return JaxLearner
    from ..training.torch_learner import TorchLearner

    return TorchLearner
