"""Embeddings by a small encoder made here, and one training step."""

from __future__ import annotations

from pathlib import Path

import datasets
import sentence_transformers as st
from sentence_transformers.losses import CosineSimilarityLoss
from transformers import BertConfig, BertModel, BertTokenizerFast

print("sentence_transformers", st.__version__)
folder = Path("/tmp/encoder")
folder.mkdir(exist_ok=True)
words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "dog", "sits", "runs"]
(folder / "vocab.txt").write_text("\n".join(words))
BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
config = BertConfig(
    vocab_size=len(words),
    hidden_size=32,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=64,
    max_position_embeddings=32,
)
BertModel(config).save_pretrained(folder)
model = st.SentenceTransformer(str(folder), device="cpu")
data = datasets.Dataset.from_dict(
    {"one": ["a cat sits"] * 4, "two": ["a cat runs", "a dog sits"] * 2, "score": [0.8, 0.2] * 2}
)
arguments = st.SentenceTransformerTrainingArguments(
    "/tmp/run", max_steps=1, per_device_train_batch_size=2, report_to=[], use_cpu=True
)
trainer = st.SentenceTransformerTrainer(model, arguments, data, loss=CosineSimilarityLoss(model))
assert trainer.train().global_step == 1
found = model.encode(["a cat sits", "a dog runs"])
assert found.shape == (2, 32), found.shape
print("step ok", float(model.similarity(found[0], found[1])))
