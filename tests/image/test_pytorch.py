"""PyTorch inside the image: it imports from bytecode, trains, and compiles."""

from __future__ import annotations

import math

import pytest

from tests.image.box import Box
from tests.image.test_cuda import not_passed, selfcheck

pytestmark = pytest.mark.framework("pytorch")

# Bit 0 of a .pyc's flags: the source's hash stands in it, not its time (PEP 552).
BYTECODE = """
import glob, importlib.util, json, sys
import torch, numpy
stale, missing, timed, count = [], [], [], 0
for module in list(sys.modules.values()):
    source = getattr(module, "__file__", None) or ""
    if not source.startswith("/opt/venv/") or not source.endswith(".py"): continue
    count += 1
    try:
        with open(importlib.util.cache_from_source(source), "rb") as file: head = file.read(16)
    except FileNotFoundError:
        missing.append(source); continue
    if head[:4] != importlib.util.MAGIC_NUMBER: stale.append(source)
    elif not head[4] & 1: timed.append(source)
    elif head[8:16] != importlib.util.source_hash(open(source, "rb").read()): stale.append(source)
print(json.dumps([count, missing, stale, timed]))
"""
# The seeds' model on data of its own, so that this shares nothing with selfcheck.
TRAIN = """
import json, torch
torch.manual_seed(0)
labels = torch.arange(640) % 10
images = torch.rand(10, 784)[labels] + torch.randn(640, 784) / 4  # ten patterns under noise
model = torch.nn.Sequential(torch.nn.Linear(784, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
losses = []
torch.set_num_threads(1)
for epoch in range(5):
    for start in range(0, 640, 64):
        optimizer.zero_grad()
        batch = slice(start, start + 64)
        loss = torch.nn.functional.cross_entropy(model(images[batch]), labels[batch])
        loss.backward(); optimizer.step()
        losses.append(loss.item())
print(json.dumps(losses))
"""
COMPILE = """
import json, torch
def function(x): return torch.relu(x @ x.T + 1).sum(1).softmax(0)
x = torch.linspace(-1, 1, 64).reshape(8, 8)
print(json.dumps([function(x).tolist(), torch.compile(function)(x).tolist()]))
"""
# As tutorials begin: a data set class, transforms, a loader; and an operator of its own library.
PICTURES = """
import json, torch, torchvision
from torchvision import datasets, transforms
pictures = datasets.FakeData(16, (3, 32, 32), 10, transforms.Compose(
    [transforms.Resize(28), transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))]))
batch, labels = next(iter(torch.utils.data.DataLoader(pictures, batch_size=16)))
boxes = torch.tensor([[0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30.0]])
kept = torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5)
image = torchvision.io.decode_image(torchvision.io.encode_png(torch.zeros(3, 4, 5).byte()))
print(json.dumps([list(batch.shape), kept.tolist(), list(image.shape)]))
"""
SOUND = """
import json, torch, torchaudio
tone = torch.sin(torch.arange(16000) * 2 * torch.pi * 440 / 16000)
print(json.dumps(list(torchaudio.transforms.MelSpectrogram(n_mels=40)(tone).shape)))
"""
EVENTS = """
import json, os, tempfile
from torch.utils.tensorboard import SummaryWriter
with tempfile.TemporaryDirectory() as folder:
    with SummaryWriter(folder) as writer: writer.add_scalar("loss", 0.5, 1)
    print(json.dumps([os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder)]))
"""
DATALOADER = """
import json, torch
from torch.utils.data import DataLoader, TensorDataset
if __name__ == "__main__":
    data = TensorDataset(torch.arange(4_000_000.).reshape(4, -1))
    print(json.dumps([batch[0].shape[1] for batch in DataLoader(data, num_workers=2)]))
"""


def test_it_imports_with_the_cells_versions(box: Box) -> None:
    version, cuda = box.python(
        "import json, torch; print(json.dumps([torch.__version__, torch.version.cuda]))"
    )
    assert version.split("+")[0] == box.image.cell["framework_version"].split("+")[0]
    assert cuda == (box.image.cell["cuda"] if box.image.has_cuda else None)


def test_importing_it_says_nothing(box: Box) -> None:
    """A warning at import (NumPy's ABI, a missing module) is a fault of the lock."""
    result = box.dev.run("python -W error -c 'import torch, numpy; torch.zeros(1).numpy()'")
    assert (result.rc, result.stdout, result.stderr) == (0, "", "")


def test_every_imported_module_has_valid_hash_based_bytecode(box: Box) -> None:
    count, missing, stale, timed = box.python(BYTECODE)
    assert count > 400
    assert (missing, stale, timed) == ([], [], [])


def test_a_small_training_loop_learns(box: Box) -> None:
    losses = box.python(TRAIN)
    assert all(map(math.isfinite, losses))
    assert losses[0] > 2  # ten classes: guessing costs ln 10 = 2.3
    assert sum(losses[-10:]) / 10 < 0.2


def test_selfcheck_trains_the_benchmark_model(box: Box) -> None:
    checks = selfcheck(box, "train", options="--model mlp")
    assert "train.mlp.pytorch" in checks
    assert not_passed(checks) == {}
    losses = checks["train.mlp.pytorch"]["seen"]["losses"]
    assert losses == sorted(losses, reverse=True)


def test_torch_compile_makes_the_same_numbers(box: Box) -> None:
    plain, compiled = box.python(COMPILE)
    assert compiled == pytest.approx(plain, abs=1e-5)


def test_selfcheck_compiles(box: Box) -> None:
    checks = selfcheck(box, "compile")
    assert "compile.inductor" in checks
    assert not_passed(checks) == {}


def test_loader_processes_share_memory(box: Box) -> None:
    box.put("/tmp/loader.py", DATALOADER.encode())
    assert box.lines("python /tmp/loader.py; rm -f /tmp/loader.py") == [
        "[1000000, 1000000, 1000000, 1000000]"
    ]


def test_torchvision_is_the_one_for_this_torch(box: Box, pins: dict[str, str]) -> None:
    if "torchvision" not in pins:
        pytest.skip("upstream has none for this torch and Python")
    assert box.python(PICTURES) == [[16, 3, 28, 28], [0, 2], [3, 4, 5]]


def test_torchaudio_is_the_one_for_this_torch(box: Box, pins: dict[str, str]) -> None:
    if "torchaudio" not in pins:
        pytest.skip("upstream has none for this torch and Python")
    assert box.python(SOUND) == [40, 81]


def test_tensorboard_is_there_to_write_to(box: Box) -> None:
    (size,) = box.python(EVENTS)
    assert size > 0
