"""A training step in a workspace: the loss falls, and a checkpoint can be read back."""

from pathlib import Path

import torch

torch.manual_seed(0)
model = torch.nn.Linear(8, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
inputs, wanted = torch.randn(64, 8), torch.randn(64, 1)
losses = []
for _ in range(5):
    optimizer.zero_grad()
    loss = torch.nn.functional.mse_loss(model(inputs), wanted)
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
checkpoint = Path("checkpoints", "step.pt")
checkpoint.parent.mkdir(exist_ok=True)
torch.save(model.state_dict(), checkpoint)
model.load_state_dict(torch.load(checkpoint))
print("falls" if losses == sorted(losses, reverse=True) else losses)
