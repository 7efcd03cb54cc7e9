"""What NVIDIA's compiler wheels lack to be a toolkit: the usual path, and names to link against.

The linker looks for `libcudart.so`, but the wheels hold only `libcudart.so.13`. nvcc finds its
parts beside the folder it was started in, so the folder is linked, not the program.
"""

from __future__ import annotations

from collections.abc import Iterable

from wheelyard.model import LockedWheel

_NVCC = "nvidia-cuda-nvcc"  # from CUDA 13 on; the cu11 and cu12 wheels hold ptxas alone
HOME = "usr/local/cuda"
PROFILE = "etc/profile.d/20-cuda.sh"
PROFILE_TEXT = f'export CUDA_HOME=/{HOME}\nexport PATH="$PATH:/{HOME}/bin"\n'


def has_compiler(wheels: Iterable[LockedWheel]) -> bool:
    """Tell whether a lock holds the whole compiler."""
    return any(wheel.name == _NVCC for wheel in wheels)


def compiler_links(paths: Iterable[str], site: str) -> dict[str, str]:
    """Return link -> target if wheels hold `paths`; all are relative to the image's root."""
    nvidia = f"{site}/nvidia/"
    there = sorted(path for path in paths if path.startswith(nvidia))
    links: dict[str, str] = {}
    for path in there:
        folder, _, name = path.rpartition("/")
        stem, dot, version = name.partition(".so.")
        inside = folder.removeprefix(nvidia).split("/")
        if dot and version[:1].isdigit() and len(inside) == 2 and inside[1] == "lib":
            links.setdefault(f"{folder}/{stem}.so", name)
    missing = {link: name for link, name in links.items() if link not in there}
    return {**missing, f"{nvidia}cu13/lib64": "lib", HOME: f"/{nvidia}cu13"}
