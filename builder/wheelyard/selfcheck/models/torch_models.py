"""The benchmark models in PyTorch: float32 (tokens: int64) in, logits or numbers out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ..models.catalogue import (
    HEADS,
    HIDDEN,
    INNER,
    LAYERS,
    SEGMENTS,
    TOKENS,
    VOCABULARY,
    WIDTH,
    Spec,
)


def make_model(spec: Spec, *, dropout: bool = True) -> nn.Module:
    """Make a model with random weights; without dropout, two processes compute the same."""
    model = BUILDERS[spec.name]()
    if not dropout:
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    return model


def mlp(outputs: int = 10) -> nn.Module:
    """Make a model of layers 784-128-outputs."""
    return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, outputs))


def cnn_9216() -> nn.Module:
    """Make a CNN: (N, 1, 28, 28) -> (N, 10); 64 x 12 x 12 = 9216."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Dropout(0.25), nn.Flatten(),
        nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10),
    )  # fmt: skip


def cnn_6272() -> nn.Module:
    """Make a CNN: (N, 3, 28, 28) -> (N, 10); 128 x 7 x 7 = 6272."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 128, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(6272, 1000), nn.ReLU(), nn.Linear(1000, 10),
    )  # fmt: skip


def cnn_2304() -> nn.Module:
    """Make a CNN: (N, 3, 32, 32) -> (N, 10); 64 x 6 x 6 = 2304."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(2304, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


def cnn_norm() -> nn.Module:
    """Make a CNN with batch norm: (N, 1, 28, 28) -> (N, 10); 32 x 7 x 7 = 1568."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1568, 10),
    )  # fmt: skip


class LastOutput(nn.Module):  # type: ignore[misc]
    """(N, 28, 28) -> (N, 10): a picture read row by row, by a layer of this kind."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.layer = kind(28, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, 10)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the logits after the last row."""
        logits: torch.Tensor = self.head(self.layer(rows)[0][:, -1])
        return logits


class CarriedLSTM(nn.Module):  # type: ignore[misc]
    """(N, 28, 28) -> (N, 10): a picture read row by row, in segments that share one state."""

    def __init__(self, segments: int = SEGMENTS) -> None:
        super().__init__()
        self.segments = segments
        self.lstm = nn.LSTM(28, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, 10)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the logits after the last segment."""
        state = None
        for segment in rows.chunk(self.segments, dim=1):
            outputs, state = self.lstm(segment, state)
        logits: torch.Tensor = self.head(outputs[:, -1])
        return logits


class Block(nn.Module):  # type: ignore[misc]
    """Causal self-attention and a feed-forward layer, each around a residual connection."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.project, self.merge = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.feed = nn.Sequential(nn.Linear(WIDTH, INNER), nn.GELU(), nn.Linear(INNER, WIDTH))

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        """Apply the block: (N, T, WIDTH) -> the same."""
        shape = (*words.shape[:2], HEADS, WIDTH // HEADS)
        parts = self.project(self.before(words)).chunk(3, dim=-1)
        query, key, value = (part.reshape(shape).transpose(1, 2) for part in parts)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        words = words + self.merge(mixed.transpose(1, 2).flatten(2))
        added: torch.Tensor = self.feed(self.between(words))
        return words + added


class LanguageModel(nn.Module):  # type: ignore[misc]
    """(N, T) pixels as words -> (N, T, VOCABULARY): what the next pixel might be."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, WIDTH)
        nn.init.normal_(self.words.weight, std=WIDTH**-0.5)  # as large as the places, once scaled
        self.register_buffer("places", positional_encoding(TOKENS, WIDTH), persistent=False)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return logits for every place."""
        words = self.words(pixels) * math.sqrt(WIDTH) + self.places[: pixels.shape[1]]
        logits: torch.Tensor = self.head(self.blocks(words))
        return logits


def positional_encoding(places: int, width: int) -> torch.Tensor:
    """Compute sines and cosines of Vaswani et al. (2017), section 3.5: shape (places, width)."""
    place = torch.arange(places, dtype=torch.float32).unsqueeze(1)
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    return torch.stack((torch.sin(place * rates), torch.cos(place * rates)), dim=2).flatten(1)


def binary() -> nn.Module:
    """Make a model of one logit: (N, 10) -> (N, 1)."""
    return nn.Sequential(nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 1))


class Bert(nn.Module):  # type: ignore[misc]
    """(N, TOKENS) -> (N, 10): BERT with fresh weights, nothing is downloaded."""

    def __init__(self) -> None:
        from transformers import BertConfig, BertForSequenceClassification

        super().__init__()
        config = BertConfig(
            vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=LAYERS,
            num_attention_heads=HEADS, intermediate_size=INNER, max_position_embeddings=TOKENS,
            num_labels=10, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
            initializer_range=0.1,  # the usual 0.02 is for layers ten times as wide
        )  # fmt: skip
        self.bert = BertForSequenceClassification(config)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        logits: torch.Tensor = self.bert(
            input_ids=pixels, attention_mask=torch.ones_like(pixels)
        ).logits
        return logits


BUILDERS: dict[str, Callable[[], Any]] = {
    "mlp": mlp,
    "cnn-9216": cnn_9216,
    "cnn-6272": cnn_6272,
    "cnn-2304": cnn_2304,
    "lstm": CarriedLSTM,
    "gru": lambda: LastOutput(nn.GRU),
    "rnn": lambda: LastOutput(nn.RNN),
    "cnn-norm": cnn_norm,
    "transformer": LanguageModel,
    "copy": LanguageModel,
    "binary": binary,
    "regression": lambda: mlp(outputs=1),
    "bert": Bert,
}
