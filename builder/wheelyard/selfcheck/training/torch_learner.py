"""The PyTorch side of a training."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from ..data.pictures import Pictures, copies
from ..gpu.torch_ops import AMPERE
from ..machine import cores, processor
from ..models.catalogue import ASKED_AFTER, DECAY, MOMENTUM, TOKENS, VOCABULARY, Spec
from ..models.torch_models import make_model
from ..training.known import formula
from ..training.learner import Answers, NotHereError, Setup

FILE = "checkpoint.pt"


class TorchLearner:
    """A model, its optimizer and its data on one device."""

    repeats = True  # the random state travels in the checkpoint

    def __init__(self, setup: Setup, teacher: torch.Tensor | None = None) -> None:
        torch.manual_seed(setup.seed)
        torch.set_num_threads(setup.threads or cores())
        self.spec, self.device = setup.spec, torch.device(setup.device)
        self.on_gpu = self.device.type == "cuda"
        self.device_name = torch.cuda.get_device_name(self.device) if self.on_gpu else processor()
        try:
            self.model = make_model(setup.spec, dropout=setup.dropout).to(self.device)
        except ModuleNotFoundError as missing:  # any other ImportError: there, and broken
            raise NotHereError(f"{missing.name} is not installed here") from missing
        self.optimizer = make_optimizer(setup.spec, self.model)
        self.halves = _halves(self.device)
        self.type = getattr(torch, setup.half or self.halves[0]) if setup.mixed else torch.float32
        self.mixed_type = str(self.type).removeprefix("torch.")
        self.peak_type = _peak_type(setup.spec, self.mixed_type, on_gpu=self.on_gpu)
        self.scaler = make_scaler(self.device.type, enabled=self.type == torch.float16)
        self.train_data = prepare(setup.spec, setup.split.train, self.device)
        self.test_data = prepare(setup.spec, setup.split.test, self.device)
        self.teacher = teacher
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats(self.device)

    def step(self, rows: Sequence[int]) -> torch.Tensor:
        """Take one optimizer step; gradients are scaled under float16."""
        return self.accumulated([rows])

    def accumulated(self, parts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Take one optimizer step, by the gradients of the parts of a batch."""
        count = sum(map(len, parts))
        self.model.train()
        self.optimizer.zero_grad()
        losses = []
        for rows in parts:
            loss = self._loss(rows) * (len(rows) / count)
            self.scaler.scale(loss).backward()
            losses.append(loss.detach())
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return torch.stack(losses).sum()

    def numbers(self, losses: Sequence[torch.Tensor]) -> list[float]:
        """Wait for losses."""
        return [float(number) for number in torch.stack(list(losses)).cpu()] if losses else []

    def answers(self) -> Answers:
        """Ask about the test pictures."""
        inputs, truth = self.test_data
        outputs = self.outputs(inputs)
        loss = float(loss_of(self.spec, outputs, truth))
        outputs, truth = _comparable(self.spec, outputs, truth)
        return Answers(outputs.cpu().tolist(), truth.cpu().flatten().tolist(), loss)

    def outputs(self, inputs: torch.Tensor) -> torch.Tensor:
        """Ask the model, in float32 and without learning from it."""
        self.model.eval()
        with torch.no_grad(), self._precision():
            parts = [self.model(part) for part in inputs.split(256)]
        return torch.cat(parts).float()

    def known_weights(self) -> None:
        """Set every weight by a formula; a scale of one stays near one."""
        with torch.no_grad():
            for at, weight in enumerate(self.model.parameters()):
                ones = 1.0 if bool((weight == 1).all()) else 0.0
                places = torch.arange(weight.numel(), dtype=torch.int64)
                inputs = weight[0].numel() if weight.dim() > 1 else None
                values = formula(places, at, inputs).float().reshape(weight.shape)
                weight.copy_(ones + values)

    def moved(self, place: int) -> list[float]:
        """Measure how far the output at each place moves when the data at `place` are changed."""
        inputs = self.test_data[0][:8].clone()
        before = self.outputs(inputs)
        if inputs.is_floating_point():
            inputs[:, place] += 1
        else:
            inputs[:, place] = (inputs[:, place] + 1) % VOCABULARY
        change = (self.outputs(inputs) - before).abs().amax(0)
        return [float(value) for value in change.reshape(-1, change.shape[-1]).amax(1)]

    def computed(self, rows: Sequence[int]) -> frozenset[str]:
        """Return the types that the layers' matrix products of a training step come out in."""
        seen: set[str] = set()
        hooks = [
            module.register_forward_hook(lambda _m, _in, out: seen.add(_type_of(out)))
            for module in self.model.modules()
            if isinstance(module, torch.nn.Linear | torch.nn.Conv2d | torch.nn.RNNBase)
        ]
        self.step(rows)
        for hook in hooks:
            hook.remove()
        return frozenset(seen)

    def loss_scale(self) -> float:
        """Return what losses are multiplied with before gradients are computed."""
        return float(self.scaler.get_scale())

    def state(self) -> dict[str, str]:
        """Digest model, optimizer, loss scale and random state, by name."""
        parts = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": torch.get_rng_state(),
        }
        if self.on_gpu:
            parts["random_gpu"] = torch.cuda.get_rng_state(self.device)
        return dict(_digests("", parts))

    def save(self, folder: Path) -> None:
        """Write a checkpoint."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": torch.get_rng_state(),
            "random_gpu": torch.cuda.get_rng_state(self.device) if self.on_gpu else None,
        }
        torch.save(state, folder / FILE)

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint."""
        state = torch.load(folder / FILE, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"].cpu())
        if self.on_gpu:
            torch.cuda.set_rng_state(state["random_gpu"].cpu(), self.device)

    def peak_memory(self) -> int | None:
        """Return the most bytes that PyTorch held for tensors on the GPU."""
        return int(torch.cuda.max_memory_allocated(self.device)) if self.on_gpu else None

    def _loss(self, rows: Sequence[int]) -> torch.Tensor:
        chosen = torch.tensor(rows, device=self.device)
        inputs, truth = (part[chosen] for part in self.train_data)
        with self._precision():
            outputs = self.model(inputs)
            loss = loss_of(self.spec, outputs, truth)
            if self.teacher is not None:
                loss = 0.3 * loss + 0.7 * imitation(outputs, self.teacher[chosen])
        return loss

    def _precision(self) -> AbstractContextManager[Any]:
        wanted = self.type != torch.float32
        kind = self.type if wanted else torch.bfloat16  # older versions check it though disabled
        context: AbstractContextManager[Any] = torch.autocast(
            self.device.type, dtype=kind, enabled=wanted
        )
        return context


def make_scaler(device: str, *, enabled: bool) -> Any:
    """Make what keeps float16 gradients from vanishing."""
    if hasattr(torch.amp, "GradScaler"):  # from PyTorch 2.3 on
        return torch.amp.GradScaler(device, enabled=enabled)
    return torch.cuda.amp.GradScaler(enabled=enabled)


def make_optimizer(spec: Spec, model: torch.nn.Module) -> torch.optim.Optimizer:
    """Make the spec's optimizer."""
    if spec.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), lr=spec.rate, momentum=MOMENTUM)
    if spec.optimizer == "rmsprop":
        return torch.optim.RMSprop(model.parameters(), lr=spec.rate, alpha=DECAY)
    return torch.optim.Adam(model.parameters(), lr=spec.rate)


def loss_of(spec: Spec, outputs: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Compute the task's loss; a language model's is that of every word that is asked for."""
    if spec.task == "regression":
        return functional.mse_loss(outputs, truth)
    if spec.task == "binary":
        return functional.binary_cross_entropy_with_logits(outputs, truth)
    if spec.task in ASKED_AFTER:
        first = ASKED_AFTER[spec.task]
        asked = outputs[:, first:-1].flatten(0, 1)
        return functional.cross_entropy(asked, truth[:, first + 1 :].flatten())
    return functional.cross_entropy(outputs, truth)


def imitation(outputs: torch.Tensor, teacher: torch.Tensor, heat: float = 4.0) -> torch.Tensor:
    """Compute how far a student's softened answers are from its teacher's (Hinton et al. 2015)."""
    student = functional.log_softmax(outputs / heat, dim=1)
    wanted = functional.softmax(teacher / heat, dim=1)
    return functional.kl_div(student, wanted, reduction="batchmean") * heat**2


def prepare(
    spec: Spec, pictures: Pictures, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Make inputs and truth of a task, as the models of the catalogue take them."""
    shape = (pictures.count, pictures.channels, pictures.side, pictures.side)
    pixels = torch.frombuffer(bytearray(pictures.pixels), dtype=torch.uint8).reshape(shape)
    images = pixels.to(device).float() / pictures.levels
    if spec.task == "copy":
        words = torch.tensor(copies(pictures.count, TOKENS, VOCABULARY), device=device)
        return words, words
    labels = torch.frombuffer(bytearray(pictures.labels), dtype=torch.uint8).to(device).long()
    if spec.task in ("pixels", "tokens"):
        words = _resized(images, 1, 8).mul(VOCABULARY - 1).round().long().reshape(-1, TOKENS)
        return words, words if spec.task == "pixels" else labels
    if spec.task == "binary":
        small = _resized(images, 1, 5).squeeze(1)
        features = standard(torch.cat((small.mean(1), small.mean(2)), 1))
        return features, (labels % 2 == 0).float().unsqueeze(1)
    channels = spec.shape[0] if len(spec.shape) == 3 else 1
    large = _resized(images, channels, 32 if spec.shape[-1] == 32 else 28)
    inputs = large.reshape(-1, *spec.shape)
    return inputs, _centre(large) if spec.task == "regression" else labels


def _resized(images: torch.Tensor, channels: int, side: int) -> torch.Tensor:
    if channels != images.shape[1]:
        images = images.mean(1, keepdim=True).expand(-1, channels, -1, -1)
    if side == images.shape[-1]:
        return images
    return functional.interpolate(images, size=(side, side), mode="bilinear", antialias=True)


def _centre(images: torch.Tensor) -> torch.Tensor:
    """Compute the height of a picture's centre of brightness, in standard deviations: (N, 1)."""
    rows = images.mean((1, 3))
    places = torch.arange(rows.shape[1], device=images.device, dtype=torch.float32)
    height = (rows * places).sum(1) / rows.sum(1).clamp_min(1e-6)
    return standard(height.unsqueeze(1))


def standard(values: torch.Tensor) -> torch.Tensor:
    """Move and scale every column to mean 0 and standard deviation 1."""
    return (values - values.mean(0)) / values.std(0)


def _comparable(
    spec: Spec, outputs: torch.Tensor, truth: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return probabilities (or numbers) of shape (N, classes), and the truth of each."""
    if spec.task == "regression":
        return outputs, truth
    if spec.task == "binary":
        return torch.sigmoid(outputs), truth
    if spec.task in ASKED_AFTER:
        first = ASKED_AFTER[spec.task]
        outputs, truth = outputs[:, first:-1].flatten(0, 1), truth[:, first + 1 :]
    return functional.softmax(outputs, dim=1), truth


def _type_of(output: Any) -> str:
    """Return the type of a layer's output; an LSTM's comes with its state."""
    tensor = output[0] if isinstance(output, tuple) else output
    return str(tensor.dtype).removeprefix("torch.")


def _digests(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield the name and digest of every leaf of nested states."""
    if isinstance(value, dict | list | tuple):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, each in pairs:
            yield from _digests(f"{name}.{key}".strip("."), each)
        return
    if isinstance(value, torch.Tensor):
        whole = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        content = whole.numpy().tobytes()
    else:
        content = repr(value).encode()
    yield name, hashlib.sha256(content).hexdigest()[:16]


def _peak_type(spec: Spec, kind: str, *, on_gpu: bool) -> str:
    """Return the fastest type it may compute in: by default cuDNN takes TF32, cuBLAS does not."""
    if kind != "float32" or not on_gpu:
        return kind
    by_cudnn = len(spec.shape) == 3 or spec.name in ("lstm", "gru", "rnn")
    switch = torch.backends.cudnn if by_cudnn else torch.backends.cuda.matmul
    return "tf32" if switch.allow_tf32 else "float32"


def _halves(device: torch.device) -> tuple[str, ...]:
    """List float16 first on a GPU, as everywhere; a processor has no fast one, but can do it."""
    if device.type == "cuda":
        new = torch.cuda.get_device_capability(device) >= AMPERE
        return ("float16", "bfloat16") if new else ("float16",)
    scales = hasattr(torch.amp, "GradScaler")  # up to PyTorch 2.2 losses are scaled on GPUs alone
    return ("bfloat16", "float16") if scales else ("bfloat16",)
