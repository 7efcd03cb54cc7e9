"""Dynamic int8 quantization in PyTorch; it computes on the CPU."""

from __future__ import annotations

import copy
import io

import torch
from torch import nn

from ..training.learner import Answers, NotHereError
from ..training.torch_learner import TorchLearner


def quantize(learner: TorchLearner) -> tuple[int, int, Answers]:
    """Return the bytes before and after, and the int8 model's answers."""
    if not hasattr(torch.ao.quantization, "quantize_dynamic"):
        raise NotHereError(f"PyTorch {torch.__version__} has no dynamic quantization of its own")
    model = copy.deepcopy(learner.model).cpu().eval()
    small = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    inputs, truth = (part.cpu() for part in learner.test_data)
    with torch.no_grad():
        outputs = small(inputs)
    loss = float(nn.functional.cross_entropy(outputs, truth))
    answers = Answers(outputs.softmax(1).tolist(), truth.tolist(), loss)
    return stored_bytes(model), stored_bytes(small), answers


def stored_bytes(model: nn.Module) -> int:
    """Return the size of the model's checkpoint."""
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    return file.tell()
