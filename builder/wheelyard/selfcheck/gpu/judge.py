"""What follows from what a driver said. Pure: no GPU, no driver and no framework is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from ..gpu.compare import NO_KERNEL
from ..gpu.driver import START, BrokenDriverError, Driver, Gpu, NoDriverError
from ..result import Outcome, failed, passed, skipped

# Minor-version compatibility, Linux x86_64: CUDA Toolkit release notes, table 2.
FLOORS = {"11": "450.80.02", "12": "525.60.13", "13": "580.65.06"}
SLOW_START = "persistence mode is off: first calls wait for the driver (nvidia-smi -pm 1)"


def driver_floor(cuda: str) -> str | None:
    """Return the least driver for CUDA `12.1`; None when its major version is unknown here."""
    return FLOORS.get(cuda.split(".")[0])


def is_older(version: str, floor: str) -> bool:
    """Compare driver versions number by number: 525.147.05 is newer than 525.60.13."""
    return _numbers(version) < _numbers(floor)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def judge_driver(driver: Driver | NoDriverError, cuda: str | None) -> Outcome:
    """Compare a driver with the floor of a CUDA version."""
    floor = driver_floor(cuda) if cuda else None
    wanted = None if floor is None else f">= {floor}"
    if isinstance(driver, BrokenDriverError):
        return failed(str(driver), None, wanted)
    if isinstance(driver, NoDriverError):
        needs = f" (CUDA {cuda} needs driver {wanted})" if floor else ""
        return skipped(f"{driver}{needs}", wants_gpu=True)
    seen = {"driver": driver.version, "source": driver.source, "supports_cuda": driver.cuda}
    if cuda is None:
        return skipped("a CPU build needs no driver", seen)
    if floor is None:
        return skipped(f"the driver floor of CUDA {cuda} is not known here", seen)
    if not driver.version:
        return skipped(f"the driver does not say its version; CUDA {cuda} needs {wanted}", seen)
    if is_older(driver.version, floor) and is_forward(driver, cuda):
        return passed(
            seen, wanted,
            f"driver {driver.version} is older than {floor}: a forward compatibility package "
            f"(cuda-compat) brings CUDA {driver.cuda}; it works on data center GPUs alone",
        )  # fmt: skip
    if is_older(driver.version, floor):
        advice = "update the host's driver, or take an image with an older CUDA"
        return failed(
            f"driver {driver.version} is older than {floor}, which CUDA {cuda} needs: {advice}",
            seen, wanted,
        )  # fmt: skip
    return passed(seen, wanted)


def is_forward(driver: Driver, cuda: str) -> bool:
    """Say whether programs load a newer CUDA than the kernel's driver brings by itself.

    NVML asks the libcuda.so.1 of this process for its version, and the kernel for the driver's.
    """
    return bool(driver.cuda) and not is_older(str(driver.cuda), _minor(cuda))


def judge_devices(driver: Driver | NoDriverError) -> Outcome:
    """Check that there are GPUs with sound memory, and report what is unusual about them."""
    if isinstance(driver, BrokenDriverError):
        return failed(str(driver))
    if isinstance(driver, NoDriverError):
        return skipped(str(driver), wants_gpu=True)
    seen = {"gpus": [asdict(gpu) for gpu in driver.gpus], "links": list(driver.links)}
    if not driver.gpus:
        return skipped(f"the driver shows no GPU; {START}", seen, wants_gpu=True)
    for at, gpu in enumerate(driver.gpus):
        if gpu.unmapped:
            return failed(
                f"GPU {at} ({gpu.name}) has memory that could not be replaced by spare rows: "
                "replace the GPU", seen,
            )  # fmt: skip
        if gpu.pending:
            return failed(
                f"GPU {at} ({gpu.name}) has memory that is to be replaced by spare rows with the "
                "next reset: nvidia-smi --gpu-reset, or restart the host", seen,
            )  # fmt: skip
        if gpu.memory_errors:
            return failed(
                f"GPU {at} ({gpu.name}) has {gpu.memory_errors} uncorrected memory errors: reset "
                "it (nvidia-smi --gpu-reset), and replace it if they come back", seen,
            )  # fmt: skip
    remarks = [*_remarks(driver), *(f"nvidia-smi says: {line}" for line in driver.remarks)]
    return passed(seen, reason="; ".join(remarks) or None)


def _remarks(driver: Driver) -> list[str]:
    gpus = driver.gpus
    sliced = [str(at) for at, gpu in enumerate(gpus) if gpu.mig]
    remarks = []
    if sliced:
        alone = ", one a process, and no GPU beside it" if len(gpus) > 1 else ""
        remarks.append(f"GPU {', '.join(sliced)} in MIG mode: programs get a slice{alone}")
    if driver.confidential:
        told = "copies to and from the GPU are encrypted, and slower; profilers see nothing"
        remarks.append(f"confidential computing is on: {told}")
    if not_ready := _not_ready(driver):
        remarks.append(not_ready)
    if driver.withheld:
        remarks.append(f"{driver.withheld} GPUs of this machine are not this job's")
    for at, gpu in enumerate(gpus):
        if gpu.nvlinks and gpu.nvlinks_down:
            remarks.append(f"GPU {at}: {gpu.nvlinks_down} NVLinks are down, {gpu.nvlinks} up")
        if gpu.exclusive:
            remarks.append(f"GPU {at} takes one process at a time (nvidia-smi -c DEFAULT)")
        if gpu.slowed:
            remarks.append(f"GPU {at} is slowed down: {', '.join(gpu.slowed)}")
        if gpu.pcie and is_narrow(gpu.pcie):
            remarks.append(f"GPU {at}: PCIe generation and width are {gpu.pcie}: look at its slot")
    if any(gpu.persistence is False for gpu in gpus):
        remarks.append(SLOW_START)
    if len({gpu.name for gpu in gpus}) > 1:
        remarks.append("different GPUs: the slowest sets the pace of a joint training")
    return remarks


def is_narrow(pcie: str) -> bool:
    """Say whether fewer lanes are used than possible; a lower generation only saves power."""
    now, most = (int(lanes) for lanes in pcie.rpartition(", x")[2].split(" of x"))
    return now < most


def judge_framework(
    title: str,
    driver: Driver | NoDriverError,
    usable: int,
    architectures: Sequence[str],
    visible: str | None,
    cuda: str | None = None,
) -> Outcome:
    """Check that the framework can use the GPUs that are shown, and has code for them.

    `usable` is how many it sees, `visible` the value of CUDA_VISIBLE_DEVICES, `cuda` what the
    framework was built for.
    """
    if isinstance(driver, NoDriverError):
        broken = isinstance(driver, BrokenDriverError)
        return failed(str(driver)) if broken else skipped(str(driver), wants_gpu=True)
    if not driver.gpus:
        return skipped(f"the driver shows no GPU; {START}", wants_gpu=True)
    seen = {"driver_shows": len(driver.gpus), f"{title} sees": usable}
    wanted = list(architectures)
    if not usable and visible is not None and visible.strip() in HIDDEN:
        return skipped(_blind(title, driver, visible), seen, wants_gpu=True)
    if not usable:
        return failed(_blind(title, driver, visible), seen, wanted)
    able = architectures if _translates(driver, cuda) else machine_code(architectures)
    unfit = [gpu.name for gpu in driver.gpus if not _fits(gpu, able)]
    hidden = len(driver.gpus) - usable if visible is not None else 0
    problem = f"{title}'s wheel has no code for {', '.join(unfit)}"
    if able != architectures and all(_fits(gpu, architectures) for gpu in driver.gpus):
        problem = (
            f"{title}'s wheel has PTX of CUDA {cuda} for {', '.join(unfit)}, and this driver "
            f"compiles up to CUDA {driver.cuda}: update the host's driver"
        )
    if len(unfit) == len(driver.gpus) or (visible is not None and len(unfit) > hidden):
        return failed(problem, seen, wanted)
    if visible is None and usable < least_seen(driver.gpus):
        return failed(
            f"the driver shows {len(driver.gpus)} GPUs, {title} sees {usable}: run nvidia-smi and "
            "look for one in an error state", seen, wanted,
        )  # fmt: skip
    if unfit and visible is None:  # a small card for the screen, beside one to compute with
        return passed(seen, wanted, f"{problem}: leave it out with CUDA_VISIBLE_DEVICES")
    return passed(seen, wanted)


def least_seen(gpus: Sequence[Gpu]) -> int:
    """Return how many of these GPUs a process sees at least, without CUDA_VISIBLE_DEVICES.

    CUDA lists one slice, and beside a slice no whole GPU (MIG user guide, device enumeration);
    where no GPU in MIG mode has a slice for us, the whole ones.
    """
    if any(gpu.mig and gpu.mig_devices != 0 for gpu in gpus):
        return 1
    return sum(not gpu.mig for gpu in gpus)


def judge_trace(outcome: Outcome, driver: Driver | NoDriverError) -> Outcome:
    """Excuse a profiler that saw no kernel where confidential computing is on."""
    confidential = isinstance(driver, Driver) and driver.confidential
    if outcome.status == "fail" and outcome.reason == NO_KERNEL and confidential:
        return skipped(
            "no profiler sees kernels here: confidential computing is on, and its mode for "
            "developers' tools off", outcome.seen,
        )  # fmt: skip
    return outcome


HIDDEN = ("", "-1", "NoDevFiles")  # values of CUDA_VISIBLE_DEVICES that mean: no GPU, please


def _translates(driver: Driver, cuda: str | None) -> bool:
    """Say whether the driver compiles PTX of this CUDA; a driver older than it does not."""
    return not (cuda and driver.cuda) or not is_older(driver.cuda, _minor(cuda))


def _minor(cuda: str) -> str:
    return ".".join(cuda.split(".")[:2])


def machine_code(architectures: Sequence[str]) -> list[str]:
    """Return those that need no translation by the driver."""
    return [name for name in architectures if not name.startswith("compute_")]


def _fits(gpu: Gpu, architectures: Sequence[str]) -> bool:
    """Say whether the wheel has code for the GPU; assume so if its capability is unknown."""
    return not gpu.capability or has_code_for(gpu.capability, architectures)


def _blind(title: str, driver: Driver, visible: str | None) -> str:
    gpus = driver.gpus
    if visible is not None:
        return f"{title} sees no GPU: CUDA_VISIBLE_DEVICES is {visible!r}"
    if not_ready := _not_ready(driver):
        return f"{title} sees no GPU: {not_ready}"
    if any(gpu.mig for gpu in gpus):
        return (
            f"{title} sees no GPU: MIG is on and no slice was given; make one (nvidia-smi mig "
            "-cgi ... -C) and pass it: --gpus '\"device=0:0\"'"
        )
    advice = "run nvidia-smi in the container"
    if len(gpus) > 1 and any(gpu.nvlinks or gpu.nvlinks_down for gpu in gpus):
        advice += f"; {FABRIC_MANAGER}"
    return f"the driver shows GPUs, but {title} cannot use them: {advice}"


FABRIC_MANAGER = (
    "with NVSwitches, nvidia-fabricmanager of the driver's very version has to run on the host "
    "(error 802)"
)


def _not_ready(driver: Driver) -> str | None:
    """Say why CUDA refuses to start (error 802); None where NVML gives no reason."""
    if driver.confidential and driver.accepting is False:
        return (
            "the GPUs take no work until they are attested and set ready: nvidia-smi conf-compute "
            "-srs 1 (confidential computing, error 802)"
        )
    waiting = [
        f"{at} ({gpu.fabric})"
        for at, gpu in enumerate(driver.gpus)
        if gpu.fabric in ("not started", "in progress")
    ]
    if waiting:
        return f"GPU {', '.join(waiting)} has not joined the NVLink fabric: {FABRIC_MANAGER}"
    return None


def has_code_for(capability: str, architectures: Sequence[str]) -> bool:
    """Say whether machine code of the same generation, or PTX of an older one, is listed.

    `sm_86` runs on 8.6 and later 8.x; `compute_70` is compiled by the driver for anything newer.
    A trailing letter (`sm_90a`) binds the code to exactly that capability, `f` to its family.
    """
    device = _capability(capability.replace(".", ""))
    for architecture in architectures:
        kind, _, digits = architecture.partition("_")
        built = _capability(digits.rstrip("abcdefghijklmnopqrstuvwxyz"))
        if digits[-1:].isalpha() and not digits.endswith("f"):
            if built == device:
                return True
        elif (kind == "compute" or built[0] == device[0]) and built <= device:
            return True
    return False


def _capability(digits: str) -> tuple[int, int]:
    return int(digits[:-1]), int(digits[-1])
