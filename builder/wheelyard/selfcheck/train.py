"""Train the benchmark models: each must learn, and a checkpoint must lead to the same losses."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from . import child
from .data import digits
from .data.folder import read_folder
from .data.pictures import Split
from .frameworks import MODULES, import_framework, pick_device, usable_frameworks
from .models.catalogue import SPECS, Spec
from .result import Check, Options, Outcome, failed, passed, skipped
from .training import known
from .training.attention import check_attention
from .training.augmenting import check_augmentation
from .training.distilling import check_distillation, check_quantization
from .training.figures import figures
from .training.learner import Learner, NotHereError, Setup
from .training.mnist import check_mnist
from .training.pruning import check_pruning
from .training.run import MakeLearner, Run, train
from .training.sides import learner_of

# A GPU adds in no fixed order unless it is told to (gpu.determinism does).
REPEATED = {"cpu": 1e-4, "cuda": 0.05}
AMP = 0.03  # how far, relatively, losses in half precision may be from float32's
BY_KERAS = ("mlp", "cnn-9216", "transformer")
TEACHER, STUDENT = "cnn-9216", "mlp"
TECHNIQUES = ("pytorch", "tensorflow")  # with augmentation, pruning and what MORE has
MORE = {"distillation": check_distillation, "quantization": check_quantization}
PARTS = (0, 5, 10, 16)  # of a batch of known.ROWS: not of one size, as at an epoch's end
NAMES = (
    *SPECS, "loader", "mnist", "attention", "seed", "amp", "accumulation", "keras",
    "augmentation",
    "pruning", *MORE,
)  # fmt: skip


def checks(options: Options) -> Iterator[Check]:
    """List one check per model and framework, in the order of the catalogue."""
    wanted = options.models or NAMES
    names = usable_frameworks(options)
    for framework in names:
        for spec in SPECS.values():
            if spec.name in wanted and framework in spec.frameworks:
                yield (
                    f"train.{spec.name}.{framework}",
                    partial(check_model, spec, framework, options),
                )
        if "loader" in wanted and framework == "pytorch":
            yield "train.loader.pytorch", partial(check_loader, options)
        if "mnist" in wanted and framework == "pytorch":
            yield "train.mnist.pytorch", partial(_mnist, options)
        if "attention" in wanted and framework == "pytorch":
            yield "train.attention.pytorch", partial(_attended, options)
        if "seed" in wanted:
            yield f"train.seed.{framework}", partial(check_seed, framework, options)
        if "amp" in wanted:
            yield f"train.amp.{framework}", partial(check_amp, framework, options)
        if "accumulation" in wanted:
            yield f"train.accumulation.{framework}", partial(check_accumulation, framework, options)
        if "keras" in wanted and len(names) > 1 and importlib.util.find_spec("keras"):
            yield f"train.keras.{framework}", partial(check_keras, framework)
        if framework not in TECHNIQUES:
            continue
        if "augmentation" in wanted:
            yield f"train.augmentation.{framework}", partial(_augmented, framework, options)
        if "pruning" in wanted:
            yield f"train.pruning.{framework}", partial(_pruned, framework, options)
        for name, check in MORE.items():
            if name in wanted:
                yield f"train.{name}.{framework}", partial(_with_teacher, check, framework, options)


def check_model(spec: Spec, framework: str, options: Options) -> Outcome:
    """Check that arithmetic is right, that it learns, and that a checkpoint repeats it."""
    setup = setup_of(spec, framework, options)
    try:
        if problem := known.fault(learner_of(framework), spec, framework, setup.device):
            return failed(problem)
        run = trained(framework, setup, options)
    except NotHereError as missing:
        return skipped(f"{missing} (devel images have it)")
    return judge(run, figures(run), wanted_of(spec, run, options))


def wanted_of(spec: Spec, run: Run, options: Options) -> dict[str, float]:
    """Return a model's thresholds, which are the digits'; on other data the loss must fall."""
    if options.data is not None:
        return {"loss_below": run.curve.losses[0]}
    return {"loss_below": spec.loss, "score_at_least": spec.score}


def judge(run: Run, seen: object, wanted: dict[str, float]) -> Outcome:
    """Compare a run with what it must reach."""
    losses = run.curve.losses
    if not all(map(math.isfinite, (*losses, run.scores["loss"]))):
        return failed("the loss is not a finite number", seen, wanted)
    if losses[-1] >= min(wanted["loss_below"], losses[0]):
        return failed(f"the loss fell to {losses[-1]:.4g} only", seen, wanted)
    reached = run.scores.get("accuracy", run.scores.get("pearson", math.nan))
    if not reached >= wanted.get("score_at_least", -1):
        return failed(f"the score on unseen samples is {reached:.4g} only", seen, wanted)
    if run.forgotten:
        names = f"{len(run.forgotten)} states, {', '.join(run.forgotten[:4])}"
        return failed(
            f"the checkpoint does not bring back {names}",
            seen,
            wanted,
        )
    expected, again = run.resumed
    if not math.isclose(expected, again, rel_tol=REPEATED[run.setup.device]):
        return failed(f"from its checkpoint the loss is {again}, not {expected}", seen, wanted)
    return passed(seen, wanted)


def check_loader(options: Options) -> Outcome:
    """Check loader processes, shared memory and, with a GPU, pinned memory."""
    import_framework("pytorch")
    from .training import loader

    return loader.check_loader(pick_device(options, "pytorch"))


def check_seed(framework: str, options: Options) -> Outcome:
    """Check that a seed gives the same weights and losses twice, and another seed others."""
    setup = setup_of(SPECS["mlp"], framework, options)
    short = replace(setup, spec=replace(setup.spec, epochs=2))
    make = learner_of(framework)
    first, again, other = (
        train(make, each).curve.losses
        for each in (short, short, replace(short, seed=short.seed + 1))
    )
    weights, others = (make(each).state() for each in (short, replace(short, seed=short.seed + 1)))
    seen = {"losses": first, "again": again, "other_seed": other}
    if all(others[name] == digest for name, digest in weights.items() if "model" in name):
        return failed("another seed gave the very same weights", seen)
    tolerance = REPEATED[setup.device]
    if not all(map(math.isfinite, (*first, *again, *other))):
        return failed("the loss is not a finite number", seen)
    if not all(math.isclose(a, b, rel_tol=tolerance) for a, b in zip(first, again, strict=True)):
        return failed(f"seed {short.seed} gave other losses the second time", seen)
    if first == other:
        return failed("another seed gave the very same losses", seen)
    return passed(seen)


def check_amp(framework: str, options: Options) -> Outcome:
    """Check that mixed precision uses its type, starts near float32's losses, and learns.

    In every type that the device has: float16 with its losses scaled, and bfloat16.
    """
    make, setup = learner_of(framework), setup_of(SPECS["mlp"], framework, options)
    seen: dict[str, Any] = {}
    for half in make(replace(setup, mixed=True)).halves:
        known_losses: dict[str, Any] = {}
        seen[half] = {"first": known_losses}
        for name in ("mlp", "transformer"):  # SGD and Adam
            first = known.setup_of(SPECS[name], setup.device, mixed=True, half=half)
            known_losses[name], problem = _first_losses(make, first, framework)
            if problem:
                return failed(f"{name}: {problem}", seen)
        run = train(make, replace(setup, mixed=True, half=half))
        seen[half] |= figures(run)
        if problem := unscaled(half, run.learner.loss_scale()):
            return failed(problem, seen)
        outcome = judge(run, seen, wanted_of(setup.spec, run, options))
        if outcome.status != "pass":
            return replace(outcome, reason=f"in {half}: {outcome.reason}")
    return passed(seen, {"relative_difference": AMP})


def _first_losses(
    make: MakeLearner, setup: Setup, framework: str
) -> tuple[dict[str, Any], str | None]:
    """Return the losses of the first steps beside float32's, and what is wrong with them."""
    problem = wrong_type(make(setup))
    learner = make(setup)
    learner.known_weights()
    rows = list(range(known.ROWS))
    losses = learner.numbers([learner.step(rows) for _ in range(known.STEPS)])
    wanted = known.known_numbers(framework)[setup.spec.name]["losses"]
    if not known.close(losses, wanted, AMP):
        problem = problem or f"the losses in {learner.mixed_type} are not float32's"
    return {"losses": losses, "float32": wanted}, problem


def unscaled(half: str, scale: float) -> str | None:
    """Say what is wrong with a loss scale: float16 needs one, bfloat16 has float32's range."""
    if (scale > 1) == (half == "float16"):
        return None
    return f"losses in {half} are multiplied by {scale:g} before gradients are computed"


def check_accumulation(framework: str, options: Options) -> Outcome:
    """Add up the gradients of a batch's parts: the losses must be those of the whole batch."""
    make, device = learner_of(framework), pick_device(options, framework)
    rows = list(range(known.ROWS))
    parts = [rows[start:end] for start, end in itertools.pairwise(PARTS)]
    seen: dict[str, Any] = {}
    for name in ("mlp", "transformer" if framework == "jax" else "lstm"):  # SGD and Adam
        learner = make(known.setup_of(SPECS[name], device))
        learner.known_weights()
        losses = learner.numbers([learner.accumulated(parts) for _ in range(known.STEPS)])
        wanted = known.known_numbers(framework)[name]["losses"]
        seen[name] = {"accumulated": losses, "whole": wanted}
        if not known.close(losses, wanted, known.TOLERANCES[learner.peak_type]):
            return failed(f"{name}: gradients of parts, added up, are not the batch's", seen)
    return passed(seen, {"relative_difference": known.TOLERANCES})


def check_keras(framework: str) -> Outcome:
    """Train an MLP, a CNN and a Transformer by Keras 3 with this framework as its backend."""
    if (version := importlib.metadata.version("keras")).startswith("2."):
        return skipped(f"Keras {version} has no backends")
    backend = MODULES[framework]
    command = child.module(f"{__package__}.training.keras_backend", *BY_KERAS)
    seen = child.last_json(child.run(command, {"KERAS_BACKEND": backend}, len(BY_KERAS)))
    return judge_keras(seen, backend)


def judge_keras(seen: dict[str, Any], backend: str) -> Outcome:
    """Check that each model reaches its thresholds, and that its weights are the backend's."""
    holders = {"jax": ("jax", "jaxlib")}.get(backend, (backend,))
    wanted = {
        name: {"loss_below": SPECS[name].loss, "score_at_least": SPECS[name].score}
        for name in BY_KERAS
    }
    if seen["backend"] != backend:
        return failed(f"Keras computes by {seen['backend']}, not by {backend}", seen, backend)
    for name, model in seen["models"].items():
        if model["held_by"] not in holders:
            return failed(f"{name}: the weights are {model['held_by']}'s", seen, list(holders))
        reached = model["loss"] < SPECS[name].loss and model["score"] >= SPECS[name].score
        if not reached:  # catches nan
            return failed(
                f"{name}: loss {model['loss']:.4g}, score {model['score']:.4g}", seen, wanted
            )
    return passed(seen, wanted)


def wrong_type(learner: Learner) -> str | None:
    """Say what is wrong with the types that a step really computes in; None: nothing.

    Mixed precision keeps some of a model in float32; without it, nothing may be lower.
    """
    wanted, seen = learner.mixed_type, learner.computed(range(2))
    if wanted in seen and (wanted != "float32" or seen == {"float32"}):
        return None
    return f"asked for {wanted}, the matrix products are computed in {', '.join(sorted(seen))}"


def setup_of(spec: Spec, framework: str, options: Options) -> Setup:
    """Return how the options want a model trained."""
    if options.batch is not None:
        spec = replace(spec, batch=options.batch)
    split = pictures(options)
    if spec.batch > split.train.count:
        spec = replace(spec, batch=split.train.count)
    device = pick_device(options, framework)
    # Layers this small lose more to waiting than threads gain.
    return Setup(spec, split, device, options.seed, threads=1 if spec.small else None)


def pictures(options: Options) -> Split:
    """Read the digits, or the folder that the options name, once."""
    return _pictures(options.data, options.samples)


@cache
def _pictures(folder: Path | None, samples: int) -> Split:
    return digits() if folder is None else read_folder(folder, samples)


def trained(framework: str, setup: Setup, options: Options) -> Run:
    """Train a model; the teacher's run is kept, because later checks build on it."""
    log = options.log / framework if options.log else None
    work = _kept if setup.spec.name == TEACHER else train
    return work(learner_of(framework), setup, log)


_kept = cache(train)


def _attended(options: Options) -> Outcome:
    return check_attention(pick_device(options, "pytorch"))


def _mnist(options: Options) -> Outcome:
    return check_mnist(pick_device(options, "pytorch"), options.seed)


def _augmented(framework: str, options: Options) -> Outcome:
    import_framework(framework)
    return check_augmentation(framework, options.seed)


def _pruned(framework: str, options: Options) -> Outcome:
    return check_pruning(framework, setup_of(SPECS[STUDENT], framework, options))


def _with_teacher(check: Callable[..., Outcome], framework: str, options: Options) -> Outcome:
    teacher = trained(framework, setup_of(SPECS[TEACHER], framework, options), options)
    return check(framework, teacher, setup_of(SPECS[STUDENT], framework, options))
