"""Driver, GPU and framework, one test a check; without a GPU they are skipped with the reason."""

from __future__ import annotations

import pytest

from tests.gpu.report import Report

COMPUTATIONS = (
    "matmul", "convolution", "batchnorm", "attention", "lstm", "fft", "sparse", "solver",
)  # fmt: skip


@pytest.mark.parametrize("name", ["gpu.driver", "gpu.devices", "gpu.nvcc"])
def test_machine(report: Report, name: str) -> None:
    report.require(name)


@pytest.mark.parametrize("framework", ["pytorch", "tensorflow"])
@pytest.mark.parametrize(
    "what", ["framework", *COMPUTATIONS, "memory", "allreduce", "trace", "determinism"]
)
def test_framework(report: Report, framework: str, what: str) -> None:
    if framework not in report.frameworks:
        pytest.skip(f"the image has no {framework}")
    report.require(f"gpu.{what}.{framework}")


@pytest.mark.parametrize(
    ("framework", "name"),
    [
        ("pytorch", "compile.inductor"),
        ("tensorflow", "compile.xla"),
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


def test_every_gpu_check_of_the_image_has_a_test(report: Report) -> None:
    """A check that is added to selfcheck must not go unnoticed here."""
    known = {"gpu.driver", "gpu.devices", "gpu.nvcc"} | {
        f"gpu.{what}.{framework}"
        for framework in report.frameworks
        for what in ("framework", *COMPUTATIONS, "memory", "allreduce", "trace", "determinism")
    }
    assert set(report.group("gpu")) == known
