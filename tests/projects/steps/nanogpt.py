"""One training step of a small GPT, and what nanoGPT's scripts import."""

from __future__ import annotations

import datasets
import numpy as np
import tiktoken
import torch
import tqdm
import wandb
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel

for module in (datasets, tiktoken, wandb):
    print(module.__name__, module.__version__)
torch.manual_seed(0)
data = np.frombuffer(b"to be, or not to be: that is the question. " * 8, dtype=np.uint8)
tokens = torch.from_numpy(data.astype(np.int64))
batch = torch.stack([tokens[start : start + 33] for start in range(0, 256, 32)])
model = GPT2LMHeadModel(GPT2Config(vocab_size=256, n_positions=64, n_embd=32, n_layer=2, n_head=2))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
losses = []
for _ in tqdm.trange(5):
    logits = model(batch[:, :-1]).logits
    loss = functional.cross_entropy(logits.reshape(-1, 256), batch[:, 1:].reshape(-1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
assert losses[-1] < losses[0], losses
wandb.init(mode="disabled").log({"loss": losses[-1]})
print("step ok", losses)
