"""Fine-tune a BERT made from a configuration, stop at a checkpoint, and go on from it."""

from __future__ import annotations

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments


class Sentences(torch.utils.data.Dataset):  # type: ignore[misc]  # torch is not where this is checked
    """Sixteen sentences of eight words; the words say the label."""

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        label = index % 2
        words = torch.arange(8) + 10 * label
        return {"input_ids": words, "attention_mask": torch.ones(8), "labels": torch.tensor(label)}


def trainer(steps: int) -> Trainer:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=100,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
    )
    arguments = TrainingArguments(
        "runs", max_steps=steps, save_steps=2, logging_steps=1, learning_rate=1e-2, report_to="none"
    )
    return Trainer(BertForSequenceClassification(config), arguments, train_dataset=Sentences())


trainer(2).train()
resumed = trainer(4)
resumed.train(resume_from_checkpoint="runs/checkpoint-2")
losses = [entry["loss"] for entry in resumed.state.log_history if "loss" in entry]
assert resumed.state.global_step == 4, resumed.state
assert len(losses) == 4, losses
assert losses[-1] < losses[0], losses
print("losses of both runs:", losses)
