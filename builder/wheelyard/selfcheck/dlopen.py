"""Load shared libraries, a JSON line each: run as a child, so that a crash ends only the child.

Stands alone: `python dlopen.py LIBRARY...` prints `[path, error or null]` after every attempt.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys


def attempt(path: str) -> str | None:
    """Load a library with all its symbols resolved; the linker's message when that fails."""
    try:
        ctypes.CDLL(path, mode=os.RTLD_NOW | os.RTLD_LOCAL)
    except OSError as error:
        return str(error)
    return None


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(json.dumps([argument, attempt(argument)]), flush=True)
