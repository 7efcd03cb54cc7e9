"""A Gradio app with a classifier, asked over HTTP."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import gradio as gr
import torch
import torchvision

print("gradio", gr.__version__)
torch.manual_seed(0)
model = torchvision.models.resnet18(weights=None, num_classes=3).eval()


def classify(number: float) -> str:
    image = torch.full((1, 3, 64, 64), number)
    with torch.inference_mode():
        return f"class {model(image).argmax().item()}"


def ask(path: str, data: bytes | None = None) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:7860{path}", data, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read().decode()


app = gr.Interface(classify, gr.Number(), gr.Text(), api_name="classify")
app.launch(server_name="127.0.0.1", server_port=7860, prevent_thread_lock=True, quiet=True)
assert "gradio" in ask("/").lower()
called = json.loads(ask("/gradio_api/call/classify", json.dumps({"data": [0.5]}).encode()))
answer = ask(f"/gradio_api/call/classify/{called['event_id']}")
assert "class " in answer, answer
app.close()
print("step ok", answer.strip().splitlines()[-1])
