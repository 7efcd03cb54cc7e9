"""The script itself, in PyTorch and torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from ..data.idx import SIDE, larger
from ..data.pictures import Pictures, Split
from ..models.catalogue import MOMENTUM, SPECS
from ..training.learner import NotHereError
from ..training.mnist import Course

MEAN, DEVIATION = 0.1307, 0.3081  # MNIST's, as everybody writes them


def run(root: Path, split: Split, device: str, seed: int) -> Course:
    """Load, transform, train, evaluate, save, load."""
    try:
        from torchvision import datasets, transforms
    except ModuleNotFoundError as missing:  # any other ImportError: there, and broken
        raise NotHereError(f"{missing.name} is not installed here") from missing
    torch.manual_seed(seed)
    transform = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize((MEAN,), (DEVIATION,))]
    )
    train_set, test_set = (
        datasets.MNIST(str(root), train=part, download=False, transform=transform)
        for part in (True, False)
    )
    spec = SPECS["mlp"]
    train_loader = DataLoader(train_set, batch_size=spec.batch, shuffle=True)
    test_loader = DataLoader(test_set, batch_size=256)

    model = _model().to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=spec.rate, momentum=MOMENTUM)
    criterion = nn.CrossEntropyLoss()
    losses = []
    for _ in range(spec.epochs):
        total = 0.0
        for images, labels in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(images.to(device)), labels.to(device))
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(labels)
        losses.append(total / len(train_set))

    answers = _answers(model, test_loader, device)
    truth = torch.tensor(list(split.test.labels))
    file = root / "model.pt"
    torch.save(model.state_dict(), file)
    again = _model().to(device)
    again.load_state_dict(torch.load(file, map_location=device, weights_only=True))
    return Course(
        (len(train_set), len(test_set)),
        _difference(test_set, split.test),
        all(_labels(data) == list(part.labels)
            for data, part in ((train_set, split.train), (test_set, split.test))),
        losses,
        float((answers.argmax(1) == truth).double().mean()),
        torch.equal(answers, _answers(again, test_loader, device)),
    )  # fmt: skip


def _model() -> nn.Module:
    """Make a model of layers 784-128-10."""
    return nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 128), nn.ReLU(), nn.Linear(128, 10))


def _answers(model: nn.Module, loader: Any, device: str) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return torch.cat([model(images.to(device)).cpu() for images, _ in loader])


def _labels(data: Any) -> list[int]:
    return [int(label) for _, label in data]


def _difference(data: Any, pictures: Pictures) -> float:
    """Return the largest difference of all pixels from those that were written, normalized."""
    pixels = torch.frombuffer(bytearray(b"".join(larger(pictures))), dtype=torch.uint8)
    wanted = (pixels.reshape(-1, 1, SIDE, SIDE).double() / 255 - MEAN) / DEVIATION
    seen = torch.stack([image for image, _ in data]).double()
    return float((seen - wanted).abs().max())
