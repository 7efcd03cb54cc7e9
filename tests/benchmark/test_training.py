"""The benchmark models train in every image: one test a model, and what is written beside."""

from __future__ import annotations

import math
import struct

import pytest

from tests.gpu.report import Report
from tests.image.box import Box

MODELS = (
    "mlp", "cnn-9216", "cnn-6272", "cnn-2304", "lstm", "transformer", "binary", "regression",
    "bert",
)  # fmt: skip
SCORES = {"loss", "accuracy", "recall", "f1", "roc_auc", "kappa"}
NUMBERS = {"loss", "mse", "rmse", "pearson"}
TENSORBOARD = """
import glob, json
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
found = {}
for path in glob.glob("/tmp/curves/*/mlp"):
    events = EventAccumulator(path)
    events.Reload()
    found[path] = {tag: [p.value for p in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
print(json.dumps(found))
"""


def in_image(report: Report, framework: str, model: str) -> None:
    if framework not in report.frameworks:
        pytest.skip(f"the image has no {framework}")
    if (framework, model) == ("tensorflow", "bert"):
        pytest.skip("Transformers has no TensorFlow models any more")


@pytest.mark.parametrize("framework", ["pytorch", "tensorflow"])
@pytest.mark.parametrize("model", MODELS)
def test_the_model_learns(report: Report, framework: str, model: str) -> None:
    in_image(report, framework, model)
    seen = report.require(f"train.{model}.{framework}")["seen"]
    assert set(seen["scores"]) == (NUMBERS if model == "regression" else SCORES)
    assert all(map(math.isfinite, (*seen["losses"], *seen["scores"].values())))
    assert seen["losses"][-1] < seen["losses"][0]
    for figure in ("samples_per_second", "steps_per_second", "tflops", "first_step_seconds"):
        assert seen[figure] >= 0, figure
    assert seen["peak_memory_mib"] > 1


@pytest.mark.parametrize("framework", ["pytorch", "tensorflow"])
@pytest.mark.parametrize("what", ["seed", "distillation", "quantization", "loader"])
def test_what_is_built_on_the_models(report: Report, framework: str, what: str) -> None:
    in_image(report, framework, what)
    if (framework, what) == ("tensorflow", "loader"):
        pytest.skip("TensorFlow loads data in threads")
    report.require(f"train.{what}.{framework}")


@pytest.mark.parametrize("framework", ["pytorch", "tensorflow"])
@pytest.mark.parametrize("model", ["matmul", *MODELS])
def test_the_throughput_is_measured(report: Report, framework: str, model: str) -> None:
    in_image(report, framework, model)
    seen = report.require(f"bench.{model}.{framework}")["seen"]
    assert len(seen["float32"]["runs"]) >= 5
    assert min(seen["float32"]["runs"]) > 0


@pytest.mark.flavour("devel")
def test_tensorboard_reads_the_curves(box: Box) -> None:
    result = box.dev.run("selfcheck --json --model mlp --logdir /tmp/curves train")
    assert result.rc == 0, result.stdout
    found = box.python(TENSORBOARD)
    assert len(found) == len(box.image.cell["framework"].split("+"))
    for curves in found.values():
        assert len(curves["train/loss"]) == 5
        assert curves["train/loss"][-1] < curves["train/loss"][0]
        assert 0 < curves["test/accuracy"][0] <= 1


def put_mnist(box: Box) -> None:
    """Twenty striped pictures in /tmp: enough to see that they are what is trained on."""
    for part, count in (("train", 20), ("t10k", 10)):
        labels = bytes(number % 10 for number in range(count))
        pixels = b"".join(bytes([25 * label] * 784) for label in labels)
        images = struct.pack(">4I", 0x803, count, 28, 28) + pixels
        box.put(f"/tmp/{part}-images-idx3-ubyte", images)
        box.put(f"/tmp/{part}-labels-idx1-ubyte", struct.pack(">2I", 0x801, count) + labels)


def test_a_folder_of_mnist_is_taken_instead_of_the_digits(box: Box) -> None:
    put_mnist(box)
    result = box.dev.run("selfcheck --json --model mlp --data /tmp train")
    assert result.rc == 0, result.stdout
    assert '"data": "MNIST"' in result.stdout
    assert '"samples": 20' in result.stdout


def test_a_damaged_data_file_is_wrong_use(box: Box) -> None:
    put_mnist(box)
    box.put("/tmp/train-images-idx3-ubyte", b"\x00\x00\x08\x03 cut off")
    result = box.dev.run("selfcheck --data /tmp train")
    assert result.rc == 2
    assert "train-images-idx3-ubyte is not an idx file" in result.stderr
    box.dev.run("rm -f /tmp/*-ubyte")


def test_a_read_only_folder_is_named(box: Box) -> None:
    result = box.dev.run("selfcheck --model mlp --logdir /proc/curves train")
    assert result.rc == 1
    assert "cannot write /proc/curves" in result.stdout or "No such file" in result.stdout


ASK = """
import json, sys
sys.path.insert(0, "/opt/wheelyard")
import torch
from torch.utils.flop_counter import FlopCounterMode
from selfcheck.models.catalogue import SPECS
from selfcheck.models.torch_models import CarriedLSTM, make_model
counted = {}
for name in ("mlp", "cnn-9216", "cnn-6272", "cnn-2304", "binary", "regression"):
    model, spec = make_model(SPECS[name]).eval(), SPECS[name]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, *spec.shape))
    with FlopCounterMode(display=False) as step:
        model(torch.zeros(1, *spec.shape)).sum().backward()
    counted[name] = [[spec.operations, spec.training_operations],
                     [counter.get_total_flops(), step.get_total_flops()]]
parts, whole = CarriedLSTM(segments=2), CarriedLSTM(segments=1)
parts.load_state_dict(whole.state_dict())
rows = torch.rand(4, 28, 28)
print(json.dumps([counted, float((parts(rows) - whole(rows)).abs().max())]))
"""


@pytest.mark.framework("pytorch")
def test_operations_are_those_that_pytorch_counts_and_state_is_carried(box: Box) -> None:
    counted, difference = box.python(ASK)
    assert {name: stated for name, (stated, _) in counted.items()} == {
        name: seen for name, (_, seen) in counted.items()
    }
    assert difference < 1e-6
