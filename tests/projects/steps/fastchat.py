"""A chat server of FastAPI and uvicorn that streams tokens of a small LLaMA, asked over HTTP."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Iterator

import accelerate
import fastapi
import gradio
import markdown2
import prompt_toolkit
import requests
import rich
import sentencepiece
import tokenizers
import torch
import uvicorn
import wandb
from fastapi.responses import StreamingResponse
from transformers import LlamaConfig, LlamaForCausalLM

for module in (accelerate, gradio, prompt_toolkit, sentencepiece, tokenizers, wandb):
    print(module.__name__, module.__version__)
torch.manual_seed(0)
model = LlamaForCausalLM(
    LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
).eval()
app = fastapi.FastAPI()


@app.post("/worker_generate_stream")
def stream(words: list[int]) -> StreamingResponse:
    def tokens() -> Iterator[bytes]:
        found = torch.tensor([words])
        for _ in range(3):
            with torch.inference_mode():
                found = torch.cat([found, model(found).logits[:, -1:].argmax(-1)], 1)
            yield json.dumps(found[0].tolist()).encode() + b"\0"

    return StreamingResponse(tokens())


server = uvicorn.Server(uvicorn.Config(app, port=21002, log_level="warning"))
threading.Thread(target=server.run, daemon=True).start()
while not server.started:
    time.sleep(0.1)
address = "http://127.0.0.1:21002"
answer = requests.post(f"{address}/worker_generate_stream", json=[1, 2], timeout=60)
parts = [json.loads(part) for part in answer.content.split(b"\0") if part]
assert [len(part) for part in parts] == [3, 4, 5], parts
with urllib.request.urlopen(f"{address}/openapi.json", timeout=60) as opened:
    assert "worker_generate_stream" in opened.read().decode()
assert "<strong>" in markdown2.markdown("**x**")
rich.print("[bold]served[/bold]")
print("step ok", parts[-1])
