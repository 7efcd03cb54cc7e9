"""Tokens that are streamed from a small random model, as Qwen's demo does."""

from __future__ import annotations

import accelerate
import einops
import tiktoken
import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel
from transformers_stream_generator import init_stream_support
from transformers_stream_generator.main import StreamGenerationConfig

for module in (accelerate, einops, tiktoken, transformers):
    print(module.__name__, module.__version__)
init_stream_support()
torch.manual_seed(0)
config = GPT2Config(vocab_size=64, n_positions=32, n_embd=32, n_layer=1, n_head=2)
model = GPT2LMHeadModel(config).eval()
words = einops.rearrange(torch.tensor([1, 2, 3]), "n -> 1 n")
settings = StreamGenerationConfig(max_new_tokens=4, do_sample=True, do_stream=True, pad_token_id=0)
found = [int(token) for token in model.generate(words, generation_config=settings, seed=1)]
assert 1 <= len(found) <= 4, found
model.train()
loss = model(words, labels=words).loss
loss.backward()
print("step ok", found, loss.item())
