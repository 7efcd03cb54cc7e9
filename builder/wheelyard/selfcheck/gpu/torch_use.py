"""How PyTorch uses the GPUs: its memory, NCCL between them, the profiler."""

from __future__ import annotations

import gc

import torch

from ..gpu.compare import ONE_GPU, no_kernel
from ..result import Outcome, failed, passed

BLOCK = 16 << 20  # bytes


def memory() -> Outcome:
    """Memory comes back when it is freed, and holes are used again."""
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
    """NCCL adds up a tensor over all GPUs; one is enough to run it."""
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
