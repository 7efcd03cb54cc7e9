"""Fine-tune Transformers' TensorFlow BERT with Keras, save it, and go on from what was saved."""

from __future__ import annotations

import tensorflow as tf
from transformers import BertConfig, TFBertForSequenceClassification

WORDS = tf.constant([[10 * (row % 2) + column for column in range(8)] for row in range(16)])
LABELS = tf.range(16) % 2


def train(model: TFBertForSequenceClassification, steps: int) -> list[float]:
    losses = []
    for _ in range(steps):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model(input_ids=WORDS, labels=LABELS, training=True).loss)
        slopes = tape.gradient(loss, model.trainable_variables)
        for variable, slope in zip(model.trainable_variables, slopes, strict=True):
            if slope is not None:
                variable.assign_sub(0.05 * tf.convert_to_tensor(slope))
        losses.append(float(loss))
    return losses


tf.random.set_seed(0)
config = BertConfig(
    vocab_size=100,
    hidden_size=32,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=64,
)
made = TFBertForSequenceClassification(config)
first = train(made, 2)
made.save_pretrained("runs")
second = train(TFBertForSequenceClassification.from_pretrained("runs"), 2)
assert second[-1] < first[0], (first, second)
print("losses of both runs:", first, second)
