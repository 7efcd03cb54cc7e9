"""Driver, GPU and framework, one test a check; without a GPU they are skipped with the reason."""

from __future__ import annotations

import pytest

from tests.gpu.report import Report
from tests.image.box import Box

COMPUTATIONS = (
    "matmul", "convolution", "batchnorm", "attention", "lstm", "fft", "sparse", "solver", "svd",
)  # fmt: skip


@pytest.mark.parametrize("name", ["gpu.driver", "gpu.devices", "gpu.nvcc"])
def test_machine(report: Report, name: str) -> None:
    report.require(name)


@pytest.mark.parametrize("framework", ["pytorch", "tensorflow"])
@pytest.mark.parametrize(
    "what", ["framework", *COMPUTATIONS, "each", "memory", "allreduce", "trace", "determinism"]
)
def test_framework(report: Report, framework: str, what: str) -> None:
    if framework not in report.frameworks:
        pytest.skip(f"the image has no {framework}")
    report.require(f"gpu.{what}.{framework}")


@pytest.mark.parametrize(
    ("framework", "name"),
    [
        ("pytorch", "gpu.graph.pytorch"),
        ("pytorch", "compile.inductor"),
        ("pytorch", "compile.step.pytorch"),
        ("tensorflow", "compile.xla"),
        ("tensorflow", "compile.step.tensorflow"),
        ("pytorch", "distributed.gloo.pytorch"),
        ("pytorch", "distributed.nccl.pytorch"),
        ("tensorflow", "distributed.mirrored.tensorflow"),
        ("tensorflow", "distributed.workers.tensorflow"),
    ],
)
def test_compilers_and_processes(report: Report, framework: str, name: str) -> None:
    if framework not in report.frameworks:
        pytest.skip(f"the image has no {framework}")
    report.require(name)


ON_THE_PROCESSOR = """
import json, sys
sys.path.insert(0, "/opt/wheelyard")
from selfcheck.frameworks import import_framework
framework = {framework!r}
module = import_framework(framework)
from importlib import import_module
from selfcheck.frameworks import MODULES
from selfcheck.gpu.compare import TOLERANCES, compare
from selfcheck.gpu.repeating import check_determinism
side = import_module("selfcheck.gpu." + MODULES[framework] + "_ops")
found = {{what: compare(side, what, "cpu").status for what in side.KINDS}}
found["determinism"] = check_determinism(framework, "cpu").status
if framework == "pytorch":  # from the host to itself, without pinning
    from selfcheck.gpu import torch_bandwidth
    ways = {{**torch_bandwidth.up_and_down("cpu"), "over": torch_bandwidth.between("cpu", "cpu")}}
    assert all(rate > 0 for runs in ways.values() for rate in runs), ways
if framework == "pytorch":  # no CUDA graph: that Python runs again must be seen
    from selfcheck.gpu.compare import judge_graph
    from selfcheck.gpu.torch_use import STEPS, graph_losses
    eager, again, calls = graph_losses(lambda step: step, "cpu")
    assert calls == STEPS and judge_graph(eager, again, 0).status == "pass", (eager, again)
    assert judge_graph(eager, again, calls).status == "fail"
    assert judge_graph(*graph_losses(lambda step: lambda: None, "cpu")).status == "fail"
low = {{what: side.difference(what, "bfloat16", "cpu") / TOLERANCES["bfloat16"]
       for what in ("matmul", "convolution", "attention")}}
right = side.OPERATIONS["matmul"]
wide = module.float64
side.OPERATIONS["matmul"] = lambda a, b: right(a, b) * (1 if a.dtype == wide else 1.001)
if framework == "tensorflow":  # that NCCL is asked, though there is one GPU only
    from selfcheck.gpu.tensorflow_use import nccl_sums
    graph = nccl_sums(["/GPU:0"]).get_concrete_function().graph
    assert [node.device for node in graph.get_operations() if node.type == "NcclAllReduce"]
print(json.dumps([found, low, compare(side, "matmul", "cpu").reason]))
"""


@pytest.mark.parametrize("framework", ["pytorch", "tensorflow"])
def test_what_a_gpu_is_asked_runs_on_the_processor_too(box: Box, framework: str) -> None:
    """The same code, the CPU against itself: it says that the checks work, nothing about a GPU."""
    if framework not in box.image.cell["framework"].split("+"):
        pytest.skip(f"the image has no {framework}")
    found, low, wrong = box.python(ON_THE_PROCESSOR.format(framework=framework))
    assert found == dict.fromkeys((*COMPUTATIONS, "determinism"), "pass")
    assert all(0 < part < 1 for part in low.values()), low
    assert wrong == "matmul in float32 differs from the CPU's"


def test_every_gpu_check_of_the_image_has_a_test(report: Report) -> None:
    """A check that is added to selfcheck must not go unnoticed here."""
    known = {"gpu.driver", "gpu.devices", "gpu.nvcc"} | {
        f"gpu.{what}.{framework}"
        for framework in report.frameworks
        for what in (
            "framework",
            *COMPUTATIONS,
            "each",
            "memory",
            "allreduce",
            "trace",
            "determinism",
            *(("graph",) if framework == "pytorch" else ()),
        )
    }
    assert set(report.group("gpu")) == known
