"""What a framework was built for: answered without a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..frameworks import import_framework


def architectures(name: str) -> list[str]:
    """Return what the wheel has code for: `sm_90`, `compute_90` (PTX); nothing in a CPU build."""
    if name == "tensorflow":
        return list(_build_info().get("cuda_compute_capabilities", ()))
    torch = import_framework(name)
    flags = getattr(torch._C, "_cuda_getArchFlags", None)  # get_arch_list() wants a GPU
    return flags().split() if flags else []


def built_cuda(names: Sequence[str]) -> str | None:
    """Return the CUDA version that the first framework was compiled for; None for a CPU build."""
    for name in names:
        version = (
            _build_info().get("cuda_version")
            if name == "tensorflow"
            else import_framework(name).version.cuda
        )
        if version:
            return str(version)
    return None


def built_cudnn(name: str) -> tuple[int, ...] | None:
    """Return the cuDNN that the framework was compiled for, as far as it says; None: CPU build."""
    if name == "tensorflow":
        said = str(_build_info().get("cudnn_version") or "")
        return tuple(int(part) for part in said.split(".") if part.isdigit()) or None
    binding = getattr(import_framework(name)._C, "_cudnn", None)
    return None if binding is None else tuple(binding.getCompileVersion())


def _build_info() -> dict[str, Any]:
    return dict(import_framework("tensorflow").sysconfig.get_build_info())
