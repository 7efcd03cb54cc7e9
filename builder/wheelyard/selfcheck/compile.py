"""`torch.compile` and XLA make code on this machine, and that code computes the same numbers."""

from __future__ import annotations

import copy
import math
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from os import environ
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .frameworks import import_framework, pick_device, usable_frameworks
from .result import Check, Options, Outcome, failed, passed, skipped

if TYPE_CHECKING:
    import torch

STEP, DIFFERENCE = 1e-5, 1e-7  # of central differences in float64; their error is STEP squared
TOLERANCE = 1e-5  # float32, a few operations
STEPS, ROWS, INPUTS, KINDS = 8, 64, 32, 10  # of a training
DRIFT = 1e-3  # relative, of a loss: float32, over STEPS steps
TRITON = (7, 0)
MACHINE_CODE = (".so", ".cubin")


def checks(options: Options) -> Iterator[Check]:
    """List the checks of TorchInductor, XLA and `jax.jit` for the frameworks that are used."""
    names = usable_frameworks(options)
    if "pytorch" in names:
        yield "compile.inductor", partial(check_inductor, options)
        yield "compile.step.pytorch", partial(check_inductor_step, options)
    if "tensorflow" in names:
        yield "compile.xla", partial(check_xla, options)
        yield "compile.step.tensorflow", partial(check_xla_step, options)
    if "jax" in names:
        yield "compile.jit", partial(check_jit, options)
        yield "compile.grad", partial(check_grad, options)


def check_xla(options: Options) -> Outcome:
    """Check that a function compiled by XLA agrees with the same function run step by step."""
    tf = import_framework("tensorflow")
    device = pick_device(options, "tensorflow")

    def mixed(values: Any) -> Any:
        scaled = tf.sin(values * 2 + 1) * tf.exp(-tf.abs(values))
        return scaled + tf.reduce_mean(scaled)

    with tf.device("/GPU:0" if device == "cuda" else "/CPU:0"):
        values = tf.linspace(-3.0, 3.0, 4096)
        function = tf.function(mixed, jit_compile=True)
        difference = float(tf.reduce_max(tf.abs(function(values) - mixed(values))))
        try:  # of a function that XLA does not compile there is none
            machine = function.experimental_get_compiler_ir(values)(stage="optimized_hlo")
        except (ValueError, AttributeError) as error:
            return failed(f"the function was not compiled by XLA: {error}")
    fused = machine.count("fusion(")
    seen = {"device": device, "largest_difference": difference, "fusions": fused}
    if not (fused and function.experimental_get_tracing_count()):
        return failed("XLA fused nothing of the function", seen)
    if not difference <= TOLERANCE:  # catches nan
        return failed("the compiled function computes something else", seen, TOLERANCE)
    return passed(seen, TOLERANCE)


def check_xla_step(options: Options) -> Outcome:
    """Check that a training step compiled by XLA, gradients and all, is the eager one."""
    tf = import_framework("tensorflow")
    device = pick_device(options, "tensorflow")
    with tf.device("/GPU:0" if device == "cuda" else "/CPU:0"):
        inputs = tf.random.stateless_normal((ROWS, INPUTS), (1, 1))
        labels = tf.random.stateless_uniform((ROWS,), (1, 2), 0, KINDS, tf.int32)
        start = [tf.random.stateless_normal(shape, (1, 3)) / 8
                 for shape in ((INPUTS, INPUTS), (INPUTS, KINDS))]  # fmt: skip

        def trained(*, jit: bool | None) -> tuple[list[float], str]:
            weights = [tf.Variable(part) for part in start]
            step = tf.function(partial(_xla_step, tf, weights), jit_compile=jit)
            losses = [float(step(inputs, labels)) for _ in range(STEPS)]
            made = step.experimental_get_compiler_ir(inputs, labels) if jit else None
            return losses, made(stage="optimized_hlo") if made else ""

        with precise_sums(tf):
            eager, _ = trained(jit=None)
            try:  # of a function that XLA does not compile there is none
                compiled, machine = trained(jit=True)
            except (ValueError, AttributeError) as error:
                return failed(f"the step was not compiled by XLA: {error}")
    return judge_step(device, eager, compiled, {"fusions": machine.count("fusion(")})


@contextmanager
def precise_sums(tf: Any) -> Iterator[None]:
    """Switch TF32 off: its rounding depends on the order of the sums."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


def _xla_step(tf: Any, weights: list[Any], inputs: Any, labels: Any) -> Any:
    with tf.GradientTape() as tape:
        outputs = tf.matmul(tf.nn.gelu(tf.matmul(inputs, weights[0])), weights[1])
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, outputs)
        loss = tf.reduce_mean(losses)
    for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
        weight.assign_sub(gradient)
    return loss


def judge_step(
    device: str, eager: Sequence[float], compiled: Sequence[float], made: dict[str, int]
) -> Outcome:
    """Compare the losses of both trainings; `made` counts what the compiler left behind."""
    seen = {"device": device, "eager": list(eager), "compiled": list(compiled), **made}
    if not all(made.values()):
        return failed("nothing was compiled: the step ran as it was", seen)
    pairs = zip(eager, compiled, strict=True)
    if not all(math.isclose(one, other, rel_tol=DRIFT) for one, other in pairs):
        return failed("the compiled training step computes something else", seen, DRIFT)
    if not compiled[-1] < compiled[0]:
        return failed("the compiled training step does not learn", seen)
    return passed(seen, DRIFT)


def check_inductor_step(options: Options) -> Outcome:
    """Check that a compiled training step, gradients and all, takes the eager one's steps."""
    if problem := no_inductor(options):
        return problem
    import torch

    device = pick_device(options, "pytorch")
    torch.manual_seed(1)
    inputs = torch.randn(ROWS, INPUTS, device=device)
    labels = torch.randint(KINDS, (ROWS,), device=device)
    layers = (torch.nn.Linear(INPUTS, INPUTS), torch.nn.GELU(), torch.nn.Linear(INPUTS, KINDS))
    first = torch.nn.Sequential(*layers).to(device)

    def trained(change: Callable[..., Any]) -> list[float]:
        model = copy.deepcopy(first)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        loss_of = change(lambda: torch.nn.functional.cross_entropy(model(inputs), labels))
        losses = []
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss = loss_of()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        return losses

    eager = trained(lambda function: function)
    with fresh_cache() as made:
        compiled = trained(partial(torch.compile, backend="inductor", fullgraph=True))
        kernels = len(made())
    # One forward at least, and one backward.
    return judge_step(device, eager, compiled, {"kernels_after_the_first": max(0, kernels - 1)})


def check_jit(options: Options) -> Outcome:
    """Compare a function compiled by `jax.jit` with the same function run step by step."""
    jax = import_framework("jax")
    device = pick_device(options, "jax")
    with jax.default_device(jax.local_devices(backend="gpu" if device == "cuda" else "cpu")[0]):
        values = jax.numpy.linspace(-3.0, 3.0, 4096)
        compiled = jax.jit(_mixed).lower(values).compile()
        difference = float(jax.numpy.abs(compiled(values) - _mixed(values)).max())
    fused = compiled.as_text().count("fusion(")
    seen = {"device": device, "largest_difference": difference, "fusions": fused}
    if not fused:
        return failed("XLA fused nothing of the function", seen)
    if not difference <= TOLERANCE:  # catches nan
        return failed("the compiled function computes something else", seen, TOLERANCE)
    return passed(seen, TOLERANCE)


def check_grad(options: Options) -> Outcome:
    """Compare the gradient of a function with differences of its values, in float64."""
    jax = import_framework("jax")
    device = pick_device(options, "jax")
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:
        with jax.default_device(jax.local_devices(backend="gpu" if device == "cuda" else "cpu")[0]):
            values = jax.numpy.linspace(-3.0, 3.0, 64)
            found = jax.jit(jax.grad(lambda values: (_mixed(values) ** 2).sum()))(values)
            difference = _from_differences(jax, values, found)
    finally:
        jax.config.update("jax_enable_x64", before)
    seen = {"device": device, "largest_difference": difference}
    if not difference <= DIFFERENCE:  # catches nan
        return failed("the gradient is not that of the function's values", seen, DIFFERENCE)
    return passed(seen, DIFFERENCE)


def _from_differences(jax: Any, values: Any, gradient: Any) -> float:
    """Return how far a gradient is from central differences, as a part of the largest number."""
    ahead, behind = (
        jax.vmap(lambda change: (_mixed(values + change) ** 2).sum())(step * jax.numpy.eye(64))
        for step in (STEP, -STEP)
    )
    wanted = (ahead - behind) / (2 * STEP)
    return float(jax.numpy.abs(gradient - wanted).max() / jax.numpy.abs(wanted).max())


def _mixed(values: Any) -> Any:
    """Compute a few pointwise operations and a mean, by JAX."""
    jax = import_framework("jax")
    scaled = jax.numpy.sin(values * 2 + 1) * jax.numpy.exp(-jax.numpy.abs(values))
    return scaled + scaled.mean()


def check_inductor(options: Options) -> Outcome:
    """Check that a compiled function agrees with the same function run step by step."""
    if problem := no_inductor(options):
        return problem
    import torch

    device = pick_device(options, "pytorch")
    values = torch.linspace(-3, 3, 4096, device=device)
    with fresh_cache() as made:
        compiled = torch.compile(mixture, backend="inductor", fullgraph=True)(values)
        kinds = sorted({path.suffix for path in made()})
    difference = float((compiled - mixture(values)).abs().max())
    seen = {"device": device, "largest_difference": difference, "made": kinds}
    if not kinds:
        return failed("torch.compile made no machine code: the function ran as it was", seen)
    if not difference <= TOLERANCE:  # catches nan
        return failed("the compiled function computes something else", seen, TOLERANCE)
    return passed(seen, TOLERANCE)


def no_inductor(options: Options) -> Outcome | None:
    """Say why torch.compile cannot work here; None where it can."""
    import torch

    if sys.version_info >= (3, 12) and torch.__version__ < "2.4":
        return skipped("torch.compile supports Python 3.12 from PyTorch 2.4 on")
    compiler = environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        return failed("torch.compile needs a C++ compiler: install g++, or set CXX")
    device = pick_device(options, "pytorch")
    if device == "cuda" and torch.cuda.get_device_capability() < TRITON:
        return skipped("Triton, which torch.compile uses, needs compute capability 7.0")
    return None


def mixture(values: torch.Tensor) -> torch.Tensor:
    """Compute a few pointwise operations and a reduction, enough for a fused kernel."""
    scaled = (values * 2 + 1).sin() * (-values.abs()).exp()
    return scaled + scaled.sum() / len(values)


def user_cache() -> str:
    """Return the folder that a user's own programs compile to; fail where they would fail."""
    from torch._inductor.codecache import cache_dir

    folder: str = cache_dir()
    if forget := getattr(cache_dir, "cache_clear", None):  # up to PyTorch 2.3 it looks once
        forget()
    return folder


@cache
def new_folder() -> tempfile.TemporaryDirectory[str]:
    """Make one folder for this process, gone with it: inductor keeps paths of its headers."""
    return tempfile.TemporaryDirectory(prefix="selfcheck-", dir=user_cache())


@contextmanager
def fresh_cache() -> Iterator[Callable[[], list[Path]]]:
    """Let inductor compile for real; what is yielded lists the machine code that was made."""
    # Triton would take its kernel from a cache of its own.
    before = {name: environ.get(name) for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")}
    folder = new_folder().name
    environ.update(dict.fromkeys(before, folder))
    earlier = set(Path(folder).rglob("*"))

    def made() -> list[Path]:
        later = sorted(set(Path(folder).rglob("*")) - earlier)
        return [path for path in later if path.suffix in MACHINE_CODE]

    try:
        yield made
    finally:
        for name, value in before.items():
            if value is None:
                del environ[name]
            else:
                environ[name] = value
