"""PyTorch's attention, by one backend at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.nn import functional

from ..gpu.torch_ops import AMPERE, precise
from ..training.attention import Part

NAMES = {
    "math": "MATH",
    "flash": "FLASH_ATTENTION",
    "efficient": "EFFICIENT_ATTENTION",
    "cudnn": "CUDNN_ATTENTION",
}
NONE = ("No available kernel", "No viable backend")  # PyTorch's words
SHAPE = (2, 4, 128, 64)  # pictures, heads, places, width
DEEP = 3  # nodes from the output, among which the backend's is


def computed(backend: str, device: str) -> dict[str, Part]:
    """Compute attention by this backend in every type that it has here."""
    choose = _choice(backend)
    parts: dict[str, Part] = {}
    if choose is None:
        return parts
    for kind in _kinds(device):
        try:
            parts[kind] = _part(choose, getattr(torch, kind), device)
        except RuntimeError as error:
            if not any(text in str(error) for text in NONE):
                raise
    return parts


def _kinds(device: str) -> tuple[str, ...]:
    if device == "cpu":
        return ("float32", "bfloat16")
    new = torch.cuda.get_device_capability() >= AMPERE
    return ("float32", "float16", *(("bfloat16",) if new else ()))


def _choice(backend: str) -> Callable[[], AbstractContextManager[Any]] | None:
    """Return what leaves this backend alone; None where this PyTorch does not know it."""
    try:
        from torch.nn.attention import SDPBackend, sdpa_kernel
    except ImportError:  # up to PyTorch 2.2
        flags = {
            f"enable_{name}": name == {"efficient": "mem_efficient"}.get(backend, backend)
            for name in ("math", "flash", "mem_efficient")
        }
        return (lambda: torch.backends.cuda.sdp_kernel(**flags)) if any(flags.values()) else None
    chosen = getattr(SDPBackend, NAMES[backend], None)
    return None if chosen is None else (lambda: sdpa_kernel([chosen]))


def _part(
    choose: Callable[[], AbstractContextManager[Any]], kind: torch.dtype, device: str
) -> Part:
    torch.manual_seed(1)
    given = [(torch.rand(SHAPE) * 2 - 1).to(device, kind) for _ in range(4)]
    names: set[str] = set()
    forward, backward = [], []
    for causal in (False, True):
        leaves = [part.clone().requires_grad_() for part in given[:3]]
        with choose(), precise(allow_tf32=False):
            output = functional.scaled_dot_product_attention(*leaves, is_causal=causal)
            names |= {name for name in _nodes(output.grad_fn, DEEP) if "Attention" in name}
            output.backward(given[3])
        wide = [part.double().requires_grad_() for part in given[:3]]
        wanted = _defined(*wide, causal=causal)
        wanted.backward(given[3].double())
        forward.append(_difference(output, wanted))
        pairs = zip(leaves, wide, strict=True)
        backward += [_difference(one.grad, other.grad) for one, other in pairs]
    return Part(", ".join(sorted(names)), _largest(forward), _largest(backward))


def _defined(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, causal: bool
) -> torch.Tensor:
    """Compute softmax(query key^T / sqrt(width)) value; `causal` hides later words."""
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    if causal:
        ahead = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(ahead, -torch.inf)
    return scores.softmax(-1) @ value


def _largest(values: list[float]) -> float:
    """Return the largest; nan where one is, which Python's own max may pass over."""
    return float(torch.tensor(values, dtype=torch.float64).max())


def _difference(seen: Any, wanted: Any) -> float:
    """Return the largest difference, as a part of the largest value; nan where one is nan."""
    seen, wanted = seen.detach().double(), wanted.detach()
    return float((seen - wanted).abs().max() / wanted.abs().max())


def _nodes(node: Any, depth: int) -> Iterator[str]:
    """Name the nodes of the autograd graph that led to an output."""
    if node is not None and depth:
        yield node.name()
        for before, _place in node.next_functions:
            yield from _nodes(before, depth - 1)
