"""The faults: an edit of one of selfcheck's files each, and who must see it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SELFCHECK = Path(__file__).parents[2] / "builder/wheelyard/selfcheck"
Kind = Literal["math", "training", "metrics", "timing", "judgement", "skipping"]


class StaleError(Exception):
    """A snippet is no longer in its file, or more than once; the message names it."""


@dataclass(frozen=True)
class Mutant:
    """One fault."""

    name: str
    kind: Kind
    file: str  # below selfcheck
    old: str  # occurs once
    new: str
    seen_by: str  # a check of selfcheck, run in an image; or a file of tests/unit
    excuse: str | None = None  # why nothing can see it

    @property
    def in_image(self) -> bool:
        """Whether a check in an image has to see it."""
        return not self.seen_by.startswith("test_")

    @property
    def framework(self) -> str:
        """Whose image it takes."""
        keras = "keras" in self.file or "tensorflow" in (self.file + self.seen_by)
        return "tensorflow" if keras or self.seen_by == "compile.xla" else "pytorch"

    def applied(self, text: str) -> str:
        """The file's text with the fault in it; StaleError when the snippet does not fit."""
        if text.count(self.old) != 1:
            found = text.count(self.old)
            raise StaleError(f"{self.name}: {self.file} has the snippet {found} times, not once")
        return text.replace(self.old, self.new)


TORCH, KERAS = "models/torch_models.py", "models/keras_models.py"
LEARN, KLEARN = "training/torch_learner.py", "training/keras_learner.py"
ATTEND = "functional.scaled_dot_product_attention(query, key, value, is_causal=True)"
KATTEND = "attention(normal, normal, use_causal_mask=True)"
TRAINING, GPU = "test_selfcheck_training.py", "test_selfcheck_gpu.py"
SELF = "test_selfcheck.py"
METRICS = "test_selfcheck_metrics.py"
BURN = "test_selfcheck_burn.py"
ITSELF = (
    "both sides are computed by the same function, in two types: that it is the right function is "
    "not what the check asks, and the models' known numbers ask it"
)


def _torch(name: str, old: str, new: str, model: str, excuse: str | None = None) -> Mutant:
    return Mutant(f"torch: {name}", "math", TORCH, old, new, f"train.{model}.pytorch", excuse)


def _keras(name: str, old: str, new: str, model: str, excuse: str | None = None) -> Mutant:
    return Mutant(f"keras: {name}", "math", KERAS, old, new, f"train.{model}.tensorflow", excuse)


def _torch_training(name: str, old: str, new: str, check: str) -> Mutant:
    return Mutant(f"torch: {name}", "training", LEARN, old, new, f"{check}.pytorch")


def _keras_training(name: str, old: str, new: str, check: str) -> Mutant:
    return Mutant(f"keras: {name}", "training", KLEARN, old, new, f"{check}.tensorflow")


MATH = (
    _torch("no ReLU in the MLP", "nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, outputs)",
           "nn.Linear(784, 128), nn.Linear(128, outputs)", "mlp"),
    _torch("one ReLU less in a CNN", "nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3)",
           "nn.Conv2d(1, 32, 3), nn.Conv2d(32, 64, 3)", "cnn-9216"),
    _torch("mean instead of max pooling",
           "nn.Conv2d(64, 128, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)",
           "nn.Conv2d(64, 128, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)", "cnn-6272"),
    _torch("another pooling in the small CNN", "nn.Conv2d(3, 32, 3), nn.ReLU(), nn.MaxPool2d(2)",
           "nn.Conv2d(3, 32, 3), nn.MaxPool2d(2, 2), nn.Tanh()", "cnn-2304"),
    _torch("the LSTM's state is not carried over", "self.lstm(segment, state)",
           "self.lstm(segment)", "lstm"),
    _torch("the GRU is a plain RNN", "LastOutput(nn.GRU)", "LastOutput(nn.RNN)", "gru"),
    _torch("a recurrent layer's first output is taken", "self.layer(rows)[0][:, -1]",
           "self.layer(rows)[0][:, 0]", "rnn"),
    _torch("no batch norm", "nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32)",
           "nn.Conv2d(16, 32, 3, padding=1, bias=False)", "cnn-norm"),
    _torch("batch norm of running statistics", "nn.BatchNorm2d(16)",
           "nn.BatchNorm2d(16, momentum=0.0)", "cnn-norm"),
    _torch("the LSTM's first output is taken", "outputs[:, -1]", "outputs[:, 0]", "lstm"),
    _torch("attention times 0", "words + self.merge(", "words + 0 * self.merge(", "transformer"),
    _torch("attention is the value", ATTEND, "value", "transformer"),
    _torch("no causal mask", "is_causal=True", "is_causal=False", "transformer"),
    _torch("no causal mask, and the answer is far away", "is_causal=True", "is_causal=False",
           "copy"),
    _torch("softmax over the wrong axis", ATTEND,
           "(query @ key.transpose(-2, -1) / 4).softmax(-2).tril() @ value", "transformer"),
    _torch("attention without its scale", ATTEND, ATTEND.replace("(query,", "(4 * query,"),
           "transformer"),
    _torch("no places", " + self.places[: pixels.shape[1]]", "", "transformer"),
    _torch("places turned round", "torch.stack((torch.sin(place * rates), torch.cos(place * rates))",  # noqa: E501
           "torch.stack((torch.cos(place * rates), torch.sin(place * rates))", "transformer"),
    _torch("no residual connection", "return words + added", "return added", "transformer"),
    _torch("no layer norm before attention", "self.project(self.before(words))",
           "self.project(words)", "transformer"),
    _torch("ReLU instead of GELU", "nn.GELU()", "nn.ReLU()", "transformer"),
    _torch("heads merged in the wrong order", "mixed.transpose(1, 2).flatten(2)",
           "mixed.reshape(words.shape)", "transformer"),
    _torch("no dropout", "    if not dropout:\n", "    if True:\n", "cnn-9216"),
    _torch("one dropout of two", "nn.Dropout(0.25), nn.Flatten()", "nn.Flatten()", "cnn-9216",
           "the other dropout still changes the loss of a step; which masks are drawn, and how many, "  # noqa: E501
           "is the framework's random state, which no two versions have in common"),
    _torch("no ReLU in the binary classifier", "nn.Linear(10, 10), nn.ReLU()", "nn.Linear(10, 10)",
           "binary"),
    _keras("no ReLU in the MLP", 'keras.Input((784,)), layers.Dense(128, activation="relu")',
           "keras.Input((784,)), layers.Dense(128)", "mlp"),
    _keras("one ReLU less in a CNN", 'keras.Input((28, 28, 1)), layers.Conv2D(32, 3, activation="relu")',  # noqa: E501
           "keras.Input((28, 28, 1)), layers.Conv2D(32, 3)", "cnn-9216"),
    _keras("mean instead of max pooling",
           'layers.MaxPooling2D(), layers.Conv2D(128, 3, padding="same", activation="relu")',
           'layers.AveragePooling2D(2), layers.Conv2D(128, 3, padding="same", activation="relu")',
           "cnn-6272"),
    _keras("the LSTM's state is not carried over", ", initial_state=state)", ")", "lstm"),
    _keras("the GRU is a plain RNN", "recurrent(layers.GRU)", "recurrent(layers.SimpleRNN)",
           "gru"),
    _keras("no batch norm", "model.add(layers.BatchNormalization(momentum=0.9))", "pass",
           "cnn-norm"),
    _keras("attention times 0", f"words + {KATTEND}", f"words + 0.0 * {KATTEND}", "transformer"),
    _keras("no causal mask", "use_causal_mask=True", "use_causal_mask=False", "copy"),
    _keras("no places", " + places", "", "transformer"),
    _keras("ReLU instead of GELU", 'activation="gelu"', 'activation="relu"', "transformer"),
    _keras("no layer norm at the end", "layers.LayerNormalization(epsilon=1e-5)(words)))",
           "words))", "transformer"),
    _keras("no dropout", "1.0 if dropout else 0.0", "0.0", "cnn-9216"),
)  # fmt: skip

TRAINED = (
    _torch_training("gradients add up", "        self.optimizer.zero_grad()\n", "", "train.mlp"),
    _torch_training("no optimizer step", "self.scaler.step(self.optimizer)", "pass", "train.mlp"),
    _torch_training("no momentum", "momentum=MOMENTUM)", "momentum=0.0)", "train.mlp"),
    _torch_training("twice the rate", "lr=spec.rate, momentum", "lr=2 * spec.rate, momentum",
                    "train.mlp"),
    _torch_training("another rate for Adam", "model.parameters(), lr=spec.rate)",
                    "model.parameters(), lr=0.001)", "train.lstm"),
    _torch_training("SGD instead of RMSprop", "torch.optim.RMSprop(model.parameters(), lr=spec.rate, alpha=DECAY)",  # noqa: E501
                    "torch.optim.SGD(model.parameters(), lr=spec.rate)", "train.cnn-norm"),
    Mutant("torch: nothing is pruned", "training", "training/pruning_torch.py",
           '            pruning.remove(module, "weight")\n',
           '            pruning.remove(module, "weight")\n            module.weight.data += 1e-9\n',
           "train.pruning.pytorch"),
    Mutant("torch: pictures are never mirrored", "training", "training/augmenting_torch.py",
           "transforms.RandomHorizontalFlip()", "transforms.RandomHorizontalFlip(0.0)",
           "train.augmentation.pytorch"),
    Mutant("torch: pictures are turned", "training", "training/augmenting_torch.py",
           "transforms.RandomHorizontalFlip()", "transforms.RandomVerticalFlip()",
           "train.augmentation.pytorch"),
    Mutant("keras: pictures are never moved", "training", "training/augmenting_tensorflow.py",
           "parts[2](parts[1](parts[0](values, training=True)), training=True)",
           "parts[2](parts[1](parts[0](values, training=True)), training=False)",
           "train.augmentation.tensorflow"),
    Mutant("keras: one seed for all pictures", "training", "training/augmenting_tensorflow.py",
           "    size = len(picture)\n", "    size, seed = len(picture), 7\n",
           "train.augmentation.tensorflow"),
    Mutant("torch: chance prunes", "training", "training/pruning_torch.py",
           'pruning.l1_unstructured(', 'pruning.random_unstructured(', "train.pruning.pytorch"),
    _torch_training("the loss asks for this word, not the next", "truth[:, first + 1 :].flatten()",
                    "truth[:, first:-1].flatten()", "train.transformer"),
    _torch_training("a sum instead of a mean", "functional.mse_loss(outputs, truth)",
                    'functional.mse_loss(outputs, truth, reduction="sum")', "train.regression"),
    _torch_training("even is odd", "labels % 2 == 0", "labels % 2 == 1", "train.binary"),
    _torch_training("pixels of another range", "/ pictures.levels", "/ 255", "train.mlp"),
    _torch_training("AMP switched off", "enabled=wanted", "enabled=False", "train.amp"),
    _torch_training("half precision everywhere",
                    "getattr(torch, setup.half or self.halves[0]) if setup.mixed else torch.float32",  # noqa: E501
                    "getattr(torch, setup.half or self.halves[0])", "train.mlp"),
    _torch_training("dropout while answering", "self.model.eval()", "self.model.train()",
                    "train.cnn-9216"),
    _torch_training("no dropout while training",
                    "self.model.train()\n        self.optimizer", "self.model.eval()\n        self.optimizer",  # noqa: E501
                    "train.cnn-9216"),
    _torch_training("the optimizer's state is not restored",
                    'self.optimizer.load_state_dict(state["optimizer"])', "pass", "train.mlp"),
    _torch_training("the weights are not restored", 'self.model.load_state_dict(state["model"])',
                    "pass", "train.mlp"),
    _torch_training("the random state is not restored",
                    'torch.set_rng_state(state["random"].cpu())', "pass", "train.cnn-9216"),
    _torch_training("float16 without a loss scale",
                    "self.scaler = make_scaler(self.device.type, enabled=self.type == torch.float16)",  # noqa: E501
                    "self.scaler = make_scaler(self.device.type, enabled=False)", "train.amp"),
    _torch_training("one half type for all", "setup.half or self.halves[0]", "self.halves[0]",
                    "train.amp"),
    _torch_training("a constant seed", "torch.manual_seed(setup.seed)", "torch.manual_seed(7)",
                    "train.seed"),
    _torch_training("no seed", "torch.manual_seed(setup.seed)", "torch.seed()", "train.seed"),
    _torch_training("a student without a teacher", "if self.teacher is not None:", "if False:",
                    "train.distillation"),
    _torch_training("every loss is nan", "return torch.stack(losses).sum()",
                    "return torch.stack(losses).sum() * float('nan')", "train.mlp"),
    _torch_training("every answer is nan", "return torch.cat(parts).float()",
                    "return torch.cat(parts).float() * float('nan')", "train.binary"),
    Mutant("torch: loaders deliver one row", "training", "training/loader.py", "float(row))",
           "0.0)", "train.loader.pytorch"),
    Mutant("torch: int8 is float32", "training", "training/int8_torch.py",
           "torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)", "model",
           "train.quantization.pytorch"),
    _keras_training("no optimizer step",
                    "self.optimizer.apply_gradients(zip(gradients, self.model.trainable_variables, strict=True))",  # noqa: E501
                    "pass", "train.mlp"),
    _keras_training("no momentum", "momentum=MOMENTUM)", "momentum=0.0)", "train.mlp"),
    _keras_training("an embedding's gradients stay sparse, as Keras 3 sums them",
                    "            tf.convert_to_tensor(gradient)\n", "            gradient\n",
                    "train.transformer"),
    _keras_training("another rate for Adam", "Adam(spec.rate,", "Adam(0.001,", "train.lstm"),
    _keras_training("another mean in RMSprop", "rho=DECAY", "rho=0.5", "train.cnn-norm"),
    Mutant("keras: the largest weights are pruned", "training", "training/pruning_keras.py",
           "tf.argsort(tf.abs(before))", "tf.argsort(-tf.abs(before))", "train.pruning.tensorflow"),
    _keras_training("the loss asks for this word, not the next",
                    "        outputs, truth = outputs[:, first:-1], truth[:, first + 1 :]\n    return tf",  # noqa: E501
                    "        outputs, truth = outputs[:, first:-1], truth[:, first:-1]\n    return tf",  # noqa: E501
                    "train.transformer"),
    _keras_training("even is odd", "labels % 2 == 0", "labels % 2 == 1", "train.binary"),
    _keras_training("AMP switched off", "set_global_policy(prefix + self.mixed_type)",
                    'set_global_policy("float32")', "train.amp"),
    _keras_training("dropout while answering", "self.model(inputs, training=False)",
                    "self.model(inputs, training=True)", "train.cnn-9216"),
    _keras_training("no dropout while training", "outputs = self.model(inputs, training=True)",
                    "outputs = self.model(inputs, training=False)", "train.cnn-9216"),
    _keras_training("the optimizer's state is not restored",
                    "tf.train.Checkpoint(model=self.model, optimizer=self.optimizer)",
                    "tf.train.Checkpoint(model=self.model)", "train.mlp"),
    _keras_training("float16 without a loss scale", 'if self.mixed_type == "float16":',
                    "if False:", "train.amp"),
    _keras_training("the loss scale is made anew at every look",
                    "        optimizer = self.optimizer.variables\n",
                    "        self.optimizer.build(self.model.trainable_variables)\n"
                    "        optimizer = self.optimizer.variables\n", "train.amp"),
    _keras_training("one half type for all", "setup.half or self.halves[0]", "self.halves[0]",
                    "train.amp"),
    _keras_training("a constant seed", "keras.utils.set_random_seed(setup.seed)",
                    "keras.utils.set_random_seed(7)", "train.seed"),
    _keras_training("a student without a teacher", "if self.teacher is not None:", "if False:",
                    "train.distillation"),
    _keras_training("every answer is nan", "return tf.cast(tf.concat(parts, 0), tf.float32)",
                    "return tf.cast(tf.concat(parts, 0), tf.float32) * float('nan')",
                    "train.binary"),
    _torch_training("parts of a batch count alike", "(len(rows) / count)", "(1 / len(parts))",
                    "train.accumulation"),
    _torch_training("only the last part's gradients count",
                    "            loss = self._loss(rows) *",
                    "            self.optimizer.zero_grad()\n            loss = self._loss(rows) *",
                    "train.accumulation"),
    _torch_training("a step for every part",
                    "            losses.append(loss.detach())\n        self.scaler.step(self.optimizer)\n",  # noqa: E501
                    "            losses.append(loss.detach())\n            self.scaler.step(self.optimizer)\n",  # noqa: E501
                    "train.accumulation"),
    _keras_training("parts of a batch count alike", "len(rows) / count)", "1 / len(parts))",
                    "train.accumulation"),
    _keras_training("only the last part's gradients count",
                    "list(map(tf.add_n, zip(*found, strict=True)))", "list(found[-1])",
                    "train.accumulation"),
    Mutant("a restarted group begins again with new weights", "training",
           "distributed/torch_worker.py", "        learner.load(folder / str(len(losses)))\n", "",
           "distributed.elastic.pytorch"),
    Mutant("a restarted group finds no checkpoint", "training", "distributed/torch_worker.py",
           "(place / JOURNAL).replace(folder / JOURNAL)", "pass",
           "distributed.elastic.pytorch"),
    Mutant("no process is killed", "training", "distributed/torch_worker.py",
           "            os.kill(os.getpid(), signal.SIGKILL)\n", "            pass\n",
           "distributed.elastic.pytorch"),
    Mutant("a killed process ends the training", "training", "distributed/__init__.py",
           'f"--max-restarts={restarts}"', '"--max-restarts=0"', "distributed.elastic.pytorch"),
    Mutant("a checkpoint is not read", "training", "training/run.py", "    learner.load(folder)\n",
           "", "train.mlp.pytorch"),
    Mutant("one order of rows for ever", "training", "training/run.py",
           "random.Random(seed * 1000 + epoch)", "random.Random(0)", TRAINING),
    Mutant("both processes get the same rows", "training", "distributed/share.py",
           "rows[rank * part : (rank + 1) * part]", "rows[:part]", "distributed.gloo.pytorch"),
    Mutant("no gradients are exchanged", "training", "distributed/torch_worker.py",
           "    learner.model = DistributedDataParallel(learner.model)\n", "",
           "distributed.gloo.pytorch"),
    Mutant("eager instead of inductor", "training", "compile.py", 'mixture, backend="inductor"',
           'mixture, backend="eager"', "compile.inductor"),
    Mutant("an eager training step instead of inductor's", "training", "compile.py",
           'partial(torch.compile, backend="inductor"', 'partial(torch.compile, backend="eager"',
           "compile.step.pytorch"),
    Mutant("a compiled training step moves no weights", "training", "compile.py",
           "            optimizer.step()\n", "", "compile.step.pytorch"),
    Mutant("XLA is switched off for a training step", "training", "compile.py",
           "jit_compile=jit", "jit_compile=None", "compile.step.tensorflow"),
    Mutant("an XLA step moves no weights", "training", "compile.py",
           "weight.assign_sub(gradient)", "weight.assign_sub(0 * gradient)",
           "compile.step.tensorflow"),
    Mutant("nothing is compiled", "training", "compile.py",
           'torch.compile(mixture, backend="inductor", fullgraph=True)(values)', "mixture(values)",
           "compile.inductor"),
    Mutant("XLA is switched off", "training", "compile.py", "jit_compile=True",
           "jit_compile=False", "compile.xla"),
)  # fmt: skip

JUDGED = (
    Mutant("accuracy of the first half", "metrics", "training/metrics.py",
           "zip(truth, answers, strict=True)) / len(truth)",
           "zip(truth[: len(truth) // 2], answers, strict=False)) / len(truth)", METRICS),
    Mutant("recall is precision", "metrics", "training/metrics.py",
           "hits[kind] / there[kind] if there[kind] else 0.0",
           "hits[kind] / Counter(answers)[kind] if Counter(answers)[kind] else 0.0", METRICS),
    Mutant("F1 of twice the answers", "metrics", "training/metrics.py",
           "2 * hits[kind] / (there[kind] + said[kind])",
           "2 * hits[kind] / (there[kind] + 2 * said[kind])", METRICS),
    Mutant("kappa is accuracy", "metrics", "training/metrics.py",
           "(accuracy(truth, answers) - chance) / (1 - chance)", "accuracy(truth, answers)", METRICS),  # noqa: E501
    Mutant("the ROC curve starts below its highest threshold", "metrics", "training/metrics.py",
           "[(0.0, 0.0)], 0, 0, None", "[], 0, 0, None", METRICS),
    Mutant("ties count fully in ROC-AUC", "metrics", "training/metrics.py",
           "(start + 1 + stop) / 2", "float(stop)", METRICS),
    Mutant("ranking nan never ends", "metrics", "training/metrics.py",
           "    if any(map(math.isnan, scores)):\n        return math.nan\n", "", METRICS),
    Mutant("RMSE is MSE", "metrics", "training/metrics.py",
           "return math.sqrt(mean_squared_error(truth, answers))",
           "return mean_squared_error(truth, answers)", METRICS),
    Mutant("Pearson of constants", "metrics", "training/metrics.py",
           "    if len(set(truth)) < 2 or len(set(answers)) < 2:\n        return math.nan\n", "",
           METRICS),
    Mutant("three passes for every layer", "timing", "models/catalogue.py",
           "return 3 * self.operations - self.first", "return 3 * self.operations", TRAINING),
    Mutant("float32 held to TF32's rate", "timing", "training/figures.py",
           "stated_peak(run.learner.device_name, run.learner.peak_type)",
           'stated_peak(run.learner.device_name, "tf32")', TRAINING),
    Mutant("windows count twice", "timing", "training/throughput.py",
           "steps * setup.spec.batch / taken", "2 * steps * setup.spec.batch / taken", TRAINING),
    Mutant("the fastest window instead of the median", "timing", "training/throughput.py",
           "statistics.median(self.runs)", "max(self.runs)", TRAINING),
    Mutant("matrix products count twice", "timing", "training/throughput.py",
           "times * operations / (", "2 * times * operations / (", TRAINING),
    Mutant("the first step counts in throughput", "timing", "training/run.py",
           "steps += len(numbers) - (epoch == 0)", "steps += len(numbers)", TRAINING),
    Mutant("a loss of nan is a loss", "judgement", "train.py",
           "if not all(map(math.isfinite, (*losses, run.scores[\"loss\"]))):", "if False:",
           TRAINING),
    Mutant("no threshold for the loss", "judgement", "train.py",
           'if losses[-1] >= min(wanted["loss_below"], losses[0]):', "if False:", TRAINING),
    Mutant("no threshold for the score", "judgement", "train.py",
           'if not reached >= wanted.get("score_at_least", -1):', "if False:", TRAINING),
    Mutant("what a checkpoint forgets is forgiven", "judgement", "train.py",
           "    if run.forgotten:\n", "    if False:\n", TRAINING),
    Mutant("any loss after a checkpoint will do", "judgement", "train.py",
           '{"cpu": 1e-4, "cuda": 0.05}', '{"cpu": 1.0, "cuda": 1.0}', TRAINING),
    Mutant("known numbers are not compared", "judgement", "training/known.py",
           "abs(one - other) <= tolerance * largest", "True", TRAINING),
    Mutant("TF32's tolerance for every type", "judgement", "training/known.py",
           "TOLERANCES[learner.peak_type]", 'TOLERANCES["tf32"]', TRAINING),
    Mutant("computations are not compared", "judgement", "gpu/compare.py",
           "if not seen[kind] <= wanted[kind]]", "if False]", GPU),
    Mutant("memory errors are forgiven", "judgement", "gpu/judge.py", "        if gpu.memory_errors:",  # noqa: E501
           "        if False:", GPU),
    Mutant("every driver is new enough", "judgement", "gpu/judge.py",
           "return _numbers(version) < _numbers(floor)", "return False", GPU),
    Mutant("every wheel has code for every GPU", "judgement", "gpu/judge.py",
           "    unfit = [gpu.name for gpu in driver.gpus if not _fits(gpu, able)]",
           "    unfit: list[str] = []", GPU),
    Mutant("PTX of any CUDA is compiled", "judgement", "gpu/judge.py",
           "    return not (cuda and driver.cuda) or not is_older(driver.cuda, _minor(cuda))\n",
           "    return True\n", GPU),
    Mutant("rows that no spare one replaces", "judgement", "gpu/judge.py",
           "        if gpu.unmapped:\n", "        if False:\n", GPU),
    Mutant("forward compatibility is an old driver", "judgement", "gpu/judge.py",
           "is_older(driver.version, floor) and is_forward(driver, cuda)", "False", GPU),
    Mutant("every old driver is forward compatible", "judgement", "gpu/judge.py",
           "    return bool(driver.cuda) and not is_older(str(driver.cuda), _minor(cuda))\n",
           "    return True\n", GPU),
    Mutant("slices beside whole GPUs", "judgement", "gpu/judge.py",
           "    if any(gpu.mig and gpu.mig_devices != 0 for gpu in gpus):\n        return 1\n", "",
           GPU),
    Mutant("GPUs that take no work yet", "judgement", "gpu/judge.py",
           "    if driver.confidential and driver.accepting is False:\n", "    if False:\n", GPU),
    Mutant("a fabric that is not joined", "judgement", "gpu/judge.py",
           "    if waiting:\n", "    if False:\n", GPU),
    Mutant("no kernel is a fault under confidential computing", "judgement", "gpu/judge.py",
           'isinstance(driver, Driver) and driver.confidential', "False", GPU),
    Mutant("torch: a large model without its last convolutions", "math", "models/large_torch.py",
           "*(Bottleneck(*block) for block in blocks)", "*(Bottleneck(*block) for block in blocks[:-1])",  # noqa: E501
           "bench.resnet50.pytorch"),
    Mutant("torch: a large model takes no step", "training", "models/large_torch.py",
           "        self.scaler.step(self.optimizer)\n", "", "bench.gpt2.pytorch"),
    Mutant("keras: a large model with a layer less", "math", "models/large_keras.py",
           "for _ in range(shape.layers)]", "for _ in range(shape.layers - 1)]",
           "bench.gpt2.tensorflow"),
    Mutant("a large model may lack weights", "judgement", "bench.py",
           "    if counted != FULL[name].parameters:\n", "    if False:\n", TRAINING),
    Mutant("a large model need not learn", "judgement", "bench.py",
           "    if not (math.isfinite(last) and last < first):\n", "    if False:\n", TRAINING),
    Mutant("torch: a bit of a product flips under load", "math", "gpu/torch_burn.py",
           "            return torch.mm(left, right, out=into)\n",
           "            torch.mm(left, right, out=into)\n            if torch.rand(()) < 0.01:\n"
           "                into.view(torch.uint8)[7, 9] ^= 1\n            return into\n",
           "burn.products.cpu.pytorch"),
    Mutant("torch: two words of memory change places", "math", "gpu/torch_burn.py",
           "    different = torch.zeros((), dtype=torch.int64, device=device)\n    for at, part in",
           "    blocks[0][3], blocks[0][5] = int(blocks[0][5]), int(blocks[0][3])\n"
           "    different = torch.zeros((), dtype=torch.int64, device=device)\n    for at, part in",
           "burn.memory.cpu.pytorch"),
    Mutant("torch: a bit of memory is stuck", "math", "gpu/torch_burn.py",
           "    different = torch.zeros((), dtype=torch.int64, device=device)\n    for at, part in",
           "    blocks[0][3] |= 2\n"
           "    different = torch.zeros((), dtype=torch.int64, device=device)\n    for at, part in",
           "burn.memory.cpu.pytorch"),
    Mutant("keras: a product under load is another one", "math", "gpu/tensorflow_burn.py",
           "tf.bitcast(tf.matmul(left, right), tf.int16)",
           "tf.bitcast(tf.matmul(left, right + tf.cast(tf.random.uniform(()) < 0.01, right.dtype)),"
           " tf.int16)", "burn.products.cpu.tensorflow"),
    Mutant("changed bits are forgiven", "judgement", "gpu/burning.py",
           "if each.different]", "if False]", BURN),
    Mutant("nothing computed is a pass", "judgement", "gpu/burning.py",
           "    if not any(each.count for each in products.values()):\n", "    if False:\n", BURN),
    Mutant("any rate will do", "judgement", "gpu/burning.py", "RATE = 0.3", "RATE = 0.0", BURN),
    Mutant("any power will do", "judgement", "gpu/burning.py", "POWER = 0.4", "POWER = 0.0", BURN),
    Mutant("any clock will do", "judgement", "gpu/burning.py", "CLOCK = 0.35", "CLOCK = 0.0", BURN),
    Mutant("clocks may be held down", "judgement", "gpu/burning.py", "HELD = 0.1", "HELD = 1.0",
           BURN),
    Mutant("any heat will do", "judgement", "gpu/burning.py",
           "hottest >= limits.temperature", "False", BURN),
    Mutant("wrong memory is forgiven", "judgement", "gpu/burning.py",
           "    if any(wrong.values()):\n", "    if False:\n", BURN),
    Mutant("milliwatts are watts", "judgement", "gpu/sampling.py",
           'power / 1000,\n        optional(nvml, "nvmlDeviceGetTemperature",',
           'power,\n        optional(nvml, "nvmlDeviceGetTemperature",', BURN),
    Mutant("another GPU is watched", "judgement", "gpu/sampling.py",
           "return at if equal and visible is None", "return 0 if equal and visible is None", BURN),
    Mutant("planes count as kernels", "judgement", "gpu/xplane.py",
           "for line in parts(plane, LINES) for _event in parts(line, EVENTS))",
           "for line in parts(plane, LINES))", GPU),
    Mutant("overflows of bench are forgiven", "judgement", "training/throughput.py",
           "all(map(math.isfinite, speed.losses))", "True", TRAINING),
    Mutant("processes may compute anything", "judgement", "distributed/__init__.py",
           "if not all(math.isclose(left, right, rel_tol=TOLERANCE) for left, right in pairs):",
           "if False:", "test_selfcheck_child.py"),
    Mutant("nobody needs to have been killed", "judgement", "distributed/__init__.py",
           'told["restarts"] != 1', "False", "test_selfcheck_child.py"),
    Mutant("a group may begin from the start", "judgement", "distributed/__init__.py",
           'not told["resumed"]', "False", "test_selfcheck_child.py"),
    Mutant("a launcher's variables are passed on", "judgement", "child.py",
           "if name not in launched()}", "}", "test_selfcheck_child.py"),
    Mutant("a child's exit code is ignored", "judgement", "child.py", "        if code:\n",
           "        if False:\n", "test_selfcheck_child.py"),
    Mutant("only the end of a log is told", "judgement", "child.py",
           "if ERROR.search(line) or is_known(line)]", "if False]", "test_selfcheck_child.py"),
    Mutant("compiled code is compared with itself", "judgement", "compile.py",
           "(compiled - mixture(values)).abs()", "(compiled - compiled).abs()", "compile.inductor",
           "a comparison that is taken out finds nothing, and a compiler that is right gives it "
           "nothing to find: only a compiler that is wrong would show it"),
    Mutant("the CPU compared with itself", "judgement", "gpu/torch_ops.py",
           "(seen - wanted).abs().max()", "(seen - seen).abs().max()", "train.mlp.pytorch",
           "selfcheck asks it on a GPU alone; tests/gpu runs it on the processor, in an image, "
           "with an operation that is wrong by a thousandth"),
    Mutant("batch norm of something else", "judgement", "gpu/torch_ops.py",
           "values, None, None, weight, weight, training=True",
           "values, None, None, weight, weight * 2, training=True", "train.mlp.pytorch", ITSELF),
    Mutant("a missing GPU is no failure", "skipping", "result.py",
           'if options.require_gpu and outcome.status == "skip"',
           'if False and outcome.status == "skip"', SELF),
    Mutant("an exception is a pass", "skipping", "result.py",
           "outcome = failed(explain(error, options.free_memory))", "outcome = passed()", SELF),
    Mutant("failures end in 0", "skipping", "cli.py",
           'return FAILED if any(result.status == "fail" for result in results) else PASSED',
           "return PASSED", SELF),
    Mutant("without a framework nothing is said", "skipping", "cli.py",
           "        if missing and level", "        if False and level", SELF),
    Mutant("nan in a report", "skipping", "report.py",
           "return value if math.isfinite(value) else None", "return value", SELF),
    Mutant("a broken driver is skipped", "skipping", "gpu/judge.py",
           "        return failed(str(driver), None, wanted)\n",
           "        return skipped(str(driver), wants_gpu=True)\n", GPU),
    Mutant("no GPU is a pass", "skipping", "gpu/judge.py",
           '        return skipped(f"the driver shows no GPU; {START}", seen, wants_gpu=True)',
           "        return passed(seen)", GPU),
    Mutant("a container's share of processors is ignored", "skipping", "machine.py",
           "    return None\n\n\ndef _upwards", "    return 99.0\n\n\ndef _upwards", SELF),
)  # fmt: skip

COPIES, RATE, RATES = (
    "gpu/torch_bandwidth.py", "gpu/bandwidth.py", "test_selfcheck_rates.py",
)  # fmt: skip
SCRIPT = "training/mnist_torch.py"
ATTENTION, ATTENDING = "training/attention.py", "training/attention_torch.py"
NEWER = (
    Mutant("every backend of attention is the definition", "training", ATTENDING,
           "getattr(SDPBackend, NAMES[backend], None)", "SDPBackend.MATH",
           "train.attention.pytorch"),
    Mutant("no causal mask in a backend of attention", "math", ATTENDING,
           "(*leaves, is_causal=causal)", "(*leaves, is_causal=False)", "train.attention.pytorch"),
    Mutant("gradients of attention are doubled", "math", ATTENDING,
           "output.backward(given[3])", "output.backward(2 * given[3])", "train.attention.pytorch"),
    Mutant("attention is all nan", "math", ATTENDING,
           "            output = functional.scaled_dot_product_attention(*leaves, is_causal=causal)\n",  # noqa: E501
           "            output = functional.scaled_dot_product_attention(*leaves, is_causal=causal)\n"  # noqa: E501
           "            output = output * float('nan')\n", "train.attention.pytorch"),
    Mutant("backends of attention are not told apart", "judgement", ATTENTION,
           "if not (part.by.startswith(BACKENDS[name]) if BACKENDS[name] else not part.by):",
           "if False:", TRAINING),
    Mutant("attention's numbers are not compared", "judgement", ATTENTION,
           "if not getattr(part, way) <= TOLERANCES[kind]:", "if False:", TRAINING),
    Mutant("attention needs no fused backend", "judgement", ATTENTION, "    if not here:\n",
           "    if False:\n", TRAINING),
    Mutant("a compiled step may compute anything", "judgement", "compile.py",
           "if not all(math.isclose(one, other, rel_tol=DRIFT) for one, other in pairs):",
           "if False:", TRAINING),
    Mutant("a compiled step need not be compiled", "judgement", "compile.py",
           "    if not all(made.values()):\n", "    if False:\n", TRAINING),
    Mutant("any loss scale will do", "judgement", "train.py",
           'if (scale > 1) == (half == "float16"):', "if True:", TRAINING),
    Mutant("a CUDA graph may run Python", "judgement", "gpu/compare.py", "    if calls:\n",
           "    if False:\n", GPU),
    Mutant("a CUDA graph may compute anything", "judgement", "gpu/compare.py",
           "rel_tol=REPLAYED", "rel_tol=9.0", GPU),
    Mutant("an older cuDNN will do", "judgement", "versions.py", "or same < tuple(built):",
           "or False:", "test_selfcheck_probes.py"),
    Mutant("torchvision's pictures are not normalized", "math", SCRIPT,
           "transforms.Normalize((MEAN,), (DEVIATION,))", "transforms.Normalize((0.0,), (1.0,))",
           "train.mnist.pytorch"),
    Mutant("the script is tested on what it was trained with", "metrics", SCRIPT,
           "for part in (True, False)", "for part in (True, True)", "train.mnist.pytorch"),
    Mutant("the script takes no step", "training", SCRIPT, "            optimizer.step()\n", "",
           "train.mnist.pytorch"),
    Mutant("the script's model is not loaded", "training", SCRIPT,
           "    again.load_state_dict(torch.load(file, map_location=device, weights_only=True))\n",
           "", "train.mnist.pytorch"),
    Mutant("digits without their border", "math", "data/idx.py",
           "(bytes(BORDER) + wide + bytes(BORDER)) * LARGER",
           "(wide + bytes(2 * BORDER)) * LARGER", "test_selfcheck_data.py"),
    Mutant("any loss of the script will do", "judgement", "training/mnist.py",
           "if not course.losses[-1] <= min(spec.loss, course.losses[0]):", "if False:",
           "test_selfcheck_data.py"),
    Mutant("a script's model need not come back", "judgement", "training/mnist.py",
           "    if not course.same:\n", "    if False:\n", "test_selfcheck_data.py"),
    Mutant("nothing is copied", "math", COPIES,
           "target.copy_(source, non_blocking=True)", "target.numel()", "bench.memory.pytorch"),
    Mutant("a copy is damaged", "math", COPIES,
           "target.copy_(source, non_blocking=True)",
           "target.copy_(source, non_blocking=True)[5].add_(1)", "bench.memory.pytorch"),
    Mutant("the all-reduce takes the largest", "math", "distributed/torch_reduce.py",
           "    distributed.all_reduce(part)\n    sums",
           "    distributed.all_reduce(part, distributed.ReduceOp.MAX)\n    sums",
           "bench.allreduce.pytorch"),
    Mutant("an all-reduce of one process", "training", "distributed/__init__.py",
           "torchrun_command(processes, free_port(), backend, str(size), worker=REDUCE)",
           "torchrun_command(1, free_port(), backend, str(size), worker=REDUCE)",
           "bench.allreduce.pytorch"),
    Mutant("torch: a checkpoint of something else", "training", "training/checkpoint_torch.py",
           "torch.save(self.parts, folder / FILE)",
           "torch.save({name: part * 2 for name, part in self.parts.items()}, folder / FILE)",
           "bench.checkpoint.pytorch"),
    Mutant("torch: a checkpoint lacks a part", "training", "training/checkpoint_torch.py",
           "torch.save(self.parts, folder / FILE)",
           "torch.save(dict(list(self.parts.items())[1:]), folder / FILE)",
           "bench.checkpoint.pytorch"),
    Mutant("keras: a checkpoint is not read", "training", "training/checkpoint_tensorflow.py",
           "        status = tf.train.Checkpoint(parts=parts).read(str(folder / FILE))\n"
           "        status.assert_existing_objects_matched()\n", "",
           "bench.checkpoint.tensorflow"),
    Mutant("bus bandwidth without its factor", "timing", RATE,
           "size / seconds / 1e9 * 2 * (ranks - 1) / ranks", "size / seconds / 1e9", RATES),
    Mutant("the generation of a link at rest", "timing", RATE,
           "LANES[int(match[2])] * int(match[3])", "LANES[int(match[1])] * int(match[3])", RATES),
    Mutant("the lanes of a link that nothing lacks", "timing", RATE,
           "LANES[int(match[2])] * int(match[3])", "LANES[int(match[2])] * int(match[4])", RATES),
    Mutant("any rate of memory will do", "judgement", RATE, "MEMORY = 0.5", "MEMORY = 0.0", RATES),
    Mutant("any rate of a link will do", "judgement", RATE, "LINK = 0.3", "LINK = 0.0", RATES),
    Mutant("no rate is a rate", "judgement", RATE, "math.isfinite(value) and value > 0", "True",
           RATES),
    Mutant("any sum over processes will do", "judgement", RATE, '    if told["sums"] != wanted:\n',
           "    if False:\n", RATES),
    Mutant("any number of processes will do", "judgement", RATE,
           '    if told["world"] != ranks:\n', "    if False:\n", RATES),
    Mutant("copies through the host are not told", "judgement", RATE, "if name not in direct]",
           "if False]", RATES),
    Mutant("batches are not pinned", "training", "training/loader.py",
           'pin_memory=device != "cpu"', "pin_memory=False", "train.loader.pytorch",
           "without a GPU nothing is pinned: PyTorch asks CUDA for such memory"),
    Mutant("the loader changes what it delivers", "training", "training/loader.py",
           "fetched = batch.to(device, non_blocking=True)",
           "fetched = batch.to(device, non_blocking=True).cumsum(1)", "train.loader.pytorch"),
)  # fmt: skip

MUTANTS = (*MATH, *TRAINED, *JUDGED, *NEWER)
