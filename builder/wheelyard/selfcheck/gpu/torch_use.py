"""How PyTorch uses the GPUs: its memory, NCCL between them, the profiler."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch

from ..gpu.compare import ONE_GPU, judge_graph, no_kernel
from ..result import Outcome, failed, passed

BLOCK = 16 << 20  # bytes
STEPS = 6  # of a training, as a CUDA graph


def memory() -> Outcome:
    """Check that freed memory comes back, and that the gaps are used again."""
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    blocks = [torch.empty(BLOCK, dtype=torch.uint8, device="cuda") for _ in range(32)]
    del blocks[::2]
    reserved = torch.cuda.memory_reserved()
    blocks += [torch.empty(BLOCK, dtype=torch.uint8, device="cuda") for _ in range(16)]
    seen = {
        "peak_mib": (torch.cuda.max_memory_allocated() - before) / 2**20,
        "holes_reused": torch.cuda.memory_reserved() <= reserved,
        "fragmentation": round(1 - torch.cuda.memory_allocated() / torch.cuda.memory_reserved(), 4),
    }
    del blocks
    torch.cuda.empty_cache()
    seen["left_mib"] = (torch.cuda.memory_allocated() - before) / 2**20
    wanted = {"peak_mib": 32 * BLOCK / 2**20, "holes_reused": True, "left_mib": 0.0}
    if any(seen[name] != value for name, value in wanted.items()):
        return failed("GPU memory is not handed out and taken back as it should be", seen, wanted)
    return passed(seen, wanted)


def allreduce() -> Outcome:
    """Add up a tensor over all GPUs by NCCL; one GPU is enough to run it."""
    from torch.cuda import nccl

    count = torch.cuda.device_count()
    tensors = [torch.full((1 << 20,), float(at + 1), device=f"cuda:{at}") for at in range(count)]
    if not nccl.is_available(tensors):
        return failed("PyTorch was built without NCCL")
    nccl.all_reduce(tensors)
    for at in range(count):
        torch.cuda.synchronize(at)
    wanted = count * (count + 1) / 2
    seen = {"gpus": count, "sums": [[float(part.min()), float(part.max())] for part in tensors]}
    if any(pair != [wanted, wanted] for pair in seen["sums"]):
        return failed("NCCL's sum over the GPUs is wrong", seen, wanted)
    return passed(seen, wanted, ONE_GPU if count == 1 else None)


def graph() -> Outcome:
    """Replay a training step that was captured as a CUDA graph: it is the eager one."""
    return judge_graph(*graph_losses(captured, "cuda"))


def graph_losses(
    capture: Callable[[Callable[[], None]], Callable[[], object]], device: str
) -> tuple[list[float], list[float], int]:
    """Return losses of eager steps and of replayed ones, and how often Python ran in a replay."""
    torch.manual_seed(1)
    batches = torch.randn(STEPS, 64, 32, device=device)
    truth = torch.randint(10, (64,), device=device)
    eager, model = (_small().to(device) for _ in range(2))
    place, loss = batches[0].clone(), torch.zeros((), device=device)
    calls = 0

    def step() -> None:
        nonlocal calls
        calls += 1
        loss.copy_(_train_step(model, place, truth))

    replay = capture(step)
    model.load_state_dict(eager.state_dict())  # what warming up has changed
    calls = 0
    wanted, seen = [], []
    for batch in batches:
        wanted.append(float(_train_step(eager, batch, truth)))
        place.copy_(batch)
        replay()
        seen.append(float(loss))
    return wanted, seen, calls


def captured(step: Callable[[], None]) -> Callable[[], object]:
    """Warm up on another stream, then capture; as PyTorch's notes on CUDA graphs have it."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    whole = torch.cuda.CUDAGraph()
    with torch.cuda.graph(whole):
        step()
    replay: Callable[[], object] = whole.replay
    return replay


def _small() -> torch.nn.Module:
    layers = (torch.nn.Linear(32, 32), torch.nn.GELU(), torch.nn.Linear(32, 10))
    return torch.nn.Sequential(*layers)


def _train_step(model: torch.nn.Module, inputs: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Take one step of plain gradient descent, which keeps no state; return the loss before it."""
    loss = torch.nn.functional.cross_entropy(model(inputs), truth)
    weights = list(model.parameters())
    with torch.no_grad():
        for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
            weight -= 0.5 * gradient
    return loss.detach()


def trace() -> Outcome:
    """Check that the profiler sees kernels of a training step, which takes CUPTI."""
    from torch.profiler import ProfilerActivity, profile

    model = torch.nn.Linear(256, 256).cuda()
    inputs = torch.rand(64, 256, device="cuda")
    model(inputs).sum().backward()  # whatever is made on first use is made now
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        model(inputs).sum().backward()
        torch.cuda.synchronize()
    kernels = sorted(
        {
            event.name[:80]
            for event in profiled.events() or ()
            if event.device_type == torch.autograd.DeviceType.CUDA
        }
    )
    seen = {"kernels": len(kernels), "first": kernels[:3]}
    name = torch.cuda.get_device_name()
    if not kernels:
        return no_kernel(name, seen)
    return passed(seen)
