"""Choose where a model runs."""

from __future__ import annotations

from selfcheck.result import Options


class NoGpuError(RuntimeError):
    """A GPU was asked for and the framework sees none."""


def pick_device(options: Options) -> str:
    """`cpu` or `cuda`; raises NoGpuError when the options insist on a GPU that is not there."""
    import torch

    if options.device == "cpu" and not options.require_gpu:
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if options.require_gpu or options.device == "cuda":
        raise NoGpuError("PyTorch sees no GPU; start the container with --gpus all")
    return "cpu"
