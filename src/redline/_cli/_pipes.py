"""Let the reader of stdout or stderr exit early, as `head` does.

Click and Rich end the process with exit code 1 on a broken pipe, and Python prints an error if it flushes one at exit.
Here, a write to a pipe without a reader is discarded, so that the command ends normally whichever write it is.
"""

import io
import os
import stat
import sys
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Discarding(io.FileIO):
    """A file descriptor that leads to the null device once its reader has exited."""

    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            return memoryview(data).nbytes


def discard_after_reader_exits() -> None:
    """Replace stdout and stderr, if they are pipes, with streams that discard what cannot be read any more."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and _is_pipe(stream):
            stream.flush()
            setattr(sys, name, _discarding(stream))


def _discarding(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    raw = _Discarding(stream.fileno(), "wb", closefd=False)
    return io.TextIOWrapper(
        # typeshed models raw streams with read methods, which a writer does not need
        cast("io.BufferedWriter", io.BufferedWriter(raw)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _is_pipe(stream: io.TextIOWrapper) -> bool:
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except (OSError, ValueError):  # closed, or without a file descriptor
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
