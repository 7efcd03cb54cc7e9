"""The training loop, with a learner in plain Python: softmax regression on our digits."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wheelyard.selfcheck import bench
from wheelyard.selfcheck import train as selfcheck_train
from wheelyard.selfcheck.compile import judge_step
from wheelyard.selfcheck.data import digits
from wheelyard.selfcheck.data.pictures import Pictures, Split, copies
from wheelyard.selfcheck.models.catalogue import SPECS, Spec
from wheelyard.selfcheck.models.large import FULL, TINY
from wheelyard.selfcheck.result import Options, run_check
from wheelyard.selfcheck.train import (
    BY_KERAS,
    judge,
    judge_keras,
    setup_of,
    unscaled,
    wrong_type,
)
from wheelyard.selfcheck.training import attention, augmenting, known, pruning, throughput
from wheelyard.selfcheck.training.distilling import divergence_of
from wheelyard.selfcheck.training.figures import figures
from wheelyard.selfcheck.training.known import close, dependence, formula, known_numbers
from wheelyard.selfcheck.training.learner import Answers, Setup
from wheelyard.selfcheck.training.run import Run, batches, score, train

SPEC = replace(SPECS["mlp"], name="softmax", epochs=3, rate=0.5, batch=20, loss=1.2, score=0.5)


def small() -> Split:
    whole = digits()
    return Split(whole.train.part(0, 200), whole.test.part(0, 60))


def setup(spec: Spec = SPEC) -> Setup:
    return Setup(spec, small(), "cpu", seed=7)


class Softmax:
    """Ten weights a pixel."""

    device_name, mixed_type, peak_type, repeats = "abacus", "float32", "float32", True
    halves: tuple[str, ...] = ("float32",)

    def __init__(self, given: Setup) -> None:
        self.given = given
        self.model = self.weights = [[0.0] * 64 for _ in range(10)]

    def known_weights(self) -> None:
        self.weights = [[float(formula(64 * kind + at, 0, 64)) for at in range(64)]
                        for kind in range(10)]  # fmt: skip

    def moved(self, place: int) -> list[float]:
        return [1.0]

    def computed(self, rows: Sequence[int]) -> frozenset[str]:
        return frozenset({"float32"})

    def loss_scale(self) -> float:
        return 1.0

    def state(self) -> dict[str, str]:
        return {"model": json.dumps(self.weights), "optimizer": "remembers nothing"}

    def step(self, rows: Sequence[int]) -> float:
        total, changes = 0.0, [[0.0] * 64 for _ in range(10)]
        for row in rows:
            pixels, label = sample(self.given.split.train, row)
            chances = self.chances(pixels)
            total -= math.log(max(chances[label], 1e-12))
            for kind, chance in enumerate(chances):
                error = (chance - (kind == label)) * self.given.spec.rate / len(rows)
                changes[kind] = [c + error * p for c, p in zip(changes[kind], pixels, strict=True)]
        for kind, change in enumerate(changes):
            pairs = zip(self.weights[kind], change, strict=True)
            self.weights[kind] = [weight - moved for weight, moved in pairs]
        return total / len(rows)

    def accumulated(self, parts: Sequence[Sequence[int]]) -> float:
        return self.step([row for rows in parts for row in rows])

    def chances(self, pixels: Sequence[float]) -> list[float]:
        sums = [sum(w * p for w, p in zip(row, pixels, strict=True)) for row in self.weights]
        powers = [math.exp(value - max(sums)) for value in sums]
        return [power / sum(powers) for power in powers]

    def numbers(self, losses: Sequence[float]) -> list[float]:
        return list(losses)

    def answers(self) -> Answers:
        test = self.given.split.test
        outputs = [self.chances(sample(test, row)[0]) for row in range(test.count)]
        truth = [float(label) for label in test.labels]
        loss = -sum(math.log(row[int(t)]) for row, t in zip(outputs, truth, strict=True))
        return Answers(outputs, truth, loss / len(truth))

    def save(self, folder: Path) -> None:
        (folder / "weights.json").write_text(json.dumps(self.weights))

    def load(self, folder: Path) -> None:
        self.weights = json.loads((folder / "weights.json").read_text())

    def peak_memory(self) -> int | None:
        return None


class Forgetful(Softmax):
    """Its checkpoint lacks the weights."""

    def load(self, folder: Path) -> None:
        pass


class Careless(Softmax):
    """It looks at its weights alone."""

    def state(self) -> dict[str, str]:
        return {"model": json.dumps(self.weights)}


class Exploding(Softmax):
    """Its loss overflows."""

    def step(self, rows: Sequence[int]) -> float:
        super().step(rows)
        return math.nan


def sample(pictures: Pictures, row: int) -> tuple[list[float], int]:
    pixels = pictures.pixels[row * 64 : (row + 1) * 64]
    return [pixel / pictures.levels for pixel in pixels], pictures.labels[row]


def wanted(run: Run) -> dict[str, float]:
    return {"loss_below": run.setup.spec.loss, "score_at_least": run.setup.spec.score}


def test_a_model_that_learns_passes_and_everything_is_told(tmp_path: Path) -> None:
    run = train(Softmax, setup(), tmp_path / "log")
    assert judge(run, None, wanted(run)).status == "pass"
    assert run.resumed[0] == run.resumed[1] == run.curve.losses[-1]
    seen = figures(run)
    assert (seen["device"], seen["samples"], seen["batch"], seen["seed"]) == ("abacus", 200, 20, 7)
    assert seen["losses"] == sorted(seen["losses"], reverse=True)
    assert seen["scores"]["accuracy"] > 0.5
    assert seen["samples_per_second"] == pytest.approx(seen["steps_per_second"] * 20, rel=0.01)
    assert (seen["of_peak"], seen["peak_source"]) == (
        None, "no stated rate is known for this device",
    )  # fmt: skip
    assert run.curve.steps == 29  # ten a step and epoch, without the first
    assert seen["peak_memory_mib"] > 1
    assert list((tmp_path / "log" / "softmax").glob("events.out.tfevents.*"))
    assert (tmp_path / "log" / "softmax" / "weights.json").exists()


def test_a_checkpoint_that_forgets_fails() -> None:
    run = train(Forgetful, setup())
    outcome = judge(run, None, wanted(run))
    assert outcome.status == "fail"
    assert outcome.reason == "the checkpoint does not bring back 1 states, model"


def test_a_state_that_names_no_optimizer_was_not_compared() -> None:
    run = train(Careless, setup())
    outcome = judge(run, None, wanted(run))
    assert (outcome.status, run.forgotten) == ("fail", ("optimizer",))


def test_a_checkpoint_with_other_losses_fails() -> None:
    run = train(Softmax, setup())
    outcome = judge(replace(run, resumed=(1.0, 1.001)), None, wanted(run))
    assert outcome.status == "fail"
    assert (outcome.reason or "").startswith("from its checkpoint the loss is ")


@pytest.mark.parametrize(
    ("learner", "spec", "reason"),
    [
        (Exploding, SPEC, "the loss is not a finite number"),
        (Softmax, replace(SPEC, rate=0.001), "the loss fell to "),
        (Softmax, replace(SPEC, score=0.999), "the score on unseen samples is "),
    ],
)
def test_a_model_that_does_not_learn_fails(learner: type[Softmax], spec: Spec, reason: str) -> None:
    run = train(learner, setup(spec))
    outcome = judge(run, None, wanted(run))
    assert outcome.status == "fail"
    assert (outcome.reason or "").startswith(reason)


def test_batches_are_the_seeds_and_no_row_comes_twice() -> None:
    first = list(batches(100, 32, 7, 0))
    assert first == list(batches(100, 32, 7, 0))
    assert first != list(batches(100, 32, 7, 1))
    assert first != list(batches(100, 32, 8, 0))
    assert [len(rows) for rows in first] == [32, 32, 32]
    assert len({row for rows in first for row in rows}) == 96


def test_a_regression_has_scores_of_its_own() -> None:
    scores = score("regression", Answers([[1.0], [2.0], [4.0]], [1.0, 2.0, 3.0], 0.5))
    assert scores["mse"] == pytest.approx(1 / 3)
    assert scores["rmse"] == pytest.approx(math.sqrt(1 / 3))
    assert set(scores) == {"loss", "mse", "rmse", "pearson"}


def test_one_output_is_the_chance_of_yes() -> None:
    scores = score("binary", Answers([[0.9], [0.2], [0.4], [0.7]], [1, 0, 1, 0], 0.5))
    assert (scores["accuracy"], scores["roc_auc"]) == (0.5, 0.75)


def test_throughput_is_measured_in_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "SECONDS", 0.01)
    speed = throughput.measure(Softmax, setup())
    assert len(speed.runs) == throughput.WINDOWS
    assert min(speed.runs) <= speed.samples_per_second <= max(speed.runs)
    assert throughput.finite(speed)
    assert not throughput.finite(throughput.measure(Exploding, setup()))


def test_a_speed_is_the_median_of_what_a_clock_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every window is slower than the one before: 200, 100, 67, 50 and 40 samples a second."""
    now = [0.0]
    paces = [0.1] * (1 + throughput.WARM_UP) + [0.1 * at for at in range(1, 6) for _ in range(3)]

    class Timed(Softmax):
        def step(self, rows: Sequence[int]) -> float:
            now[0] += paces.pop(0)
            return 0.5

    clock = SimpleNamespace(perf_counter=lambda: now[0])
    monkeypatch.setattr(throughput, "time", clock)
    speed = throughput.measure(Timed, setup())
    assert paces == []
    assert speed.runs == pytest.approx((200, 100, 66.7, 50, 40), abs=0.1)
    assert speed.samples_per_second == pytest.approx(66.7, abs=0.1)


def test_a_rate_is_operations_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def work() -> None:
        now[0] += 0.1

    monkeypatch.setattr(throughput, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    assert throughput.rates(work, lambda: None, 2e12) == pytest.approx([20.0] * 5)


class Small(Softmax):
    """A GPU with little memory."""

    def __init__(self, given: Setup) -> None:
        if given.spec.batch > SPEC.batch:
            raise OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        super().__init__(given)


class OutOfMemoryError(RuntimeError):
    """As torch.cuda names it."""


@pytest.mark.parametrize("given", [None, 40])
def test_a_batch_that_does_not_fit_is_made_smaller_unless_it_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, given: int | None
) -> None:
    monkeypatch.setattr(throughput, "SECONDS", 0.01)
    monkeypatch.setattr(bench, "learner_of", lambda _framework: Small)
    monkeypatch.setattr(bench, "pick_device", lambda *_: "cuda")
    monkeypatch.setattr(bench, "setup_of", lambda spec, *_: setup(spec))
    spec = SPEC if given is None else replace(SPEC, batch=given)
    options = Options(None, batch=given, free_memory=lambda: "GPU 0: 1 of 2 MiB free")
    result = run_check(("bench.x", partial(bench.check_speed, spec, "pytorch", options)), options)
    assert "GPU 0: 1 of 2 MiB free" in (result.reason or "")
    assert result.status == ("pass" if given is None else "fail")
    if given is None:
        assert (result.reason or "").startswith("batch 20 instead of 320: the memory did not")
        assert result.seen["batch"] == 20


def test_a_batch_is_never_larger_than_the_data() -> None:
    given = setup_of(SPECS["mlp"], "pytorch", Options(None, device="cpu", batch=5000))
    assert given.spec.batch == 1500


def test_the_linear_layers_of_the_networks_are_the_seeds() -> None:
    """9216, 6272 and 2304 follow from the pictures that go in."""
    assert SPECS["cnn-9216"].shape == (1, 28, 28)
    assert 64 * ((28 - 2 - 2) // 2) ** 2 == 9216
    assert SPECS["cnn-6272"].shape == (3, 28, 28)
    assert 128 * (28 // 2 // 2) ** 2 == 6272
    assert SPECS["cnn-2304"].shape == (3, 32, 32)
    assert 64 * (((32 - 2) // 2 - 2) // 2) ** 2 == 2304
    assert SPECS["mlp"].operations == 2 * (784 * 128 + 128 * 10)


def test_a_step_is_counted_without_the_gradient_of_the_data() -> None:
    """Nobody needs it: the first layer computes twice, not three times, what it does forward."""
    for name in ("mlp", "regression", "binary"):
        ratio = SPECS[name].training_operations / SPECS[name].operations
        assert 2.0 < ratio < 2.2, name
    assert SPECS["transformer"].training_operations == 3 * SPECS["transformer"].operations
    first = 26 * 26 * 2 * 9 * 32
    assert SPECS["cnn-9216"].training_operations == 3 * SPECS["cnn-9216"].operations - first
    run = train(Softmax, setup())
    expected = run.samples_per_second * SPEC.training_operations / 1e12
    assert figures(run)["tflops"] == pytest.approx(expected, abs=1e-4)


class OnH100(Softmax):
    """A matrix product in float32, which PyTorch does without TF32 unless it is told to."""

    device_name = "NVIDIA H100 80GB HBM3"


@pytest.mark.parametrize(("kind", "rate"), [("float32", 67), ("tf32", 494.7)])
def test_a_rate_is_held_to_the_type_that_is_computed_in(kind: str, rate: float) -> None:
    run = train(OnH100, setup())
    run.learner.peak_type = kind
    assert figures(run)["peak_tflops"] == rate


def test_sequences_may_depend_on_the_past_alone_and_must_on_all_of_it() -> None:
    right = [0.0] * 40 + [0.5] * 24
    assert dependence(right, 40, causal=True) is None
    seen = dependence([*right[:39], 0.1, *right[40:]], 40, causal=True)
    assert seen is not None
    assert "nothing masks the future" in seen
    blind = dependence([*right[:50], 0.0, *right[51:]], 40, causal=True)
    assert blind is not None
    assert "nothing carries it there" in blind
    assert dependence([math.nan] * 64, 40, causal=True) is not None
    assert dependence([0.0], 3, causal=False) is not None
    assert dependence([0.1], 3, causal=False) is None


def test_known_numbers_are_compared_number_by_number() -> None:
    wanted = [1.0, -2.0, 0.001]
    assert close(wanted, wanted, 2e-3)
    assert close([1.003, -2.0, 0.004], wanted, 2e-3)  # of the largest, which is 2
    assert not close([1.005, -2.0, 0.001], wanted, 2e-3)
    assert not close([1.0, -2.0], wanted, 2e-3)
    assert not close([1.0, -2.0, math.nan], wanted, 2e-3)


@pytest.mark.parametrize(
    ("kind", "part", "fits"),
    [
        ("float32", 1e-4, True),
        ("float32", 1e-3, False),
        ("tf32", 1e-3, True),
        ("tf32", 1e-2, False),
    ],
)
def test_known_numbers_may_differ_by_the_rounding_of_their_type(
    kind: str, part: float, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Typed(Softmax):
        peak_type = kind

    recorded = {
        name: [value * (1 + part) for value in values]
        for name, values in known.compute(Softmax(known.setup_of(SPEC, "cpu"))).items()
    }
    monkeypatch.setattr(known, "known_numbers", lambda framework: {SPEC.name: recorded})
    problem = known.fault(Typed, SPEC, "pytorch", "cpu")
    assert (problem is None) == fits
    assert fits or "not the recorded numbers" in str(problem)


@pytest.mark.parametrize(
    ("after", "problem"),
    [
        ([0.0, 3.0, 0.0, -4.0], None),
        ([0.0, 3.0, 2.0, -4.0], "1 of 4 weights are zero"),
        ([0.0, 3.0, 0.0, -4.5], "changes weights that it keeps"),
        ([0.0, 0.0, 2.0, -4.0], "takes larger weights than it keeps"),
    ],
)
def test_the_smaller_half_of_the_weights_is_pruned(after: list[float], problem: str | None) -> None:
    found = pruning.fault([-1.0, 3.0, 2.0, -4.0], after)
    assert found is None if problem is None else problem in str(found)


def test_operations_of_large_models_are_the_published_ones() -> None:
    resnet, gpt2 = (FULL[name] for name in ("resnet50", "gpt2"))
    assert resnet.operations == pytest.approx(2 * 4.089e9, rel=0.001)  # torchvision: 4.09 GMAC
    places, attention = 1024 * 768, 4 * 12 * 1024 * 768
    by_weights = 2 * (124_439_808 - places) + attention  # Kaplan et al., 2N a token and attention
    assert gpt2.operations == pytest.approx(1024 * by_weights, rel=0.001)


class Memorizing:
    """A large model's side, with the losses it is told to have."""

    name, type = "abacus", "torch.float32"

    def __init__(self, losses: Sequence[float], weights: int = 25_557_032) -> None:
        self.losses, self.weights = list(losses), weights

    def Large(self, shape: object, device: str) -> Memorizing:  # noqa: N802 - the side's class
        return self

    def parameters(self, shape: object) -> int:
        return self.weights

    def step(self) -> float:
        time.sleep(0.05)
        return self.losses.pop(0) if len(self.losses) > 1 else self.losses[0]

    def wait(self) -> None:
        pass

    def memory(self) -> int:
        return 0


@pytest.mark.parametrize(
    ("side", "reason"),
    [
        (Memorizing([7.0, 3.0]), None),
        (Memorizing([7.0, 7.0]), "the loss went from 7 to 7"),
        (Memorizing([7.0, math.nan]), "the loss went from 7 to nan"),
        (Memorizing([7.0, 3.0], 25_557_031), "resnet50 has 25557031 weights"),
    ],
)
def test_a_large_model_has_all_its_weights_and_learns(
    side: Memorizing, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throughput, "SECONDS", 0.05)
    outcome = bench.large_outcome(side, "resnet50", TINY["resnet50"], "cpu")
    assert outcome.reason == reason or (reason is None and outcome.status == "pass")
    assert (outcome.status == "fail") == (reason is not None)
    speed = outcome.seen["float32"]
    assert set(speed) >= {"samples_per_second", "tflops", "of_peak", "peak_memory_mib", "runs"}


def test_augmented_pictures_are_the_picture_moved_and_mirrored() -> None:
    picture = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    allowed = list(augmenting.ways(picture))
    assert len(allowed) == 18
    assert ((0, 3, 2), (0, 6, 5), (0, 9, 8)) in allowed  # mirrored, and moved to the right
    assert augmenting.fault(picture, allowed) is None
    assert "is not the picture" in str(augmenting.fault(picture, [*allowed, picture[::-1]]))
    for never in (allowed[:9], allowed[9:], [allowed[4], allowed[13]]):
        assert "never" in str(augmenting.fault(picture, never))


def test_every_model_has_known_numbers() -> None:
    for framework in ("pytorch", "tensorflow"):
        names = {spec.name for spec in SPECS.values() if framework in spec.frameworks}
        assert names - set(known_numbers(framework)) <= {"bert"}  # made by another package
        for numbers in known_numbers(framework).values():
            assert set(numbers) == {"answers", "loss", "losses"}
            assert all(math.isfinite(value) for values in numbers.values() for value in values)


def test_copies_come_again_half_a_length_later() -> None:
    """And nothing nearer says what comes: the last word is right one time in 17."""
    rows = copies(500, 64, 17)
    assert rows == copies(500, 64, 17)
    assert all(row[:32] == row[32:] for row in rows)
    pairs = [(row[at - 1], row[at]) for row in rows for at in range(1, 32)]
    table: dict[int, Counter[int]] = {}
    for before, after in pairs:
        table.setdefault(before, Counter())[after] += 1
    right = sum(found.most_common(1)[0][1] for found in table.values())
    assert right / len(pairs) < 0.1 < SPECS["copy"].score


def test_a_student_is_compared_with_its_teacher_answer_by_answer() -> None:
    assert divergence_of([0.5, 0.5], [0.5, 0.5]) == 0
    assert divergence_of([1.0, 0.0], [0.5, 0.5]) == pytest.approx(math.log(2))
    assert divergence_of([0.5, 0.5], [1.0, 0.0]) > 5
    assert not divergence_of([0.5, 0.5], [math.nan, 0.5]) <= 1
    with pytest.raises(ValueError, match="zip"):
        divergence_of([1.0], [0.5, 0.5])


@pytest.mark.parametrize(
    ("asked", "seen", "right"),
    [
        ("float32", {"float32"}, True),
        ("float32", {"float32", "bfloat16"}, False),
        ("bfloat16", {"bfloat16", "float32"}, True),
        ("bfloat16", {"float32"}, False),
        ("float16", set(), False),
    ],
)
def test_mixed_precision_is_what_the_products_are_computed_in(
    asked: str, seen: set[str], right: bool
) -> None:
    class Mixed(Softmax):
        mixed_type = asked

        def computed(self, rows: Sequence[int]) -> frozenset[str]:
            return frozenset(seen)

    assert (wrong_type(Mixed(setup())) is None) == right


def test_float16_needs_its_losses_scaled_and_bfloat16_does_not() -> None:
    assert unscaled("float16", 65536.0) is None
    assert unscaled("bfloat16", 1.0) is None
    assert "multiplied by 1 before" in (unscaled("float16", 1.0) or "")
    assert unscaled("bfloat16", 2.0)
    assert unscaled("float16", math.nan)


FLASH = attention.Part("ScaledDotProductFlashAttentionForCpuBackward0", 1e-6, 1e-6)
MATH = {"float32": attention.Part("", 1e-6, 1e-6)}


@pytest.mark.parametrize(
    ("backends", "reason"),
    [
        ({"flash": replace(FLASH, by="")}, "flash was asked for in float32, and the definition's"),
        ({"flash": replace(FLASH, by="ScaledDotProductEfficientAttentionBackward0")},
         "and ScaledDotProductEfficientAttentionBackward0 computed"),
        ({"math": FLASH}, "math was asked for in float32"),
        ({"flash": replace(FLASH, forward=1e-3)}, "flash in float32 is wrong forward"),
        ({"flash": replace(FLASH, backward=math.nan)}, "flash in float32 is wrong backward"),
    ],
)  # fmt: skip
def test_attention_is_wrong_in_many_ways(backends: dict[str, attention.Part], reason: str) -> None:
    parts = {"math": MATH, "flash": {"float32": FLASH}, "efficient": {}, "cudnn": {}}
    found = {**parts, **{name: {"float32": part} for name, part in backends.items()}}
    outcome = attention.judge(found, "cpu")
    assert (outcome.status, reason in (outcome.reason or "")) == ("fail", True), outcome.reason


def test_attention_passes_with_what_the_device_has_and_says_what_it_has_not() -> None:
    outcome = attention.judge({"math": MATH, "flash": {"float32": FLASH}}, "cpu")
    assert (outcome.status, outcome.reason) == ("pass", "not on this device: efficient, cudnn")
    assert attention.judge({"math": MATH}, "cuda").reason == (
        "attention has no fused backend on this cuda"
    )
    assert attention.judge({"flash": {"float32": FLASH}}, "cpu").status == "fail"


def test_a_compiled_step_is_the_eager_one_learns_and_was_compiled() -> None:
    eager = [2.3, 2.1, 1.9]
    assert judge_step("cpu", eager, [2.3, 2.1, 1.9001], {"kernels": 1}).status == "pass"
    for compiled, made, reason in (
        (eager, {"kernels": 0}, "nothing was compiled"),
        ([2.3, 2.1, 1.8], {"kernels": 1}, "computes something else"),
        ([2.3, 2.1, math.nan], {"kernels": 1}, "computes something else"),
    ):
        outcome = judge_step("cpu", eager, compiled, made)
        assert (outcome.status, reason in (outcome.reason or "")) == ("fail", True)
    still = judge_step("cpu", [2.3, 2.3], [2.3, 2.3], {"kernels": 1})
    assert still.reason == "the compiled training step does not learn"


def keras_run(**changes: object) -> dict[str, Any]:
    models = {
        name: {"loss": 0.01, "score": 1.0, "held_by": "jaxlib"} | changes for name in BY_KERAS
    }
    return {"backend": "jax", "models": models}


@pytest.mark.parametrize(
    ("changes", "backend", "reason"),
    [
        ({}, "jax", None),
        ({}, "torch", "Keras computes by jax, not by torch"),
        ({"held_by": "tensorflow"}, "jax", "mlp: the weights are tensorflow's"),
        ({"loss": 3.0}, "jax", "mlp: loss 3, score 1"),
        ({"loss": math.nan}, "jax", "mlp: loss nan, score 1"),
        ({"score": 0.2}, "jax", "mlp: loss 0.01, score 0.2"),
    ],
)
def test_keras_computes_by_the_backend_it_was_told_to(
    changes: dict[str, object], backend: str, reason: str | None
) -> None:
    outcome = judge_keras(keras_run(**changes), backend)
    assert (outcome.status, outcome.reason) == ("pass" if reason is None else "fail", reason)


def test_keras_is_trained_by_every_framework_beside_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = ["pytorch", "tensorflow", "jax"]
    monkeypatch.setattr(selfcheck_train, "usable_frameworks", lambda _options: there)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)

    def listed() -> list[str]:
        return [name for name, _ in selfcheck_train.checks(Options(None, models=("keras",)))]

    assert listed() == [f"train.keras.{name}" for name in there]
    del there[1:]
    assert listed() == []


def test_no_product_is_faster_than_the_device() -> None:
    h100 = "NVIDIA H100 80GB HBM3"
    assert bench.judge_matmul(h100, {"bfloat16": [700.0, 710.0, 720.0]}, 8192).status == "pass"
    assert bench.judge_matmul("unlisted", {"bfloat16": [9000.0]}, 8192).status == "pass"
    absurd = bench.judge_matmul(h100, {"float32": [50.0], "bfloat16": [1400.0]}, 8192)
    assert absurd.status == "fail"
    assert absurd.reason == "bfloat16: more than can be; not all of it was computed"
