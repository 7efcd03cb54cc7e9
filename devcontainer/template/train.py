"""Train a small classifier, with checkpoints and curves. Replace `make_data` and `make_model`."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.tensorboard import SummaryWriter

CHECKPOINT = Path("checkpoints", "last.pt")


def make_data(samples: int = 1024) -> TensorDataset:
    """Points on a plane, and whether they lie inside a ring."""
    points = torch.rand(samples, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    radius = points.norm(dim=1)
    return TensorDataset(points, ((radius > 0.4) & (radius < 0.8)).long())


def make_model() -> nn.Module:
    """A network with two hidden layers."""
    return nn.Sequential(
        nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2)
    )


def save(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, epoch: int) -> None:
    """Write beside the place and rename: a run that is killed leaves the old checkpoint whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}
    torch.save(state, partial)
    partial.replace(path)


def train(
    epochs: int, checkpoint: Path, *, resume: bool = False, logdir: str = "runs"
) -> list[float]:
    """Train and return the mean loss of each epoch."""
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = make_model().to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    first = 0
    if resume and checkpoint.exists():
        state = torch.load(checkpoint, map_location=device)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["epoch"] + 1
    loader = DataLoader(make_data(), batch_size=64, shuffle=True, num_workers=2)
    losses = []
    with SummaryWriter(logdir) as curves:
        for epoch in range(first, first + epochs):
            losses.append(run_epoch(model, optimizer, loader, device))
            curves.add_scalar("loss", losses[-1], epoch)
            save(checkpoint, model, optimizer, epoch)
            print(f"epoch {epoch}: loss {losses[-1]:.4f}")
    return losses


def run_epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, loader: DataLoader, device: str
) -> float:
    """One pass over the data; returns the mean loss."""
    total = 0.0
    for inputs, labels in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs.to(device)), labels.to(device))
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(loader)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    args = parser.parse_args()
    train(args.epochs, CHECKPOINT, resume=args.resume)
