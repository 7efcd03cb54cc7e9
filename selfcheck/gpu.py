"""Check that driver, GPU and framework work together."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache, partial

from selfcheck.driver import Driver, NoDriverError, driver_floor, is_older, read_driver
from selfcheck.result import Check, Options, Outcome, failed, passed, skipped

# float32 products of 512 terms between -1 and 1, TF32 off: rounding stays well below this.
SIZE, TOLERANCE = 512, 1e-3


def checks(options: Options) -> Iterator[Check]:
    """Driver, devices, and one computation compared with the CPU."""
    yield "gpu.driver", partial(check_driver, options)
    yield "gpu.devices", check_devices
    yield "gpu.matmul", check_matmul


@cache
def find_driver() -> Driver | NoDriverError:
    """The driver, or the error that says why there is none; asked once."""
    try:
        return read_driver()
    except NoDriverError as error:
        return error


def check_driver(options: Options) -> Outcome:
    """The driver is new enough for the image's CUDA."""
    cuda = options.cell.cuda if options.cell else built_cuda()
    return judge_driver(find_driver(), cuda)


def built_cuda() -> str | None:
    """The CUDA version that PyTorch was built for; None for a CPU build."""
    version: str | None = importlib.import_module("torch").version.cuda
    return version


def judge_driver(driver: Driver | NoDriverError, cuda: str | None) -> Outcome:
    """Compare a driver with the floor of a CUDA version."""
    floor = driver_floor(cuda) if cuda else None
    wanted = None if floor is None else f">= {floor}"
    if isinstance(driver, NoDriverError):
        return skipped(f"{driver} (CUDA {cuda} needs driver {wanted})", wants_gpu=True)
    seen = {"driver": driver.version, "source": driver.source}
    if floor is None:
        return skipped(f"the driver floor of CUDA {cuda} is not known here", seen)
    if is_older(driver.version, floor):
        advice = "update the host's driver, or take an image with an older CUDA"
        return failed(
            f"driver {driver.version} is older than {floor}, which CUDA {cuda} needs: {advice}",
            seen, wanted,
        )  # fmt: skip
    return passed(seen, wanted)


def check_devices() -> Outcome:
    """The framework sees the GPUs that the driver shows, and its wheel has code for them."""
    driver = find_driver()
    if isinstance(driver, NoDriverError):
        return skipped(str(driver), wants_gpu=True)
    seen = [asdict(gpu) for gpu in driver.gpus]
    if not driver.gpus:
        return skipped("the driver shows no GPU; start the container with --gpus all", seen,
                       wants_gpu=True)  # fmt: skip
    import torch

    if not torch.cuda.is_available():
        return failed("the driver shows GPUs, but PyTorch cannot use them", seen)
    architectures = torch.cuda.get_arch_list()
    unfit = [gpu.name for gpu in driver.gpus if not has_code_for(gpu.capability, architectures)]
    if unfit:
        return failed(f"PyTorch's wheel has no code for {', '.join(unfit)}", seen, architectures)
    return passed(seen, architectures)


def has_code_for(capability: str, architectures: list[str]) -> bool:
    """True when machine code of the same generation, or PTX of an older one, is in the list.

    `sm_86` runs on 8.6 and later 8.x; `compute_70` is compiled by the driver for anything newer.
    A trailing letter (`sm_90a`) binds the code to exactly that capability.
    """
    device = _capability(capability.replace(".", ""))
    for architecture in architectures:
        kind, _, digits = architecture.partition("_")
        built = _capability(digits.rstrip("abcdefghijklmnopqrstuvwxyz"))
        if digits[-1:].isalpha():
            if built == device:
                return True
        elif (kind == "compute" or built[0] == device[0]) and built <= device:
            return True
    return False


def _capability(digits: str) -> tuple[int, int]:
    return int(digits[:-1]), int(digits[-1])


def check_matmul() -> Outcome:
    """A matrix product on the GPU agrees with the CPU's in float64."""
    import torch

    if not torch.cuda.is_available():
        return skipped("PyTorch sees no GPU", wants_gpu=True)
    generator = torch.Generator().manual_seed(1)
    left, right = torch.rand(2, SIZE, SIZE, generator=generator) * 2 - 1
    tf32 = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        product = (left.cuda() @ right.cuda()).cpu().double()
    finally:
        torch.backends.cuda.matmul.allow_tf32 = tf32
    difference = float((product - left.double() @ right.double()).abs().max())
    seen = {"device": torch.cuda.get_device_name(), "largest_difference": difference}
    if difference > TOLERANCE:
        return failed("the GPU's matrix product differs from the CPU's", seen, TOLERANCE)
    return passed(seen, TOLERANCE)
