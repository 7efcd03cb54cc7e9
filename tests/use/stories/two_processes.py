"""Train in several processes: torchrun --nproc-per-node=2 two_processes.py."""

from __future__ import annotations

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

distributed.init_process_group("gloo")
rank, processes = distributed.get_rank(), distributed.get_world_size()
torch.manual_seed(0)
model = DistributedDataParallel(torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
torch.manual_seed(1 + rank)  # every process has data of its own
for _step in range(3):
    optimizer.zero_grad()
    x = torch.randn(8, 4)
    torch.nn.functional.mse_loss(model(x), x.sum(1, keepdim=True)).backward()
    optimizer.step()
weight = model.module.weight.detach()
weights = [torch.empty_like(weight) for _ in range(processes)]
distributed.all_gather(weights, weight)
assert processes == 2, processes
assert torch.equal(weights[0], weights[1]), weights
if rank == 0:
    print("both processes have the same weights")
distributed.destroy_process_group()
