"""Runs under the *image's* interpreter: modules of a wheel in, bytecode out.

Standard library only, no import from builder. Reads one JSON object from stdin:
{"wheel": path, "output": path, "modules": [[member, installed path], ...]}; writes to "output" for
each module, in order, a 32-bit big-endian length and that many bytes of .pyc; length 0 for a module
that does not compile (templates and Python 2 leftovers: pip skips them as well).

The .pyc files are hash-based and checked (PEP 552): they hold no time stamp, so their bytes depend
on the source alone, and an edited module is still recompiled.
"""

import importlib.util
import json
import struct
import sys
import warnings
import zipfile
from importlib._bootstrap_external import _code_to_hash_pyc  # type: ignore[attr-defined]


def main() -> None:
    """Compile what stdin names."""
    warnings.simplefilter("ignore")
    job = json.load(sys.stdin)
    with zipfile.ZipFile(job["wheel"]) as wheel, open(job["output"], "wb") as out:  # noqa: PTH123
        for member, path in job["modules"]:
            pyc = compile_module(wheel.read(member), path)
            out.write(struct.pack(">I", len(pyc)) + pyc)


def compile_module(source: bytes, path: str) -> bytes:
    """One module's .pyc, empty if the source does not compile."""
    try:
        code = compile(source, path, "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError, RecursionError):
        return b""
    return bytes(_code_to_hash_pyc(code, importlib.util.source_hash(source), True))


if __name__ == "__main__":
    main()
