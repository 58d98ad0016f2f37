"""A peer of the tether that sends arbitrary frames. Standard library only, for processes that must start fast."""

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Raw:
    """A blocking peer that sends arbitrary frames, for use in a thread or a forked process."""

    def __init__(self, path: Path, timeout: float = 5.0) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))  # Blocking, since with a timeout Python does not wait for space in the backlog.
        self.socket.settimeout(timeout)

    def send(self, frame: Mapping[str, object]) -> None:
        body = json.dumps(frame).encode()
        self.socket.sendall(len(body).to_bytes(4, "big") + body)

    def receive(self) -> dict[str, Any]:
        """Return the next frame; {} at the end."""
        head = self._exactly(4)
        body = self._exactly(int.from_bytes(head, "big")) if len(head) == 4 else b""
        return dict(json.loads(body)) if body else {}

    def _exactly(self, count: int) -> bytes:
        data = b""
        try:
            while len(data) < count and (part := self.socket.recv(count - len(data))):
                data += part
        except ConnectionResetError:
            return b""
        return data

    def close(self) -> None:
        self.socket.close()


def call(text: str = "hello") -> dict[str, object]:
    """Return the frame of a call."""
    return {"type": "call", "messages": [{"role": "user", "content": text}], "max_tokens": 5}
