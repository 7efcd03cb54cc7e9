"""Build a C++ extension of PyTorch, and call it."""

from __future__ import annotations

import torch
from torch.utils.cpp_extension import load_inline

SOURCE = "torch::Tensor doubled(torch::Tensor x) { return 2 * x; }"
module = load_inline("doubling", SOURCE, functions=["doubled"])
assert torch.equal(module.doubled(torch.arange(3)), torch.tensor([0, 2, 4]))
print("the extension computes")
