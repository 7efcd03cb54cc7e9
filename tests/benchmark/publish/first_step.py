"""The first training step: import, forward, backward, update; fed to the image's Python."""

import torch
from torch import nn

torch.manual_seed(7)
model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
loss = nn.functional.cross_entropy(model(torch.rand(64, 784)), torch.randint(10, (64,)))
loss.backward()
optimizer.step()
print(torch.__version__, float(loss.detach()))
