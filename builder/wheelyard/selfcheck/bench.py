"""How fast the device computes and the models train.

Several timed windows each, so that two reports can be compared beyond noise.
"""

from __future__ import annotations

import importlib
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from .frameworks import MODULES, import_framework, pick_device, usable_frameworks
from .machine import flags
from .models.catalogue import SPECS, Spec
from .models.large import FULL, TINY, Gpt2, ResNet
from .rates import checks as rates_of_copies
from .result import Check, Options, Outcome, failed, passed, skipped
from .train import setup_of, wrong_type
from .training.learner import NotHereError
from .training.peaks import POSSIBLE, stated_peak
from .training.sides import learner_of
from .training.throughput import Speed, finite, measure, rates
from .trouble import explain, is_out_of_memory

LARGER = 16  # times the batch on a GPU, where 64 samples leave it idle
LARGE = tuple(FULL)
WHOLE = ("pytorch", "tensorflow")  # have the large models, and a format of checkpoints
SMALL = "a tiny one on the processor: that it learns, and no speed"
SIZES = {"cpu": 1024, "cuda": 8192}  # of the large matrix product


def checks(options: Options) -> Iterator[Check]:
    """List a large matrix product, then every model, a framework at a time."""
    for framework in usable_frameworks(options):
        if not options.models:
            yield f"bench.matmul.{framework}", partial(check_matmul, framework, options)
        for spec in SPECS.values():
            if framework in spec.frameworks and spec.name in (options.models or SPECS):
                yield (
                    f"bench.{spec.name}.{framework}",
                    partial(check_speed, spec, framework, options),
                )
        if options.models or framework not in WHOLE:
            continue
        yield from rates_of_copies(framework, options)
        for name in LARGE:
            yield f"bench.{name}.{framework}", partial(check_large, name, framework, options)


def check_speed(spec: Spec, framework: str, options: Options) -> Outcome:
    """Measure throughput with mixed precision off and on; a large batch only where it fits."""
    device = pick_device(options, framework)
    if options.batch is not None or device == "cpu":
        return _speed(spec, framework, options, device)
    large = replace(spec, batch=spec.batch * LARGER)
    try:
        return _speed(large, framework, options, device)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        problem = explain(error, options.free_memory)
    outcome = _speed(spec, framework, options, device)  # only here is the first try's memory free
    if outcome.status != "pass":
        return outcome
    return replace(outcome, reason=f"batch {spec.batch} instead of {large.batch}: {problem}")


def _speed(spec: Spec, framework: str, options: Options, device: str) -> Outcome:
    """Measure both throughputs; fail when a loss is not finite."""
    setup = setup_of(spec, framework, options)
    seen: dict[str, Any] = {"device": None, "batch": setup.spec.batch}
    try:
        for mixed in (False, True):
            if mixed and (reason := no_mixed(device)):
                seen["mixed"] = {"not_measured": reason}
                continue
            make = learner_of(framework)
            if problem := wrong_type(make(replace(setup, mixed=mixed))):
                return failed(problem, seen)
            speed = measure(make, replace(setup, mixed=mixed))
            seen["device"] = speed.device
            seen["mixed" if mixed else "float32"] = shown(speed, setup.spec)
            if not finite(speed):
                return failed(f"a loss in {speed.type} is not a finite number", seen)
    except NotHereError as missing:
        return skipped(f"{missing} (devel images have it)")
    return passed(seen)


def check_large(name: str, framework: str, options: Options) -> Outcome:
    """Train a model that fills a GPU, in mixed precision; on a processor a tiny one of its code."""
    device = pick_device(options, framework)
    module = _large_side(framework)
    shape = FULL[name] if device == "cuda" else TINY[name]
    if options.batch is not None:
        shape = replace(shape, batch=options.batch)
    while True:
        try:
            return large_outcome(module, name, shape, device)
        except Exception as error:
            if not is_out_of_memory(error) or shape.batch == 1 or options.batch is not None:
                raise
        shape = replace(shape, batch=shape.batch // 2)  # the first try's memory is free here


def large_outcome(module: Any, name: str, shape: ResNet | Gpt2, device: str) -> Outcome:
    """Train on one batch, which a model has to learn by heart; how fast it goes."""
    model = module.Large(shape, device)
    counted = module.parameters(FULL[name])
    first = float(model.step())
    runs = rates(model.step, model.wait, shape.training_operations * shape.batch)
    last = float(model.step())
    rate = statistics.median(runs)
    kind = str(model.type).removeprefix("torch.")
    peak = stated_peak(model.name, kind)
    speed = {
        "type": kind,
        "samples_per_second": round(rate * 1e12 / shape.training_operations, 2),
        "tflops": round(rate, 4),
        "of_peak": round(rate / peak.rate, 4) if peak else None,
        "peak_memory_mib": round(model.memory() / 2**20, 1),
        "runs": [round(value, 4) for value in runs],
    }
    seen = {
        "device": model.name, "batch": shape.batch, "parameters": counted,
        "losses": [round(first, 4), round(last, 4)],
        "float32" if kind == "float32" else "mixed": speed,
    }  # fmt: skip
    if counted != FULL[name].parameters:
        return failed(f"{name} has {counted} weights", seen, FULL[name].parameters)
    if not (math.isfinite(last) and last < first):
        return failed(f"the loss went from {first:.4g} to {last:.4g}", seen)
    return passed(seen, reason=None if device == "cuda" else SMALL)


def _large_side(framework: str) -> Any:
    import_framework(framework)
    side = "keras" if framework == "tensorflow" else "torch"
    return importlib.import_module(f"{__package__}.models.large_{side}")


def no_mixed(device: str) -> str | None:
    """Say why mixed precision is not worth measuring; None where it is."""
    if device == "cpu" and not {"avx512_bf16", "amx_bf16"} & flags():
        return "this processor has no bfloat16 instructions"
    return None


def shown(speed: Speed, spec: Spec) -> dict[str, Any]:
    """Return one measurement as the report shows it."""
    rate = speed.samples_per_second * spec.training_operations / 1e12
    peak = stated_peak(speed.device, speed.peak_type)
    return {
        "type": speed.type,
        "samples_per_second": round(speed.samples_per_second, 1),
        "steps_per_second": round(speed.samples_per_second / spec.batch, 2),
        "tflops": round(rate, 4),
        "of_peak": round(rate / peak.rate, 5) if peak else None,
        "peak_source": peak.source if peak else "no stated rate is known for this device",
        "first_step_seconds": round(speed.first_step, 3),
        "peak_memory_mib": round(speed.peak_memory / 2**20, 1),
        "runs": [round(value, 1) for value in speed.runs],
    }


def check_matmul(framework: str, options: Options) -> Outcome:
    """Measure TFLOP/s of a large matrix product in every type, beside the stated rate."""
    device = pick_device(options, framework)
    import_framework(framework)
    side = importlib.import_module(f"{__package__}.training.matmul_{MODULES[framework]}")
    name, rates = side.product_rates(device, SIZES[device])
    return judge_matmul(name, rates, SIZES[device])


def judge_matmul(name: str, rates: Mapping[str, Sequence[float]], size: int) -> Outcome:
    """Report rates beside the stated ones; above those nothing can be."""
    seen: dict[str, Any] = {"device": name, "size": size}
    for kind, runs in rates.items():
        middle = sorted(runs)[len(runs) // 2]
        peak = stated_peak(name, kind)
        seen[kind] = {
            "tflops": round(middle, 4),
            "of_peak": round(middle / peak.rate, 4) if peak else None,
            "runs": [round(value, 4) for value in runs],
        }
    if absurd := [kind for kind in rates if (seen[kind]["of_peak"] or 0) > POSSIBLE]:
        return failed(f"{', '.join(absurd)}: more than can be; not all of it was computed", seen)
    return passed(seen)
