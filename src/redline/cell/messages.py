"""Messages with descriptors over local sockets, to the first process of a node and to the warden."""

import array
import contextlib
import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import anyio

from redline.cell.errors import CellError, CellGoneError, NoAnswerError

INLINE = 1 << 15
MAX_REPLY = 1 << 16
MAX_REPLY_BODY = 256 << 20
MAX_DESCRIPTORS = 200


def encode(message: Mapping[str, object]) -> tuple[bytes, list[int]]:
    """Encode a message; a large one goes into a memory file whose descriptor comes first.

    Returns:
        The bytes to send, and the descriptors to send before others. The caller must close them.
    """
    data = json.dumps(message).encode()
    if len(data) <= INLINE:
        return data, []
    return json.dumps({"length": len(data)}).encode(), [_filled(data)]


@contextlib.contextmanager
def memory_file(data: bytes | None) -> Iterator[list[int]]:
    """Yield the descriptor of a memory file with the data; none for None."""
    fds = [] if data is None else [_filled(data)]
    try:
        yield fds
    finally:
        close_all(fds)


def _filled(data: bytes) -> int:
    fd = os.memfd_create("message")
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    return fd


async def send(control: socket.socket, message: Mapping[str, object], fds: Sequence[int] = ()) -> None:
    """Send one message on a non-blocking SOCK_SEQPACKET socket.

    Raises:
        CellGoneError: The other end is gone.
    """
    data, own = encode(message)
    try:
        while True:
            try:
                socket.send_fds(control, [data], [*own, *fds])
                return
            except BlockingIOError:
                await anyio.wait_writable(control)
            except OSError as error:
                raise CellGoneError(f"the control socket is gone: {error.strerror}") from error
    finally:
        close_all(own)


async def receive_reply(channel: socket.socket, timeout: float) -> tuple[dict[str, Any], list[int]]:
    """Wait for the one reply on a channel.

    Args:
        channel: A non-blocking socket whose other end was sent with the request.
        timeout: Seconds to wait.

    Returns:
        The answer, and the descriptors that came with it, which the caller must close.

    Raises:
        CellError: The operation failed.
        NoAnswerError: Its process ended without an answer.
        TimeoutError: There was no reply in time.
    """
    with anyio.fail_after(timeout):
        await anyio.wait_readable(channel)
    message, ancillary, _, _ = channel.recvmsg(
        MAX_REPLY, socket.CMSG_SPACE(MAX_DESCRIPTORS * 4), socket.MSG_CMSG_CLOEXEC
    )
    fds = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    if not message:
        raise NoAnswerError("the operation ended without an answer")
    body, *rest = list(fds)
    try:
        length = json.loads(message)["length"]
        if length > MAX_REPLY_BODY:
            raise CellError(f"the answer of {length} bytes is over the limit")
        answer = json.loads(os.pread(body, length, 0))
    except BaseException:
        close_all(rest)
        raise
    finally:
        os.close(body)
    if "error" in answer:
        close_all(rest)
        error = CellError(answer["error"])
        error.add_note(str(answer.get("detail", "")))
        raise error
    return answer["answer"], rest


def close_all(fds: Sequence[int]) -> None:
    """Close descriptors."""
    for fd in fds:
        os.close(fd)
