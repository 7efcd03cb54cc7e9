"""What an editor's debugger does: start a program, stop at a line, look at a name, go on.

    python debug.py PROGRAM LINE EXPRESSION

Source: the Debug Adapter Protocol, by which editors talk to debugpy.
"""

import json
import socket
import subprocess
import sys
import time
from itertools import count
from typing import Any

PATIENCE = 120  # seconds


class Adapter:
    """debugpy's end of the conversation."""

    def __init__(self, port: int) -> None:
        self.stream = connect(port).makefile("rwb")
        self.numbers = count(1)

    def send(self, command: str, **arguments: object) -> None:
        message = {"seq": next(self.numbers), "type": "request", "command": command}
        body = json.dumps({**message, "arguments": arguments}).encode()
        self.stream.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self.stream.flush()

    def wait_for(self, key: str, name: str) -> Any:
        """The next message whose `key`, command or event, is `name`."""
        while True:
            length = int(self.stream.readline().partition(b":")[2])
            self.stream.readline()
            message = json.loads(self.stream.read(length))
            assert message.get("success", True), message
            if message.get(key) == name:
                return message.get("body")

    def ask(self, command: str, **arguments: object) -> Any:
        self.send(command, **arguments)
        return self.wait_for("command", command)


def connect(port: int) -> socket.socket:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


program, line, expression = sys.argv[1:]
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
command = [sys.executable, "-m", "debugpy", "--listen", str(port), "--wait-for-client", program]
debugged = subprocess.Popen(command, stdout=subprocess.DEVNULL)
adapter = Adapter(port)
adapter.ask("initialize", adapterID="debugpy", pathFormat="path")
adapter.send("attach", justMyCode=True)  # answered after configurationDone
adapter.wait_for("event", "initialized")
adapter.ask("setBreakpoints", source={"path": program}, breakpoints=[{"line": int(line)}])
adapter.ask("configurationDone")
thread = adapter.wait_for("event", "stopped")["threadId"]
frame = adapter.ask("stackTrace", threadId=thread)["stackFrames"][0]
print(frame["line"], adapter.ask("evaluate", expression=expression, frameId=frame["id"])["result"])
adapter.ask("continue", threadId=thread)
adapter.send("disconnect")
sys.exit(debugged.wait(PATIENCE))
