"""PyTorch under load: products compared bit by bit, and patterns in free memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from ..gpu.burning import TIMES
from ..gpu.torch_ops import AMPERE, precise
from ..machine import processor

ADA = (8, 9)  # the first with products of eight bits
BLOCK, PART = 32 << 20, 1 << 20  # words of a block of memory, and of what is compared at once
ON_CPU = 64 << 20  # bytes to try there
BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32}


def name(device: str) -> str:
    """Return the device, as its maker names it."""
    return processor() if device == "cpu" else str(torch.cuda.get_device_name(device))


def uuid(device: str) -> str | None:
    """Return what NVML knows it by; PyTorch says so from 2.4 on."""
    properties = None if device == "cpu" else torch.cuda.get_device_properties(device)
    value = getattr(properties, "uuid", None)
    return None if value is None else str(value)


def kinds(device: str) -> tuple[str, ...]:
    """Return the types to multiply in."""
    if device == "cpu":
        return ("float32", "bfloat16")
    capability = torch.cuda.get_device_capability(device)
    types = ["float32", "float16"]
    if capability >= AMPERE:
        types += ["tf32", "bfloat16"]
    if capability >= ADA and hasattr(torch, "float8_e4m3fn") and hasattr(torch, "_scaled_mm"):
        types.append("float8")
    return tuple(types)


def product(kind: str, device: str, size: int) -> Callable[[], int]:
    """Prepare a function that repeats the product and counts elements that differ."""
    generator = torch.Generator().manual_seed(1)
    left, right = (torch.rand(size, size, generator=generator) * 2 - 1 for _ in range(2))
    multiply = _multiply(kind, left.to(device), right.to(device))
    first = _bits(multiply()).clone()

    def work() -> int:
        different = torch.zeros((), dtype=torch.int64, device=device)
        for _ in range(TIMES):
            different += (_bits(multiply()) != first).sum()
        return int(different)

    return work


def _multiply(kind: str, left: torch.Tensor, right: torch.Tensor) -> Callable[[], torch.Tensor]:
    if kind == "float8":
        return _scaled(left, right)
    data_type = torch.float32 if kind == "tf32" else getattr(torch, kind)
    left, right = left.to(data_type), right.to(data_type)
    into = torch.empty_like(left)

    def work() -> torch.Tensor:
        with precise(allow_tf32=kind == "tf32"):
            return torch.mm(left, right, out=into)

    return work


def _scaled(left: torch.Tensor, right: torch.Tensor) -> Callable[[], torch.Tensor]:
    """Multiply in float8 (E4M3), sums in float32; cuBLASLt wants the right side by columns."""
    left, right = left.to(torch.float8_e4m3fn), right.to(torch.float8_e4m3fn).t()
    one = torch.ones((), device=left.device)

    def work() -> torch.Tensor:
        product = torch._scaled_mm(left, right, scale_a=one, scale_b=one, out_dtype=torch.bfloat16)
        result: torch.Tensor = product[0] if isinstance(product, tuple) else product  # up to 2.4
        return result

    return work


def _bits(values: torch.Tensor) -> torch.Tensor:
    """View the same memory as whole numbers: no nan differs from itself, and -0 is not 0."""
    return values.view(BITS[values.element_size()])


def free(device: str) -> int:
    """Return how many bytes may be tried."""
    if device == "cpu":
        return ON_CPU
    torch.cuda.empty_cache()
    return int(torch.cuda.mem_get_info(device)[0])


def wrong(pattern: int | None, device: str, size: int) -> int:
    """Fill memory with the pattern, or each word's place; count the words that differ."""
    blocks = [torch.empty(length, dtype=torch.int64, device=device) for length in lengths(size)]
    for at, part in _parts(blocks):
        if pattern is None:
            torch.arange(at, at + len(part), out=part)
        else:
            part.fill_(pattern)
    different = torch.zeros((), dtype=torch.int64, device=device)
    for at, part in _parts(blocks):
        wanted = torch.arange(at, at + len(part), device=device) if pattern is None else pattern
        different += (part != wanted).sum()
    return int(different)


def _parts(blocks: Sequence[torch.Tensor]) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield small parts, which take little memory to compare, each with its first word's place."""
    at = 0
    for block in blocks:
        for part in block.split(PART):
            yield at, part
            at += len(part)


def lengths(size: int) -> Iterator[int]:
    """Yield the length in words of each block of `size` bytes."""
    for start in range(0, size // 8, BLOCK):
        yield min(BLOCK, size // 8 - start)
