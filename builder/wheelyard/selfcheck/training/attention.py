"""Attention by every backend of PyTorch, forward and backward, against its definition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from ..frameworks import import_framework
from ..gpu.compare import TOLERANCES
from ..result import Outcome, failed, passed

# What the node of the autograd graph is called that a backend leaves behind.
BACKENDS = {
    "math": "",
    "flash": "ScaledDotProductFlashAttention",
    "efficient": "ScaledDotProductEfficientAttention",
    "cudnn": "ScaledDotProductCudnnAttention",
}
Parts = Mapping[str, "Part"]  # by type


@dataclass(frozen=True, slots=True)
class Part:
    """One backend in one type: what computed, and the largest relative differences."""

    by: str
    forward: float
    backward: float


def check_attention(device: str) -> Outcome:
    """Check that each backend here computes attention and its gradients by itself."""
    import_framework("pytorch")
    from ..training import attention_torch

    return judge({name: attention_torch.computed(name, device) for name in BACKENDS}, device)


def judge(backends: Mapping[str, Parts], device: str) -> Outcome:
    """Compare every backend's numbers with the definition's; a processor has two, a GPU more."""
    seen = {
        name: {kind: asdict(part) for kind, part in parts.items()}
        for name, parts in backends.items()
    }
    for name, parts in backends.items():
        for kind, part in parts.items():
            if not (part.by.startswith(BACKENDS[name]) if BACKENDS[name] else not part.by):
                ran = part.by or "the definition's own steps"
                return failed(f"{name} was asked for in {kind}, and {ran} computed", seen)
            for way in ("forward", "backward"):
                if not getattr(part, way) <= TOLERANCES[kind]:  # catches nan
                    return failed(f"{name} in {kind} is wrong {way}", seen, TOLERANCES)
    if not backends.get("math"):
        return failed("the math backend did not compute", seen)
    here = [name for name in BACKENDS if name != "math" and backends.get(name)]
    if not here:
        return failed(f"attention has no fused backend on this {device}", seen)
    absent = [name for name in BACKENDS if not backends.get(name)]
    return passed(seen, TOLERANCES, f"not on this device: {', '.join(absent)}" if absent else None)
