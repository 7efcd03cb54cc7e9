"""What the devel flavour adds: tools to write, debug and watch a training with."""

from __future__ import annotations

import pytest

from tests.image.box import Box

pytestmark = pytest.mark.flavour("devel")

EXTENSION = """
import json, torch
from torch.utils.cpp_extension import load_inline
source = "int twice(int x) { return 2 * x; }"
print(json.dumps(load_inline("probe", source, functions=["twice"], verbose=False).twice(21)))
"""


@pytest.mark.parametrize(
    "command",
    [
        "git --version", "git lfs version", "gdb --version", "cmake --version", "ninja --version",
        "make --version", "g++ --version", "curl --version", "wget --version", "ssh -V",
        "jupyter lab --version", "tensorboard --version_tb", "nvitop --version",
    ],
)  # fmt: skip
def test_the_tools_run(box: Box, command: str) -> None:
    assert box.dev.run(command).rc == 0


@pytest.mark.parametrize("module", ["transformers", "tensorboard", "debugpy", "nvitop"])
def test_the_libraries_import(box: Box, module: str) -> None:
    name = box.python(f"import json, {module}; print(json.dumps({module}.__name__))")
    assert name == module


def test_transformers_runs_a_model_made_from_a_configuration(box: Box) -> None:
    shape = box.python(
        "import json, torch, transformers as t\n"
        "c = t.BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2,\n"
        "                 intermediate_size=64, vocab_size=100)\n"
        "out = t.BertModel(c)(torch.ones(1, 5, dtype=torch.long))\n"
        "print(json.dumps(list(out.last_hidden_state.shape)))"
    )
    assert shape == [1, 5, 32]


def test_tensorboard_files_are_written_and_read(box: Box) -> None:
    tags = box.python(
        "import json, tempfile\n"
        "from torch.utils.tensorboard import SummaryWriter\n"
        "from tensorboard.backend.event_processing.event_accumulator import EventAccumulator\n"
        "folder = tempfile.mkdtemp()\n"
        "with SummaryWriter(folder) as writer: writer.add_scalar('loss', 1.0, 0)\n"
        "events = EventAccumulator(folder); events.Reload()\n"
        "print(json.dumps(events.Tags()['scalars']))"
    )
    assert tags == ["loss"]


def test_a_c_plus_plus_extension_is_built_and_loaded(box: Box) -> None:
    result = box.dev.run("TORCH_EXTENSIONS_DIR=$(mktemp -d) python -c %s", EXTENSION)
    assert result.rc == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "42"
