"""How input is mutated, blindly and by its format; the same seed gives the same bytes."""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import struct
import tarfile
import zipfile
from collections.abc import Callable
from typing import Any

Mutate = Callable[[bytes, random.Random], bytes]

NUMBERS = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF, 0xFFFF_FFFE)
NAMES = (
    "../x", "/x", "a/../../x", ".wh.torch", "a/.wh..wh..opq", "a\\b", "C:x", "a//b", "./a", "a\0b",
    "\x1b[2J", "é", "\u202e", "a" * 300, "a/" * 1200 + "b", "", ".", "..", "RECORD", "a/b", "a",
    "demo-1.0.data/scripts/python", "demo-1.0.data/data/lib", "demo-1.0.data/data/lib64/x",
    "demo-1.0.data/data/pyvenv.cfg", "demo-1.0.data/x", "demo-1.0.data/headers/x.h",
    "demo-1.0.dist-info/RECORD/x", "demo-1.0.dist-info/INSTALLER", "demo/__init__.py/x",
)  # fmt: skip
LINES = (
    "", "a", "=", "a=", "=b", "a=b", "a=b:c", "a = b:c [d", "%(x)s=%", "[", "]", "[]", "[a]",
    "[console_scripts]", "[gui_scripts]", "../x = a:b", "python = a:b", ".wh.x = a:b", "\ufeff",
    "a,b", "a,,\n,,", '"a,,', "a,b,c,d", "x" * 140_000 + ",,", "Wheel-Version: 9", "Name:",
    "Wheel-Version: é", "\x00", "\x85", "\r", "# a", "; a", "a: b", " a", "9" * 5000,
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 1 << 63, 1 << 70, 0.5, 1e300, float("nan"), float("inf"), "", "a",
    "../../x", "/etc/passwd", "sha256:", "sha256:" + "0" * 64, "sha256:" + "A" * 64, "\0",
    "\x1b[2J", "\ud800", "\u202e", "a" * 10_000, [], {}, [[]], [None], {"": None}, [1, 2],
    {"a": {"b": []}},
)  # fmt: skip


def blind(data: bytes, rng: random.Random) -> bytes:
    """Flip, set, cut, repeat, insert, move: one to four times."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(out) + 1)
        end = min(len(out), at + rng.choice((1, 2, 4, 16, 300)))
        kind = rng.randrange(8)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at:end] = rng.choice(NUMBERS).to_bytes(8, "little")[: end - at]
        elif kind == 2:
            del out[at:]
        elif kind == 3:
            del out[at:end]
        elif kind == 4:
            out[at:at] = out[at:end] * rng.choice((1, 2, 50))
        elif kind == 5:
            out[at:at] = rng.randbytes(rng.choice((1, 4, 600)))
        elif kind == 6:
            out[at:at] = rng.choice((*NAMES, *LINES)).encode("utf-8", "surrogatepass")
        else:
            other = rng.randrange(len(out) + 1)
            out[at:end] = out[other : other + end - at]
    return bytes(out)


def lines(data: bytes, rng: random.Random) -> bytes:
    """Change, drop, repeat and add lines."""
    found = data.decode("utf-8", "surrogateescape").split("\n")
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(found))
        kind = rng.randrange(5)
        if kind == 0:
            found[at] = rng.choice(LINES)
        elif kind == 1:
            found.insert(at, rng.choice((rng.choice(LINES), found[at])))
        elif kind == 2 and len(found) > 1:
            del found[at]
        elif kind == 3:
            words = re.split(r"([ ,=:])", found[at])
            words[rng.randrange(len(words))] = rng.choice((*LINES, *NAMES))
            found[at] = "".join(words)
        else:
            raw = blind(found[at].encode("utf-8", "surrogateescape"), rng)
            found[at] = raw.decode("utf-8", "surrogateescape")
    return "\n".join(found).encode("utf-8", "surrogateescape")


def documents(data: bytes, rng: random.Random) -> bytes:
    """Put odd values, and values from elsewhere in it, into a JSON document."""
    if rng.random() < 0.25:
        return blind(data, rng)
    if rng.random() < 0.05:
        return b"[" * 100_000 if rng.random() < 0.5 else b"1" * 5000
    document = json.loads(data)
    for _ in range(rng.randint(1, 3)):
        places = list(_places(document))
        if not places:
            break
        holder, key = rng.choice(places)
        kind = rng.randrange(4)
        if kind == 0:
            other, name = rng.choice(places)
            holder[key] = other[name]
        elif kind == 1 and isinstance(holder, dict):
            holder[rng.choice((*NAMES, "version", "\ud800"))] = holder.pop(key)
        elif kind == 2:
            del holder[key]
        else:
            holder[key] = rng.choice(VALUES)
    return _dumped(document)


def _dumped(document: Any) -> bytes:
    try:
        return json.dumps(document).encode()
    except (ValueError, RecursionError):  # it holds itself now
        return b"[]"


def _places(document: Any, depth: int = 0) -> Any:
    found = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in list(found):
        yield document, key
        if isinstance(value, dict | list) and depth < 20:
            yield from _places(value, depth + 1)


def zips(data: bytes, rng: random.Random) -> bytes:
    """Damage a zip's tables, or make a valid one with odd names and contents."""
    kind = rng.randrange(4)
    if kind == 0:
        return blind(data, rng)
    if kind == 1:
        return _fields(data, rng)
    return _rebuilt(data, rng, in_text=kind == 2)


def _fields(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        mark, size = rng.choice(((b"PK\x01\x02", 46), (b"PK\x03\x04", 30), (b"PK\x05\x06", 22)))
        starts = [found.start() for found in re.finditer(re.escape(mark), out)]
        if not starts:
            break
        at = rng.choice(starts) + rng.randrange(4, size - 1)
        width = rng.choice((1, 2, 4))
        value = rng.choice((*NUMBERS, rng.getrandbits(32), len(data)))
        out[at : at + width] = struct.pack("<Q", value)[:width]
    return bytes(out)


def _rebuilt(data: bytes, rng: random.Random, *, in_text: bool) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        infos = old.infolist()
        chosen = rng.choice([i for i in infos if not in_text or "dist-info" in i.filename])
        for info in infos:
            content, name = old.read(info), info.filename
            copy = zipfile.ZipInfo(name)
            copy.compress_type = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
            if info is chosen:
                if in_text:
                    content = lines(content, rng)
                else:
                    copy.filename = rng.choice(NAMES)
                    copy.external_attr = rng.choice((0, 0o120777 << 16, 0o100755 << 16, 0x10))
            new.writestr(copy, content)
    return out.getvalue()


def tars(data: bytes, rng: random.Random) -> bytes:
    """Change a gzip-packed tar's headers, checksums made right, or bytes of either."""
    if rng.random() < 0.3:
        return blind(data, rng)
    out = bytearray(gzip.decompress(data))
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(max(1, len(out) // 512)) * 512
        block = out[at : at + 512]
        if len(block) < 512:
            continue
        kind = rng.randrange(5)
        if kind == 0:
            name = rng.choice(NAMES).encode()[:100]
            block[rng.choice((0, 157)) :][:100] = b""
            start = rng.choice((0, 157))
            block[start : start + 100] = name.ljust(100, b"\0")
        elif kind == 1:
            block[156] = rng.choice(b"0123456789xgLKSVDN\0\xff")
        elif kind == 2:
            start, size = rng.choice(((100, 8), (108, 8), (116, 8), (124, 12), (136, 12)))
            block[start : start + size] = rng.choice(
                (
                    b"\xff" * size,
                    b"\x80" + b"\xff" * (size - 1),
                    b"7" * size,
                    b" " * size,
                    b"-1".ljust(size),
                )
            )
        elif kind == 3:
            out[at:at] = _extended(rng)
            continue
        else:
            block = bytearray(blind(bytes(block), rng)[:512].ljust(512, b"\0"))
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        out[at : at + 512] = block
    return gzip.compress(bytes(out), 1, mtime=0)


def _extended(rng: random.Random) -> bytes:
    key = rng.choice(("path", "linkpath", "size", "mtime", "uid", "GNU.sparse.map", "hdrcharset"))
    value = rng.choice((*NAMES, "-1", "nan", "1e999", "9" * 400, "x", "BINARY"))
    record = f" {key}={value}\n".encode()
    length = rng.choice((len(record) + 3, 0, 10**9))
    body = str(length).encode() + record
    info = tarfile.TarInfo("extended")
    info.type = rng.choice((tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME))
    info.size = rng.choice((len(body), len(body), 1 << 40))
    return info.tobuf(tarfile.GNU_FORMAT) + body.ljust(-(-len(body) // 512) * 512, b"\0")
