"""ResNet-50 and GPT-2 in PyTorch, with data of chance and an optimizer."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ..gpu.torch_ops import AMPERE
from ..machine import processor
from ..models.large import Gpt2, ResNet, stages
from ..training.torch_learner import make_scaler


class Bottleneck(nn.Module):  # type: ignore[misc]
    """1 x 1, 3 x 3 and 1 x 1 convolutions around a residual connection."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width),
        )  # fmt: skip
        same = stride == 1 and inputs == 4 * width
        self.around = nn.Identity() if same else nn.Sequential(
            nn.Conv2d(inputs, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
        )  # fmt: skip

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Convolve: (N, inputs, H, W) -> (N, 4 x width, H / stride, W / stride)."""
        return functional.relu(self.body(images) + self.around(images))


def resnet(shape: ResNet) -> nn.Module:
    """Make the ResNet: (N, 3, side, side) -> (N, classes)."""
    blocks = stages(shape)
    return nn.Sequential(
        nn.Conv2d(3, shape.width, 7, 2, 3, bias=False), nn.BatchNorm2d(shape.width), nn.ReLU(),
        nn.MaxPool2d(3, 2, 1), *(Bottleneck(*block) for block in blocks),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * blocks[-1][1], shape.classes),
    )  # fmt: skip


class Layer(nn.Module):  # type: ignore[misc]
    """Causal self-attention and a feed-forward layer, norms in front."""

    def __init__(self, shape: Gpt2) -> None:
        super().__init__()
        width, self.heads = shape.width, shape.heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.merge = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width)
        )

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        """Apply the layer: (N, T, width) -> the same."""
        parts = self.project(self.first(words)).chunk(3, dim=-1)
        shape = (*words.shape[:2], self.heads, -1)
        query, key, value = (part.reshape(shape).transpose(1, 2) for part in parts)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        words = words + self.merge(mixed.transpose(1, 2).flatten(2))
        result: torch.Tensor = words + self.feed(self.second(words))
        return result


class Decoder(nn.Module):  # type: ignore[misc]
    """(N, T) words -> (N, T, vocabulary)."""

    def __init__(self, shape: Gpt2) -> None:
        super().__init__()
        self.words = nn.Embedding(shape.vocabulary, shape.width)
        self.places = nn.Embedding(shape.tokens, shape.width)
        for table in (self.words, self.places):
            nn.init.normal_(table.weight, std=0.02)
        self.layers = nn.Sequential(*(Layer(shape) for _ in range(shape.layers)))
        self.last = nn.LayerNorm(shape.width)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        """Return logits of the next word at every place, by the embedding itself."""
        places = torch.arange(words.shape[1], device=words.device)
        hidden = self.last(self.layers(self.words(words) + self.places(places)))
        return functional.linear(hidden, self.words.weight)


class Large:
    """A model in training on one batch of chance."""

    def __init__(self, shape: ResNet | Gpt2, device: str) -> None:
        torch.manual_seed(1)
        self.device, on_gpu = torch.device(device), device != "cpu"
        self.name = torch.cuda.get_device_name() if on_gpu else processor()
        self.type = torch.float32
        if on_gpu:
            new = torch.cuda.get_device_capability() >= AMPERE
            self.type = torch.bfloat16 if new else torch.float16
            torch.cuda.reset_peak_memory_stats()
        with self.device:
            self.model = make(shape)
            self.inputs, self.truth = data(shape)
        if isinstance(shape, ResNet):  # tensor cores take channels last
            self.model = self.model.to(memory_format=torch.channels_last)
            self.inputs = self.inputs.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=shape.rate)
        self.scaler = make_scaler(self.device.type, enabled=self.type == torch.float16)

    def step(self) -> torch.Tensor:
        """Take one optimizer step; return the loss without waiting for it."""
        self.optimizer.zero_grad(set_to_none=True)
        kind, mixed = self.device.type, self.type != torch.float32
        with torch.autocast(kind, self.type if mixed else torch.bfloat16, enabled=mixed):
            outputs = self.model(self.inputs)
            loss = functional.cross_entropy(outputs.flatten(0, -2), self.truth.flatten())
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach()

    def wait(self) -> None:
        """Wait until the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def memory(self) -> int:
        """Return the most bytes of the GPU that were in use; 0 on a processor."""
        return int(torch.cuda.max_memory_allocated()) if self.device.type == "cuda" else 0


def make(shape: ResNet | Gpt2) -> nn.Module:
    """Make the model with fresh weights."""
    return resnet(shape) if isinstance(shape, ResNet) else Decoder(shape)


def parameters(shape: ResNet | Gpt2) -> int:
    """Count the model's weights without making any of them."""
    with torch.device("meta"):
        return sum(weight.numel() for weight in make(shape).parameters())


def data(shape: ResNet | Gpt2) -> tuple[Any, Any]:
    """Make one batch: pictures and kinds, or words and the next words."""
    if isinstance(shape, ResNet):
        images = torch.rand(shape.batch, 3, shape.side, shape.side)
        return images, torch.randint(shape.classes, (shape.batch,))
    words = torch.randint(shape.vocabulary, (shape.batch, shape.tokens + 1))
    return words[:, :-1], words[:, 1:]
