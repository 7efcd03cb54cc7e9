"""Train in the folder that is mounted at /workspace, and leave a checkpoint there."""

from __future__ import annotations

from pathlib import Path

import torch

model = torch.nn.Linear(4, 1)
optimizer = torch.optim.AdamW(model.parameters())
model(torch.ones(2, 4)).sum().backward()
optimizer.step()
checkpoint = Path("checkpoints/step-1.pt")
checkpoint.parent.mkdir(exist_ok=True)
torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, checkpoint)
kept = torch.load(checkpoint, weights_only=True)
model.load_state_dict(kept["model"])
optimizer.load_state_dict(kept["optimizer"])
print("kept in", checkpoint)
