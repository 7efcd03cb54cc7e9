"""What images leave out, of packages and of bytecode; layers and Dockerfiles agree. Pure."""

from __future__ import annotations

import re

from wheelyard.architecture import ARCHITECTURES
from wheelyard.model import PackageLock

# What a container does not read. Licences stay: /usr/share/doc/*/copyright.
_PATH_RULES = (
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/lintian/*",
    "path-exclude=/usr/lib/python3.*/config-*/libpython3*.a",
    "path-exclude=/usr/bin/*-lto-dump-*",
)
# A flavour without BUILD has its compilers for Triton and Inductor alone, which use neither
# link-time optimization nor sanitizers nor profilers: a fifth of such a base.
_BUILD = "build-essential"
_COMPILER_RULES = (
    "path-exclude=/usr/lib/gcc/*/lto1",
    "path-exclude=/usr/lib/gcc/*/lib*san.*",
    "path-exclude=/usr/lib/gcc/*/lib*san_preinit.o",
    "path-exclude=/usr/lib/{multiarch}/lib*san.so*",
    "path-exclude=/usr/lib/{multiarch}/libgprofng.so*",
    "path-exclude=/usr/lib/{multiarch}/gprofng/*",
    "path-exclude=/usr/bin/gp-*",
    "path-exclude=/usr/bin/*gprofng",
    "path-exclude=/usr/bin/*dwp",
)
# Never imported in use: a third of SymPy's source, and a fifth of torch's time to compile.
# Python compiles them itself if they are imported after all. The few modules of torch's test
# suite that newer torch itself imports are named.
# `grep -P` in a Dockerfile reads this expression too.
NOT_COMPILED = (
    r"^(?!.*/_api/)"  # tensorflow.test is public
    r".*/(tests?/|testing/_internal/"
    r"(?!__init__|logging_tensor|common_dtype|distributed/(__init__|fake_pg)))"
)


def path_rules(lock: PackageLock) -> tuple[str, ...]:
    """Return dpkg's options for what is left out; they stay in the image for later packages."""
    if any(deb.name == _BUILD for deb in lock.packages):
        return _PATH_RULES
    multiarch = ARCHITECTURES[lock.architecture].multiarch
    return _PATH_RULES + tuple(x.replace("{multiarch}", multiarch) for x in _COMPILER_RULES)


def is_trimmed(name: str) -> bool:
    """Tell whether a Debian package holds files that `_COMPILER_RULES` leave out."""
    return bool(re.search(r"gcc|san\d|binutils|gprofng", name))


def is_compiled(path: str) -> bool:
    """Tell whether bytecode ships for the installed file `path`."""
    is_module = path.endswith(".py") and "/site-packages/" in path
    return is_module and not re.match(NOT_COMPILED, path)
