"""Train a small classifier, on a GPU if there is one."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import nn


def main(steps: int = 50) -> None:
    """Train on images that are made here, and print the loss."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2)).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(steps):
        images = torch.rand(128, 1, 8, 8, device=device)
        labels = (images.mean(dim=(1, 2, 3)) > 0.5).long()
        loss = nn.functional.cross_entropy(model(rearrange(images, "b c h w -> b (c h w)")), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 9:
            print(f"step {step + 1}: loss {loss.item():.3f} on {device}", flush=True)


if __name__ == "__main__":
    main()
