"""Train a step of a compiled model: Inductor makes C++ of it, and the compiler a library."""

from __future__ import annotations

import torch

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.GELU(), torch.nn.Linear(16, 1))
x = torch.randn(32, 8)
expected = model(x)
compiled = torch.compile(model)
torch.testing.assert_close(compiled(x), expected)
compiled(x).square().mean().backward()
assert all(parameter.grad is not None for parameter in model.parameters())
print("the compiled model computes the same")
