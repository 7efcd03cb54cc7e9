"""The benchmark models as data: what goes in, how they are trained, what they must reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Task = Literal["digits", "binary", "regression", "pixels", "copy", "tokens"]

VOCABULARY = 17  # a pixel of 0 to 16
TOKENS = 64  # 8 x 8 pixels
WIDTH, LAYERS, HEADS, INNER = 64, 2, 4, 128  # of both transformers
HIDDEN = 128  # of LSTM, GRU and plain RNN
# Where a sequence's task begins: what comes after this place is asked for. The second half of a
# copy is all that is far away: a table of places or of previous words is right one time in 17.
ASKED_AFTER = {"pixels": 0, "copy": TOKENS // 2 - 1}
ALL = ("pytorch", "tensorflow", "jax")
SEGMENTS = 2  # an LSTM sequence is read in parts, the state carried from one to the next


@dataclass(frozen=True, slots=True)
class Spec:
    """One model of the benchmark."""

    name: str
    title: str
    task: Task  # digits: logits of ten kinds; tokens: the same, from pixels as words;
    # pixels: the next pixel; copy: the next of words that come twice;
    # binary, regression: one number
    shape: tuple[int, ...]  # of one sample
    optimizer: Literal["sgd", "adam", "rmsprop"]
    rate: float
    epochs: int
    loss: float  # what the last epoch's mean training loss must stay below
    score: float  # what accuracy (regression: Pearson's r) on unseen samples must reach
    operations: int  # floating-point operations forward for one sample, a multiply-add as two
    first: int  # those of the layer the data go into: no gradient of the data is computed
    batch: int = 64
    frameworks: tuple[str, ...] = ("pytorch", "tensorflow")
    small: bool = False  # layers so small that threads cost more than they gain
    dropout: bool = False

    @property
    def training_operations(self) -> int:
        """Operations of a training step for one sample: each layer forward, and twice backward.

        The first layer's backward pass computes the gradient of its weights alone.
        """
        return 3 * self.operations - self.first


def dense(inputs: int, outputs: int) -> int:
    """Count the operations of a fully connected layer."""
    return 2 * inputs * outputs


def convolution(side: int, outputs: int, inputs: int) -> int:
    """Count the operations of a 3 x 3 convolution whose output has `side` x `side` pixels."""
    return side * side * dense(9 * inputs, outputs)


def attention_blocks(tokens: int) -> int:
    """Count the operations of the transformer's blocks: projections, attention, feed-forward."""
    projections = 4 * dense(WIDTH, WIDTH) + 2 * dense(WIDTH, INNER)
    return LAYERS * tokens * (projections + 2 * dense(WIDTH, tokens))


MOMENTUM = 0.9  # of SGD
DECAY = 0.9  # of RMSprop's mean square
SPECS = {
    spec.name: spec
    for spec in (
        Spec("mlp", "MLP 784-128-10", "digits", (784,), "sgd", 0.01, 5, 0.5, 0.75,
             dense(784, 128) + dense(128, 10), dense(784, 128), frameworks=ALL, small=True),
        Spec("cnn-9216", "CNN 1-32-64, 9216-128-10", "digits", (1, 28, 28), "sgd", 0.01, 5,
             0.8, 0.75,
             convolution(26, 32, 1) + convolution(24, 64, 32) + dense(9216, 128) + dense(128, 10),
             convolution(26, 32, 1), frameworks=ALL, dropout=True),
        Spec("cnn-6272", "CNN 3-64-128, 6272-1000-10", "digits", (3, 28, 28), "sgd", 0.01, 4,
             0.8, 0.70,
             convolution(28, 64, 3) + convolution(14, 128, 64) + dense(6272, 1000)
             + dense(1000, 10), convolution(28, 64, 3)),
        Spec("cnn-2304", "CNN 3-32-64, 2304-128-10", "digits", (3, 32, 32), "sgd", 0.01, 5,
             1.0, 0.70,
             convolution(30, 32, 3) + convolution(13, 64, 32) + dense(2304, 128)
             + dense(128, 10), convolution(30, 32, 3)),
        Spec("lstm", "LSTM 28-128, state carried over", "digits", (28, 28), "adam", 0.003, 6,
             0.9, 0.70, 28 * dense(28 + HIDDEN, 4 * HIDDEN) + dense(HIDDEN, 10),
             28 * dense(28, 4 * HIDDEN)),
        Spec("gru", "GRU 28-128", "digits", (28, 28), "adam", 0.003, 5, 0.9, 0.70,
             28 * dense(28 + HIDDEN, 3 * HIDDEN) + dense(HIDDEN, 10), 28 * dense(28, 3 * HIDDEN)),
        Spec("rnn", "plain RNN 28-128", "digits", (28, 28), "adam", 0.001, 9, 1.0, 0.60,
             28 * dense(28 + HIDDEN, HIDDEN) + dense(HIDDEN, 10), 28 * dense(28, HIDDEN)),
        Spec("cnn-norm", "CNN 1-16-32 with batch norm", "digits", (1, 28, 28), "rmsprop", 0.001, 4,
             0.5, 0.80,
             convolution(28, 16, 1) + convolution(14, 32, 16) + dense(1568, 10),
             convolution(28, 16, 1)),
        Spec("transformer", "Transformer language model of pixels", "pixels", (TOKENS,), "adam",
             0.003, 4, 1.85, 0.52, attention_blocks(TOKENS) + TOKENS * dense(WIDTH, VOCABULARY), 0,
             frameworks=ALL),
        Spec("copy", "the same Transformer: words that come again 32 places later", "copy",
             (TOKENS,), "adam", 0.005, 5, 0.5, 0.95,
             attention_blocks(TOKENS) + TOKENS * dense(WIDTH, VOCABULARY), 0, batch=32,
             frameworks=ALL),
        Spec("binary", "binary classifier 10-10-1: even or odd", "binary", (10,), "adam", 0.01, 15,
             0.4, 0.80, dense(10, 10) + dense(10, 1), dense(10, 10), small=True),
        Spec("regression", "MLP 784-128-1: height of the ink's centre", "regression", (784,),
             "adam", 0.001, 8, 0.1, 0.90, dense(784, 128) + dense(128, 1), dense(784, 128),
             frameworks=ALL, small=True),
        Spec("bert", "BERT of Hugging Face, from its config", "tokens", (TOKENS,), "adam",
             0.001, 6, 1.2, 0.60, attention_blocks(TOKENS) + dense(WIDTH, WIDTH)
             + dense(WIDTH, 10), 0, frameworks=("pytorch",)),
    )
}  # fmt: skip
