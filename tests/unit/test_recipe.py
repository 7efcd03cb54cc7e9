"""Which layers an image has and in which order."""

from typing import Any

from wheelyard.contract.recipe import BytecodeLayer, WheelLayer, make_recipe
from wheelyard.model import Base, Cell, Flavour, FrameworkPin, LockedWheel

MIB = 1 << 20


def wheel(name: str, mib: int = 0, version: str = "1.0") -> LockedWheel:
    is_cuda = name.startswith("nvidia-") and name != "nvidia-ml-py"
    tag = "manylinux_2_17_x86_64" if is_cuda else "any"
    filename = f"{name.replace('-', '_')}-{version}-py3-none-{tag}.whl"
    return LockedWheel(name, version, filename, f"{name}{version}".ljust(64, "0"), mib * MIB + 1000)


CELL = Cell(
    id="x",
    frameworks=(FrameworkPin("pytorch", "2.3.1", "torch"),),
    cuda="12.1",
    cudnn="8.9",
    python="3.11",
    flavour=Flavour("runtime", None, (), ()),
    base=Base("bookworm", "bookworm", "3.11"),
    requirements=(),
    constraints=(),
    parent=None,
    tags=(),
    default_base=True,
)
RUNTIME = [
    wheel("torch", 700), wheel("nvidia-cudnn-cu12", 600), wheel("nvidia-cublas-cu12", 400),
    wheel("nvidia-cuda-runtime-cu12"), wheel("sympy", 6), wheel("numpy", 17), wheel("pip"),
    wheel("triton", 160), wheel("nvidia-ml-py"),
]  # fmt: skip


def names(stage: Any) -> list[str]:
    return [
        ("bytecode:" if isinstance(layer, BytecodeLayer) else "")
        + "+".join(w.name for w in layer.wheels)
        for layer in stage
    ]


def test_from_what_is_shared_most_to_what_is_shared_least() -> None:
    (stage,) = make_recipe(CELL, [RUNTIME])
    assert names(stage) == [
        "nvidia-cuda-runtime-cu12",
        "nvidia-cublas-cu12",
        "nvidia-cudnn-cu12",
        "nvidia-ml-py+pip+sympy",
        "numpy",
        "bytecode:numpy+nvidia-ml-py+pip+sympy",
        "torch",
        "triton",
        "bytecode:torch+triton",
    ]


def test_the_compiler_is_above_the_libraries_that_pytorch_has_too() -> None:
    """What JAX's images share with PyTorch's lies together, from the lowest layer on."""
    shared = [
        wheel("nvidia-cuda-runtime"), wheel("nvidia-cusparse", 20), wheel("nvidia-cudnn-cu13", 600),
        wheel("nvidia-nccl-cu13", 200),
    ]  # fmt: skip
    compiler = [
        wheel("nvidia-cuda-crt"), wheel("nvidia-cuda-nvcc", 40), wheel("nvidia-nvvm", 60),
    ]  # fmt: skip
    (without,) = make_recipe(CELL, [shared])
    (with_it,) = make_recipe(CELL, [[*compiler, *shared]])
    assert with_it[: len(without)] == without
    assert names(with_it[len(without) :]) == ["nvidia-cuda-crt", "nvidia-nvvm", "nvidia-cuda-nvcc"]


def test_devels_compiler_shares_a_layer_with_the_headers_beside_it() -> None:
    """It has no libraries below it in its stage; its layers are recorded so since PyTorch 2.11."""
    added = [
        wheel("nvidia-cuda-cccl"), wheel("nvidia-cuda-crt"), wheel("nvidia-cuda-nvcc", 40),
        wheel("nvidia-nvvm", 60),
    ]  # fmt: skip
    _, devel = make_recipe(CELL, [RUNTIME, [*RUNTIME, *added]])
    assert names(devel) == ["nvidia-cuda-cccl+nvidia-cuda-crt", "nvidia-nvvm", "nvidia-cuda-nvcc"]


def test_the_order_of_the_lock_does_not_matter() -> None:
    assert make_recipe(CELL, [RUNTIME]) == make_recipe(CELL, [RUNTIME[::-1]])


def test_a_further_flavour_holds_only_what_it_adds() -> None:
    devel = [*RUNTIME, wheel("jupyterlab", 12), wheel("debugpy")]
    lower, upper = make_recipe(CELL, [RUNTIME, devel])
    assert lower == make_recipe(CELL, [RUNTIME])[0]
    assert names(upper) == ["debugpy", "jupyterlab", "bytecode:debugpy+jupyterlab"]


def test_keys_are_functions_of_wheels_python_and_interpreter() -> None:
    layers = [
        WheelLayer((wheel("a"),), "3.11"),
        WheelLayer((wheel("a"),), "3.13"),
        WheelLayer((wheel("a", version="2"),), "3.11"),
        WheelLayer((wheel("a"), wheel("b")), "3.11"),
    ]
    assert len({layer.key for layer in layers}) == len(layers)
    bytecode = BytecodeLayer((wheel("a"),), "3.11")
    assert bytecode.key("one") != bytecode.key("two")
    assert bytecode.key("one") != layers[0].key
