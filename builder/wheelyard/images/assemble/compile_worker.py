"""Runs under the *image's* interpreter: modules of a wheel in, bytecode out.

Standard library only, no import of ours. Reads one JSON object from stdin:
{"wheel": path, "output": path, "modules": [[member, installed path], ...]}; writes to "output" for
each module, in order, a 32-bit big-endian length and that many bytes of .pyc; length 0 for a module
that does not compile (templates and Python 2 leftovers: pip skips them as well).

A module that takes more than MEMORY to compile is one that does not compile. What it takes depends
on the interpreter and the source alone, as its bytecode does.

The .pyc files are hash-based and checked (PEP 552): they hold no time stamp, so their bytes depend
on the source alone, and an edited module is still recompiled.
"""

import contextlib
import importlib.util
import json
import struct
import sys
import warnings
import zipfile
from importlib._bootstrap_external import _code_to_hash_pyc  # type: ignore[attr-defined]
from pathlib import Path

MEMORY = 400 << 20  # bytes; torch and TensorFlow take a quarter of it
SECONDS = 1800  # of one core, for all modules of a wheel


def main() -> None:
    """Compile what stdin names."""
    warnings.simplefilter("ignore")
    with contextlib.suppress(ImportError):  # the standard library's, which a base may be without
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    job = json.load(sys.stdin)
    # Paths, or what this process inherited: a registry's Python sees no file of this machine.
    with (
        open(job["wheel"], "rb") as file,  # noqa: PTH123
        zipfile.ZipFile(file) as wheel,
        open(job["output"], "wb") as out,  # noqa: PTH123
    ):
        for member, path in job["modules"]:
            pyc = compile_module(wheel.read(member), path)
            out.write(struct.pack(">I", len(pyc)) + pyc)
    if foreign := foreign_libraries(Path.cwd()):
        sys.exit(f"the image's Python took this machine's {', '.join(foreign)}")


def foreign_libraries(root: Path) -> list[str]:
    """List libraries in this process that are not below `root`; /etc/ld.so.preload may add any."""
    maps = Path("/proc/self/maps")
    if Path("/etc/ld.so.preload").exists() or not maps.exists():
        return []
    text = maps.read_text(encoding="utf-8", errors="surrogateescape")
    rows = [line.split(maxsplit=5) for line in text.splitlines()]
    code = {row[5] for row in rows if len(row) == 6 and "x" in row[1] and ".so" in row[5]}
    return sorted(p for p in code if not p.startswith(f"{root}/") and Path(p).exists())


def compile_module(source: bytes, path: str) -> bytes:
    """Return a module's .pyc, empty if the source does not compile."""
    try:
        code = compile(source, path, "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError):
        return b""  # MemoryError: what Python 3.11 says of too many nested parentheses
    return bytes(_code_to_hash_pyc(code, importlib.util.source_hash(source), True))


if __name__ == "__main__":
    main()
