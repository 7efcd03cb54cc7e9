"""A JSON index on loopback whose wheels are small, and that misbehaves where a test wants it."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from wheelyard.settings import Settings, load_settings

METADATA = """\
Metadata-Version: 2.1
Name: torch
Version: 2.3.1
Requires-Dist: filelock
Requires-Dist: nvidia-cuda-runtime-cu12 (==12.1.105) ; platform_system == "Linux"
Requires-Dist: nvidia_cudnn_cu12==8.9.2.26; platform_machine == "x86_64"
Requires-Dist: nvidia-nccl-cu12==2.20.5 ; extra == "and-cuda"
Requires-Dist: nvidia-cuda-nvcc-cu12==1 ; extra == "other"
Requires-Dist: nvidia-win==1 ; platform_system == "Windows"
Requires-Dist: triton==2.3.1 ; python_version < "3.12"
"""
VERSION = "__version__ = '2.3.1+cu121'\ncuda: Optional[str] = '12.1'\n"
CONFIG = '#define NVCC_FLAGS_EXTRA "-gencode;arch=compute_80,code=sm_80;-gencode;arch=compute_90,code=compute_90"\n'  # noqa: E501
BUILD_INFO = (
    "build_info = collections.OrderedDict([('cuda_compute_capabilities', ['sm_60', 'compute_90']),"
    " ('cuda_version', '12.5.1'), ('cudnn_version', '9'), ('is_cuda_build', True)])\n"
)
JAX_METADATA = """\
Metadata-Version: 2.1
Name: jax-cuda12-plugin
Version: 0.12.0
Requires-Dist: jax-cuda12-pjrt==0.12.0
Requires-Dist: nvidia-cuda-nvcc-cu12>=12.6.85; sys_platform == "linux" and extra == "with-cuda"
Requires-Dist: nvidia-cuda-runtime-cu12>=12.1.105; sys_platform == "linux" and extra == "with-cuda"
Requires-Dist: nvidia-cudnn-cu12<10.0,>=9.10.2.21; sys_platform == "linux" and extra == "with-cuda"
Requires-Dist: nvidia-nccl-cu12>=2.18.1; sys_platform == "linux" and extra == "with-cuda"
"""
JSON = "application/vnd.pypi.simple.v1+json"


def torch_wheel(**members: str | None) -> bytes:
    """A PyTorch wheel in miniature with ballast; `members` replaces a part, None leaves it out."""
    parts = {"version": VERSION, "config": CONFIG, "metadata": METADATA} | members
    names = {
        "version": "torch/version.py",
        "config": "torch/include/ATen/cuda/CUDAConfig.h",
        "metadata": "torch-2.3.1.dist-info/METADATA",
    }
    return zipped({names[key]: text for key, text in parts.items() if text is not None})


def tensorflow_wheel(build_info: str = BUILD_INFO) -> bytes:
    return zipped(
        {
            "tensorflow/python/platform/build_info.py": build_info,
            "tensorflow-2.20.0.dist-info/METADATA": METADATA,
        }
    )


def _fat_binary(*entries: tuple[int, int]) -> bytes:
    """CUDA's container of code: kind (1: PTX, 2: machine code) and architecture of each entry."""
    body = b"".join(
        struct.pack("<HHIQ12xI32x", kind, 0x101, 64, 16, number) + bytes(16)
        for kind, number in entries
    )
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


FAT_BINARY = b"\x7fELF" + _fat_binary((2, 80), (2, 120)) + bytes(9) + _fat_binary((1, 120))


def jax_wheel(
    cuda: int = 12090,
    cudnn: int = 91002,
    names: bytes = b"cuda_runtime_build_version\0cudnn_build_version",
    kernels: bytes | None = FAT_BINARY,
) -> bytes:
    """JAX's plugin in miniature: functions that return a constant, and a fat binary."""
    code = b"".join(
        b"\x55\x48\x89\xe5\xbf" + struct.pack("<I", value) + b"\xe8\x62\x2d\x05\x00\x5d\xc3"
        for value in (cuda, cudnn, 120901)
    )
    members: dict[str, str | bytes] = {
        "jax_cuda12_plugin/_versions.so": b"\x7fELF" + code + names,
        "jax_cuda12_plugin-0.12.0.dist-info/METADATA": JAX_METADATA,
    }
    return zipped(members | ({} if kernels is None else {"jax_cuda12_plugin/_linalg.so": kernels}))


def zipped(members: Mapping[str, str | bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("ballast.bin", b"\0" * 5_000_000)
        for name, text in members.items():
            archive.writestr(name, text)
    return content.getvalue()


@dataclass
class FactsIndex:
    """Projects and files by name; `pages` replaces what is answered for a path."""

    files: dict[str, bytes] = field(default_factory=dict)
    listed: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    pages: dict[str, tuple[int, str, bytes]] = field(default_factory=dict)
    ranges: bool = True
    sent: list[int] = field(default_factory=list)  # bytes of wheels
    busy: int = 0  # how many times a page answers 503 first
    url: str = ""

    def add(self, project: str, filename: str, content: bytes | None, **facts: Any) -> str:
        """List a file; None: it is listed, and not there. Returns the SHA-256 that is listed."""
        digest = hashlib.sha256(content or b"").hexdigest()
        if content is not None:
            self.files[f"/files/{filename}"] = content
        file: dict[str, Any] = {
            "filename": filename,
            "url": f"../../files/{filename}",
            "hashes": {"sha256": digest},
            "upload-time": "2026-01-01T00:00:00Z",
            "yanked": False,
        }
        self.listed.setdefault(project, []).append(file | facts)
        return str((file | facts)["hashes"]["sha256"])

    def answer(self, path: str) -> tuple[int, str, bytes]:
        if path in self.pages:
            return self.pages[path]
        if self.busy and path.endswith("/"):
            self.busy -= 1
            return 503, "text/plain", b""
        if path in self.files:
            return 200, "application/octet-stream", self.files[path]
        name = path.removeprefix("/simple/").strip("/")
        if path.startswith("/simple/") and name in self.listed:
            page = {"meta": {"api-version": "1.1"}, "name": name, "files": self.listed[name]}
            return 200, JSON, json.dumps(page).encode()
        return 404, "text/plain", b"nothing here"


class _Handler(BaseHTTPRequestHandler):
    state: FactsIndex

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        code, kind, content = self.state.answer(self.path)
        asked = self.headers.get("Range", "")
        partial = bool(asked) and self.state.ranges and code == 200 and "files" in self.path
        first, last = 0, len(content) - 1
        if partial:
            start, end = asked.removeprefix("bytes=").split("-")
            first, last = int(start), min(int(end or last), last)
        self.send_response(206 if partial else code)
        if partial:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("Content-Type", kind)
        self.end_headers()
        sent = [last - first + 1] if "/files/" in self.path else []
        self.state.sent += sent  # before the reader goes on, and looks at it
        try:
            self.wfile.write(content[first : last + 1])
        except ConnectionError:  # the reader had what it wanted
            for count in sent:
                self.state.sent.remove(count)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A reader that goes away is part of the test."""


@contextmanager
def serving(index: FactsIndex) -> Iterator[FactsIndex]:
    """Serve an index on loopback while the context lasts."""
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"state": index}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    index.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield index
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def settings_for(folder: Path, index: FactsIndex, **options: str) -> Settings:
    (folder / "matrix.yaml").touch()
    return load_settings(
        {
            "project": str(folder),
            "cache_dir": str(folder / "cache"),
            "index_url": f"{index.url}/simple",
            **options,
        }
    )
