"""One step of sentence classification by Trainer, with a BERT and a vocabulary made here."""

from __future__ import annotations

import accelerate
import datasets
import evaluate
import google.protobuf
import numpy as np
import scipy.stats
import sentencepiece
import sklearn.metrics
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertTokenizerFast,
    Trainer,
    TrainingArguments,
)

for module in (accelerate, evaluate, google.protobuf, sentencepiece):
    print(module.__name__, module.__version__)
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "a", "very"]
with open("/tmp/vocab.txt", "w") as file:  # noqa: PTH123
    file.write("\n".join(WORDS))
tokenizer = BertTokenizerFast("/tmp/vocab.txt")
lines = {"sentence": ["a very good film", "a bad film"] * 8, "label": [1, 0] * 8}
data = datasets.Dataset.from_dict(lines).map(
    lambda one: tokenizer(one["sentence"], padding="max_length", max_length=8), batched=True
)
model = BertForSequenceClassification(
    BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
    )
)


def scores(found: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    return {"accuracy": sklearn.metrics.accuracy_score(found[1], found[0].argmax(axis=1))}


arguments = TrainingArguments(
    "/tmp/run", max_steps=1, per_device_train_batch_size=8, report_to=[], use_cpu=True
)
trainer = Trainer(model, arguments, train_dataset=data, eval_dataset=data, compute_metrics=scores)
assert trainer.train().global_step == 1
found = trainer.evaluate()
assert 0 <= found["eval_accuracy"] <= 1
assert scipy.stats.spearmanr([1, 2, 3], [1, 2, 3]).statistic > 0.99
print("step ok", found)
