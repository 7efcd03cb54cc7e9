"""What the devel flavour adds: tools to write, debug and watch a training with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.image.box import Box
from wheelyard.rendering.deployments import JUPYTER_FILE
from wheelyard.system.templates import make_environment

pytestmark = pytest.mark.flavour("devel")
PYTORCH = pytest.mark.framework("pytorch")
TENSORFLOW = pytest.mark.framework("tensorflow")

TRAIN_PYTORCH = """
import json, torch, transformers as t
torch.manual_seed(0)
c = t.BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
                 intermediate_size=64, vocab_size=100, num_labels=2)
model, words = t.BertForSequenceClassification(c), torch.randint(100, (8, 5))
model.train()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
losses = []
for step in range(2):
    optimizer.zero_grad()
    out = model(words, labels=torch.arange(8) % 2)
    out.loss.backward(); optimizer.step(); losses.append(out.loss.item())
print(json.dumps([list(out.logits.shape), losses]))
"""
TRAIN_TENSORFLOW = """
import json, tensorflow as tf, transformers as t
tf.random.set_seed(0)
c = t.BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
                 intermediate_size=64, vocab_size=100, num_labels=2)
model = t.TFBertForSequenceClassification(c)
words, labels = tf.constant([[7 * i % 100, i, i + 1] for i in range(8)]), tf.range(8) % 2
losses = []
for step in range(2):
    with tf.GradientTape() as tape:
        logits = model(words).logits
        loss = tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
    for variable, slope in zip(model.trainable_variables,
                               tape.gradient(loss, model.trainable_variables)):
        if slope is not None: variable.assign_sub(0.05 * tf.convert_to_tensor(slope))
    losses.append(float(loss))
print(json.dumps([list(logits.shape), losses]))
"""
EXTENSION = """
import json, torch
from torch.utils.cpp_extension import load_inline
source = "int twice(int x) { return 2 * x; }"
print(json.dumps(load_inline("probe", source, functions=["twice"], verbose=False).twice(21)))
"""
# Compiled and linked, not run: that takes a GPU.
CUDA_EXTENSION = """
import json, os
os.environ["TORCH_CUDA_ARCH_LIST"] = "8.0"
from torch.utils.cpp_extension import load_inline
device = '''
#include <thrust/device_vector.h>
__global__ void doubled(float* x) { x[threadIdx.x] *= 2; }
torch::Tensor twice(torch::Tensor x) {
    doubled<<<1, x.numel()>>>(x.data_ptr<float>());
    return x;
}
'''
module = load_inline("cuda_probe", "torch::Tensor twice(torch::Tensor x);", device,
                     functions=["twice"], verbose=False)
print(json.dumps(callable(module.twice)))
"""
KERNEL = """
#include <cstdio>
#include <cuda_runtime.h>
__global__ void doubled(float* x) { x[threadIdx.x] *= 2; }
int main() { int version = 0; cudaRuntimeGetVersion(&version); printf("%d\\n", version); }
"""

ASK_JUPYTER = r"""
import json, os, re, socket, subprocess, time, urllib.error, urllib.request
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
ask = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
server = subprocess.Popen(
    ["jupyter", "lab", "--no-browser", "--ip=0.0.0.0", f"--port={port}"],
    env={**os.environ, "JUPYTER_CONFIG_PATH": "/tmp"}, stderr=subprocess.PIPE, text=True)
codes = []
try:
    found = (re.search(r"/lab\?token=(\w+)", line) for line in server.stderr)
    token = next(match for match in found if match)[1]
    for _ in range(300):  # it says where it listens before it does
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    for query in ("", f"?token={token}"):
        try:
            codes.append(ask(f"http://127.0.0.1:{port}/api/contents{query}").status)
        except urllib.error.HTTPError as error:
            codes.append(error.code)
finally:
    server.kill()
print(json.dumps(codes))
"""


def jupyter_settings() -> bytes:
    """What `wheelyard deploy` writes beside its files."""
    environment = make_environment(Path(__file__).parents[2] / "templates")
    return environment.get_template(f"deploy/{JUPYTER_FILE}.j2").render().encode()


@pytest.mark.parametrize(
    "command",
    [
        "git --version", "git lfs version", "gdb --version", "cmake --version", "ninja --version",
        "make --version", "g++ --version", "curl --version", "wget --version", "ssh -V",
        "jupyter lab --version", "tensorboard --version_tb", "nvitop --version", "ruff --version",
    ],
)  # fmt: skip
def test_the_tools_run(box: Box, command: str) -> None:
    assert box.dev.run(command).rc == 0


@pytest.mark.parametrize(
    "module",
    ["transformers", "tensorboard", "debugpy", "nvitop", "datasets", "pandas", "sklearn",
     "matplotlib.pyplot"],
)  # fmt: skip
def test_the_libraries_import(box: Box, module: str) -> None:
    name = box.python(f"import json, {module}; print(json.dumps({module}.__name__))")
    assert name == module


def test_datasets_and_pandas_hand_arrays_to_numpy(box: Box) -> None:
    """Old Datasets import beside NumPy 2 and fail here."""
    found = box.python(
        "import json, tempfile, datasets, pandas\n"
        "made = datasets.Dataset.from_pandas(pandas.DataFrame({'x': [1, 2, 3]}))\n"
        "made = made.map(lambda row: {'y': 2 * row['x']}, keep_in_memory=True)\n"
        "print(json.dumps(made.with_format('numpy')['y'][:].tolist()))"
    )
    assert found == [2, 4, 6]


def test_jupyterlab_asks_for_the_token_it_made_up(box: Box) -> None:
    """On every address, with the settings that `wheelyard deploy` writes."""
    box.put(f"/tmp/{JUPYTER_FILE}", jupyter_settings())
    assert box.python(ASK_JUPYTER) == [403, 200]


def test_jupyterlab_does_not_start_without_a_token_where_others_reach_it(box: Box) -> None:
    box.put(f"/tmp/{JUPYTER_FILE}", jupyter_settings())
    start = "JUPYTER_CONFIG_PATH=/tmp timeout 60 jupyter lab --no-browser --IdentityProvider.token="
    refused = box.dev.run(f"{start} --ip=0.0.0.0")
    assert refused.rc == 1
    assert "would listen on 0.0.0.0 without a token" in refused.stderr


@PYTORCH
def test_accelerate_prepares_a_model(box: Box) -> None:
    kind = box.python(
        "import json, torch, accelerate\n"
        "model = accelerate.Accelerator(cpu=True).prepare(torch.nn.Linear(2, 2))\n"
        "print(json.dumps(type(model).__name__))"
    )
    assert kind == "Linear"


def check_training(box: Box, program: str) -> None:
    """A model made from a configuration alone learns: nothing is downloaded."""
    shape, losses = box.python(program)
    assert shape == [8, 2]
    assert losses[1] < losses[0]


@PYTORCH
def test_transformers_trains_a_model_made_from_a_configuration(box: Box) -> None:
    check_training(box, TRAIN_PYTORCH)


@TENSORFLOW
def test_transformers_trains_a_tensorflow_model_too(box: Box) -> None:
    if "pytorch" in box.image.cell["framework"].split("+"):
        pytest.skip("with PyTorch in the image, Transformers is used with that")
    check_training(box, TRAIN_TENSORFLOW)


def check_scalars(box: Box, written: str) -> None:
    """TensorBoard reads what the framework wrote into `folder`."""
    tags = box.python(
        f"import json, tempfile\nfolder = tempfile.mkdtemp()\n{written}\n"
        "from tensorboard.backend.event_processing.event_accumulator import EventAccumulator\n"
        "events = EventAccumulator(folder); events.Reload(); tags = events.Tags()\n"
        "print(json.dumps([*tags['scalars'], *tags['tensors']]))"
    )
    assert tags == ["loss"]


@PYTORCH
def test_tensorboard_reads_what_pytorch_writes(box: Box) -> None:
    check_scalars(
        box,
        "from torch.utils.tensorboard import SummaryWriter\n"
        "with SummaryWriter(folder) as writer: writer.add_scalar('loss', 1.0, 0)",
    )


@TENSORFLOW
def test_tensorboard_reads_what_tensorflow_writes(box: Box) -> None:
    check_scalars(
        box,
        "import tensorflow as tf\n"
        "with tf.summary.create_file_writer(folder).as_default():\n"
        "    tf.summary.scalar('loss', 1.0, step=0)",
    )


@PYTORCH
def test_a_c_plus_plus_extension_is_built_and_loaded(box: Box) -> None:
    result = box.dev.run("TORCH_EXTENSIONS_DIR=$(mktemp -d) python -c %s", EXTENSION)
    assert result.rc == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "42"


@pytest.fixture
def nvcc(box: Box, pins: dict[str, str]) -> str:
    """The compiler's version, where the image's CUDA comes with one."""
    if not box.image.has_cuda or int(box.image.cell["cuda"].partition(".")[0]) < 13:
        assert "nvidia-cuda-nvcc" not in pins
        pytest.skip("CUDA 11 and 12 wheels hold no nvcc, an image without CUDA needs none")
    return pins["nvidia-cuda-nvcc"]


def test_nvcc_is_the_cells_and_on_every_path(box: Box, nvcc: str) -> None:
    cuda = box.image.cell["cuda"]
    assert nvcc.startswith(f"{cuda}.")
    for command in ("nvcc --version", "bash -lc 'nvcc --version'", "$CUDA_HOME/bin/nvcc --version"):
        assert f"release {cuda}," in "".join(box.lines(command))


def test_nvcc_compiles_a_kernel_and_links_the_shared_runtime(box: Box, nvcc: str) -> None:
    box.put("/tmp/kernel.cu", KERNEL.encode())
    box.lines("nvcc -arch=sm_80 -cudart shared -o /tmp/kernel /tmp/kernel.cu")
    major, minor = box.image.cell["cuda"].split(".")
    found = box.lines("LD_LIBRARY_PATH=$CUDA_HOME/lib64 /tmp/kernel; rm /tmp/kernel /tmp/kernel.cu")
    assert found == [str(int(major) * 1000 + int(minor) * 10)]


@PYTORCH
def test_a_cuda_extension_of_pytorch_is_compiled_and_linked(box: Box, nvcc: str) -> None:
    result = box.dev.run("TORCH_EXTENSIONS_DIR=$(mktemp -d) python -c %s", CUDA_EXTENSION)
    assert result.rc == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "true"


def test_git_works_in_a_workspace_of_another_user(box: Box) -> None:
    """A folder that is mounted there is seldom dev's."""
    box.lines("git init --quiet /workspace/other", user=box.root)
    box.lines("chown -R 4321:4321 /workspace/other", user=box.root)
    try:
        said = box.lines("git config --system --get-all safe.directory")
        assert said == ["/workspace", "/workspace/*"]
        version = box.lines("git version")[0].split()[2]
        if tuple(map(int, version.split(".")[:2])) >= (2, 46):
            box.lines("git -C /workspace/other status")
        box.lines("cp -r /workspace/other/.git /workspace/", user=box.root)
        box.lines("chown -R 4321:4321 /workspace/.git", user=box.root)
        box.lines("git -C /workspace status")
    finally:
        box.root.run("rm -rf /workspace/other /workspace/.git")
