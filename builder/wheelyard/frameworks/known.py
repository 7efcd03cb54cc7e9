"""The frameworks that images can hold.

Everything that tells one framework from another is in its record, or in selfcheck, which has to
use the framework: `selfcheck/frameworks.py` has the same names.
"""

from __future__ import annotations

import re

from wheelyard.frameworks.built import jax_built, tensorflow_built, torch_built
from wheelyard.frameworks.record import Build, Framework, Plugin, Stated

# JAX's plugin compares the versions of CUDA's libraries, which are locked here, with what it was
# built with. Without a driver, libcupti.so.13 of 13.2.86 crashes when it is asked for its own
# (cuptiGetVersion; 13.1.115 answers), and JAX with it.
_NO_VERSION_CHECK = {"JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1"}

FRAMEWORKS = {
    "pytorch": Framework(
        wheel="torch",
        version=(Stated("torch/version.py", r"__version__ = '([^'+]+)"),),
        built=torch_built,
        conda=("pytorch",),
        image=r"pytorch/pytorch:(\d+(?:\.\d+)+)(?:-cuda(\d+\.\d+))?",
    ),
    "tensorflow": Framework(
        wheel="tensorflow",
        version=(
            Stated(
                "tensorflow/include/tensorflow/core/public/version.h",
                r"(?s)#define TF_MAJOR_VERSION\s+(\d+).*?"
                r"#define TF_MINOR_VERSION\s+(\d+).*?#define TF_PATCH_VERSION\s+(\d+)",
            ),
            # since 2.21 the compiler's command line states it, and no header
            Stated("tensorflow/tools/pip_package/setup.py", r"(?m)^_VERSION = '([^'+]+)"),
        ),
        built=tensorflow_built,
        conda=("tensorflow", "tensorflow-gpu"),
        image=r"tensorflow/tensorflow:(\d+(?:\.\d+)+)",
    ),
    "jax": Framework(
        wheel="jax",
        version=(Stated("jax/version.py", r'(?m)^_version = "([^"+]+)'),),
        built=jax_built,
        plugins={
            major: Plugin(f"cuda{major}", f"jax-cuda{major}-plugin[with-cuda]", environment)
            for major, environment in (("12", {}), ("13", _NO_VERSION_CHECK))
        },
        parts=r"jaxlib|jax-cuda\d+-(plugin|pjrt)",
        # JAX takes three quarters of a GPU's memory at its first use, TensorFlow nearly all.
        beside={"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_FORCE_GPU_ALLOW_GROWTH": "true"},
        conda=("jax",),
    ),
}


def builds_of(name: str, distribution: str) -> tuple[Build, ...]:
    """Return the builds of a framework that a matrix installs by `distribution`."""
    known = FRAMEWORKS[name]
    if not known.plugins:
        return (Build(name, distribution, known.built),)
    return tuple(
        Build(_named(name, plugin), plugin.distribution, known.built)
        for plugin in known.plugins.values()
    )


def plugin_for(name: str, cuda: str) -> tuple[str, str] | None:
    """Return extra and build of a framework's plugin for a CUDA version; None: it has no plugins.

    ValueError, with the reason, if it has plugins and none for this CUDA.
    """
    plugins = FRAMEWORKS[name].plugins
    plugin = plugins.get(cuda.partition(".")[0])
    if plugin is None and plugins:
        raise ValueError(f"it has plugins for CUDA {' and '.join(plugins)} only")
    return None if plugin is None else (plugin.extra, _named(name, plugin))


def other_plugins(name: str, cuda: str) -> tuple[str, ...]:
    """Return the distributions, without extras, of a framework's plugins for other CUDA majors."""
    return tuple(
        plugin.distribution.partition("[")[0]
        for major, plugin in FRAMEWORKS[name].plugins.items()
        if major != cuda.partition(".")[0]
    )


def facts_of(name: str, cuda: str | None) -> str:
    """Return the build whose facts count for a CUDA version; without one, the newest plugin's.

    ValueError, with the reason, if there is none for this CUDA.
    """
    if name not in FRAMEWORKS or not FRAMEWORKS[name].plugins:
        return name
    found = plugin_for(name, cuda or max(FRAMEWORKS[name].plugins, key=int))
    return name if found is None else found[1]


def _named(name: str, plugin: Plugin) -> str:
    return f"{name}-{plugin.extra}"


def is_part(wheel: str, framework: str) -> bool:
    """Tell whether a wheel is a framework's own, or released together with it."""
    known = FRAMEWORKS.get(framework)
    return known is not None and bool(re.fullmatch(f"{known.wheel}|{known.parts}", wheel))
