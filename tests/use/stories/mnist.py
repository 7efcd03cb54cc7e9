"""Train on MNIST by torchvision's own class, read from real idx files that are made here."""

from __future__ import annotations

import struct
from pathlib import Path

import torch
from torchvision import datasets, transforms


def write_idx(path: Path, content: torch.Tensor) -> None:
    """Write bytes as MNIST's files have them: type, dimensions, then the numbers."""
    header = struct.pack(">BBBB", 0, 0, 8, content.dim()) + struct.pack(
        f">{content.dim()}I", *content.shape
    )
    path.write_bytes(header + content.to(torch.uint8).numpy().tobytes())


def write_digits(folder: Path, name: str, count: int) -> None:
    """Each digit is a bright bar in a row of its own, with noise around it."""
    labels = torch.arange(count) % 10
    images = torch.randint(0, 60, (count, 28, 28))
    for image, label in zip(images, labels, strict=True):
        image[4 + 2 * int(label), 4:24] = 250
    write_idx(folder / f"{name}-images-idx3-ubyte", images)
    write_idx(folder / f"{name}-labels-idx1-ubyte", labels)


torch.manual_seed(0)
raw = Path("data/MNIST/raw")
raw.mkdir(parents=True, exist_ok=True)
write_digits(raw, "train", 600)
write_digits(raw, "t10k", 100)

to_tensor = transforms.Compose([transforms.ToTensor(), transforms.Normalize(0.5, 0.5)])
train = datasets.MNIST("data", train=True, transform=to_tensor)
test = datasets.MNIST("data", train=False, transform=to_tensor)
batches = torch.utils.data.DataLoader(train, batch_size=50, shuffle=True, num_workers=2)
model = torch.nn.Sequential(
    torch.nn.Conv2d(1, 4, 3, padding=1),
    torch.nn.ReLU(),
    torch.nn.Flatten(),
    torch.nn.Linear(4 * 28 * 28, 10),
)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for _epoch in range(2):
    for images, labels in batches:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
torch.save(model.state_dict(), "mnist.pt")

model.load_state_dict(torch.load("mnist.pt", weights_only=True))
images, labels = next(iter(torch.utils.data.DataLoader(test, batch_size=100)))
with torch.no_grad():
    right = (model(images).argmax(1) == labels).float().mean().item()
assert right > 0.9, f"{right:.0%} of the digits are right"
print(f"{right:.0%} of the digits are right")
