"""Run a cell in the JupyterLab of this container, over HTTP and a websocket, by its token."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
import uuid
from typing import Any

import websocket

PORT, TOKEN = os.environ.get("PORT", "8888"), os.environ["JUPYTER_TOKEN"]
SERVER = f"127.0.0.1:{PORT}"
SECONDS = 90
CELL = "import os, numpy; print('a cell answers', numpy.arange(7).sum() * 2)"


def ask(path: str, method: str = "GET", token: str = TOKEN) -> Any:
    """The JSON that the server answers; None where it has nothing to say."""
    request = urllib.request.Request(f"http://{SERVER}/api/{path}", method=method)
    request.add_header("Authorization", f"token {token}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=20) as answer:
        return json.loads(answer.read() or "null")


def wait() -> None:
    """Come back when the server answers."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            ask("status")
        except (urllib.error.URLError, ConnectionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)
        else:
            return


def execute(kernel: str, code: str) -> str:
    """What a cell prints."""
    address = f"ws://{SERVER}/api/kernels/{kernel}/channels?token={TOKEN}"
    header = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "username": "",
              "session": uuid.uuid4().hex, "version": "5.3"}  # fmt: skip
    content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
    request = {"header": header, "parent_header": {}, "metadata": {}, "content": content,
               "channel": "shell"}  # fmt: skip
    connection = websocket.create_connection(address, timeout=SECONDS, http_no_proxy=["*"])
    printed = ""
    try:
        connection.send(json.dumps(request))
        while True:
            message = json.loads(connection.recv())
            if message["parent_header"].get("msg_id") != header["msg_id"]:
                continue
            if message["msg_type"] == "error":
                raise RuntimeError("\n".join(message["content"]["traceback"]))
            if message["msg_type"] == "stream":
                printed += message["content"]["text"]
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                return printed
    finally:
        connection.close()


def refused(token: str) -> bool:
    """True when the server does not let in who has this token."""
    try:
        ask("kernels", token=token)
    except urllib.error.HTTPError as error:
        return error.code == 403
    return False


wait()
assert refused("not the token")
kernel = ask("kernels", "POST")["id"]
answer = execute(kernel, CELL)
assert answer == "a cell answers 42\n", answer
print(answer, end="")
