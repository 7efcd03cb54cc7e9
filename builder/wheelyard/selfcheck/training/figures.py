"""A run's numbers, as the report shows them."""

from __future__ import annotations

from typing import Any

from ..training.metrics import roc_curve
from ..training.peaks import stated_peak
from ..training.run import Run


def figures(run: Run) -> dict[str, Any]:
    """Return the run's figures as JSON values; rates per second, memory in MiB."""
    setup, curve = run.setup, run.curve
    return {
        "device": run.learner.device_name,
        "data": setup.split.train.name,
        "samples": setup.split.train.count,
        "seed": setup.seed,
        "batch": setup.spec.batch,
        "type": run.learner.mixed_type,
        "losses": [round(loss, 6) for loss in curve.losses],
        "scores": {name: round(value, 4) for name, value in run.scores.items()},
        "first_step_seconds": round(curve.first_step, 3),
        "peak_memory_mib": round(run.peak_memory / 2**20, 1),
        **rates(run),
        **_curve(run),
        "resumed": {"expected": run.resumed[0], "seen": run.resumed[1]},
    }


def _curve(run: Run) -> dict[str, Any]:
    """Return the ROC curve of the classifier that says yes or no, by false and true positives."""
    if run.setup.spec.task != "binary":
        return {}
    answers = run.learner.answers()
    points = roc_curve([bool(label) for label in answers.truth],
                       [row[0] for row in answers.outputs])  # fmt: skip
    return {"roc_curve": [[round(value, 4) for value in point] for point in points]}


def rates(run: Run) -> dict[str, Any]:
    """Return the run's speed, and its share of what the device's maker states."""
    peak = stated_peak(run.learner.device_name, run.learner.peak_type)
    return {
        "samples_per_second": round(run.samples_per_second, 1),
        "steps_per_second": round(run.samples_per_second / run.setup.spec.batch, 2),
        "tflops": round(run.rate, 4),
        "peak_tflops": peak.rate if peak else None,
        "of_peak": round(run.rate / peak.rate, 5) if peak else None,
        "peak_source": peak.source if peak else "no stated rate is known for this device",
    }
