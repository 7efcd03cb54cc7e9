"""One batch by Lightning's Trainer, of what Hydra composes."""

from __future__ import annotations

from pathlib import Path

import dotenv
import hydra
import hydra_plugins.hydra_colorlog
import pandas as pd
import pytorch_lightning as pl
import seaborn
import sklearn
import torch
import torchmetrics
import torchvision
import wandb
from rich import print as rich_print
from torch.nn import functional

for module in (hydra, pl, pd, seaborn, sklearn, torchmetrics, torchvision, wandb):
    print(module.__name__, module.__version__)
folder = Path("/tmp/configs")
folder.mkdir(exist_ok=True)
(folder / "train.yaml").write_text("lr: 0.01\nbatch: 8\ntrainer:\n  max_steps: 1\n")


class Digits(pl.LightningModule):  # type: ignore[misc]
    """A layer that tells classes apart."""

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.lr = lr
        self.net = torch.nn.Linear(16, 4)
        self.accuracy = torchmetrics.Accuracy(task="multiclass", num_classes=4)

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        values, labels = batch
        logits = self.net(values)
        self.accuracy(logits.argmax(1), labels)
        return functional.cross_entropy(logits, labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.lr)


with hydra.initialize_config_dir(str(folder), version_base=None):
    config = hydra.compose("train", overrides=["batch=4"])
assert dotenv.dotenv_values("/tmp/none") == {}
pl.seed_everything(0)
data = torch.utils.data.TensorDataset(torch.rand(16, 16), torch.arange(16) % 4)
trainer = pl.Trainer(
    accelerator="cpu", max_steps=config.trainer.max_steps, logger=False, enable_checkpointing=False
)
model = Digits(config.lr)
trainer.fit(model, torch.utils.data.DataLoader(data, batch_size=config.batch))
assert trainer.global_step == 1
rich_print("[bold]trained[/bold]", hydra_plugins.hydra_colorlog.__name__)
print("step ok", model.accuracy.compute().item())
