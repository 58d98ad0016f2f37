"""A llama.cpp server that redline starts for one model. It ends with its owner."""

import contextlib
import http.client
import io
import json
import os
import re
import secrets
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from redline._errors import UsageError
from redline._text import clean_line
from redline.models._figures import figures
from redline.models.fit import Size
from redline.models.gguf_header import GgufHeader

PROGRAM = ("-P", "-m", "redline.models.llama_server")
"""-P: a file in the working directory must not replace a module."""

PACKAGE = "xllamacpp"
MAX_ANSWER_BYTES = 1 << 22
MAX_ADDRESS_BYTES = 4096
POLL_SECONDS = 0.2
STAMP = re.compile(r"^[\d.]+ (?P<level>[EWID]) ")
"""Prefix of each line of llama.cpp's log."""

SAMPLING = ("temperature", "top_k", "top_p", "min_p", "typical_p", "repeat_penalty", "presence_penalty", "seed")


@dataclass(frozen=True)
class Properties:
    """Properties reported by a running server."""

    slots: int
    """Requests answered in parallel."""
    ctx: int | None
    """Context length of one slot, in tokens."""
    quantisation: str | None
    """Type of most of the weights, such as `Q4_1`."""
    sampling: Mapping[str, int | float]
    """Default sampling settings."""


class EmbeddedServer:
    """One server process, from `start` to `close`. Both can be called from any thread."""

    def __init__(self, header: GgufHeader, alias: str, size: Size, max_tokens: int, log: Path | None = None) -> None:
        """Store the settings without starting the server.

        Args:
            header: The model.
            alias: The server's name of the model.
            size: Size of the server.
            max_tokens: Maximum length of one answer, in tokens.
            log: File for its log; None uses an unnamed file.
        """
        self.size = size
        self.max_tokens = max_tokens
        self.key = secrets.token_hex(16)
        self.address: str | None = None
        self._header = header
        self._settings = {
            "path": str(header.files[0].absolute()),
            "alias": alias,
            "key": self.key,
            "ctx": size.ctx,
            "slots": size.slots,
            "threads": size.threads,
            "prompts_mib": size.prompts_mib,
            "max_tokens": max_tokens,
        }
        self._log_path = log
        self._log: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = threading.Event()
        self._ending = threading.Lock()

    def start(self) -> Properties:
        """Start the server and wait until it is healthy.

        Raises:
            UsageError: The server did not start. No process of it remains.
        """
        try:
            self._log = self._open_log()
            self._process = subprocess.Popen(
                [sys.executable, *PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                # Ctrl-C in the terminal must reach only redline, which can finish the trials in flight.
                start_new_session=True,
            )
            self.address = self._await_address(self._process)
            properties = self._properties()
        except UsageError:
            self.close()
            raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            raise UsageError(f"its server did not start: {clean_line(error) or type(error).__name__}") from error
        except BaseException:
            self.close()
            raise
        return properties

    @property
    def running(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """Pid of the server's first process."""
        return None if self._process is None else self._process.pid

    def close(self) -> None:
        """Stop the server and wait for its end. Can be called more than once."""
        self._closed.set()
        with self._ending:
            process = self._process
            if process is not None:
                self._end(process)
            if self._log is not None:
                self._log.close()

    def _end(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(OSError):
            process.stdin.close()  # its first process then ends
        try:
            process.wait(figures().server.stop_seconds)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(figures().server.stop_seconds)
        process.stdout.close()

    def _open_log(self) -> IO[bytes]:
        return tempfile.TemporaryFile() if self._log_path is None else self._log_path.open("x+b")

    def _await_address(self, process: "subprocess.Popen[bytes]") -> str:
        """Wait for the line that the server writes when the model is loaded."""
        assert process.stdin is not None
        assert process.stdout is not None
        bounds = figures().server
        seconds = bounds.start_seconds + self._header.size / (bounds.read_mib_per_second * (1 << 20))
        end = time.monotonic() + seconds
        with contextlib.suppress(BrokenPipeError):  # the server has already ended; its log has the reason
            process.stdin.write(json.dumps(self._settings).encode() + b"\n")
            process.stdin.flush()
        output = bytearray()
        os.set_blocking(process.stdout.fileno(), False)
        while not output.endswith(b"\n"):
            if self._closed.is_set():
                raise UsageError("its server was stopped before it was ready")
            if time.monotonic() > end:
                raise UsageError(f"its server was not ready within {seconds:.0f} s{self._log_reason()}")
            ready, _, _ = select.select([process.stdout], [], [], POLL_SECONDS)
            if not ready:
                continue
            more = os.read(process.stdout.fileno(), MAX_ADDRESS_BYTES)
            if not more:
                raise UsageError(f"its server ended before it was ready{self._log_reason()}")
            output += more
            if len(output) > MAX_ADDRESS_BYTES:
                raise UsageError("its server wrote something other than its address")
        return _checked_address(json.loads(output))

    def _properties(self) -> Properties:
        """Query the health and the properties of a server that has loaded its model."""
        if self._get("/health").get("status") != "ok":
            raise UsageError(f"its server is not healthy{self._log_reason()}")
        return read_properties(self._get("/props"), self.size)

    def _get(self, path: str) -> dict[str, Any]:
        assert self.address is not None
        split = urlsplit(self.address)
        # http.client ignores proxy variables.
        connection = http.client.HTTPConnection(
            str(split.hostname), split.port, timeout=figures().server.request_seconds
        )
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {self.key}"})
            document = json.loads(connection.getresponse().read(MAX_ANSWER_BYTES))
        finally:
            connection.close()
        return document if isinstance(document, dict) else {}

    def _log_reason(self) -> str:
        """Return the reason from the log: its first error, or else its last line."""
        if self._log is None:
            return ""
        try:
            # The process writes through the same file offset, which pread does not move.
            handle = self._log.fileno()
            size, tail = os.fstat(handle).st_size, figures().server.tail_bytes
            text = os.pread(handle, tail, max(0, size - tail)).decode("utf-8", "replace")
        except OSError:
            return ""
        lines = [line.strip() for line in io.StringIO(text) if line.strip()]
        errors = [line for line in lines if (found := STAMP.match(line)) and found["level"] == "E"]
        reason = (errors or lines[-1:])[:1]
        where = "" if self._log_path is None else f" (log: {self._log_path})"
        return "".join(f": {clean_line(STAMP.sub('', line))}{where}" for line in reason)


def _checked_address(document: Any) -> str:
    address = document.get("address") if isinstance(document, dict) else None
    split = urlsplit(address if isinstance(address, str) else "")
    if split.scheme != "http" or split.hostname != "127.0.0.1" or not split.port:
        raise UsageError("its server listens at another address than 127.0.0.1")
    return f"http://127.0.0.1:{split.port}"


def read_properties(document: Mapping[str, Any], size: Size) -> Properties:
    """Parse the reply of `GET /props`, which is not trusted."""
    slots = total_slots(document)
    settings = document.get("default_generation_settings")
    settings = settings if isinstance(settings, dict) else {}
    params = settings.get("params")
    params = params if isinstance(params, dict) else {}
    ctx, quantisation = settings.get("n_ctx"), document.get("model_ftype")
    numbers = {name: params[name] for name in SAMPLING if _is_number(params.get(name))}
    return Properties(
        slots=slots or size.slots,
        ctx=ctx if isinstance(ctx, int) and not isinstance(ctx, bool) and ctx > 0 else None,
        quantisation=clean_line(quantisation) if isinstance(quantisation, str) and quantisation else None,
        # 32-bit numbers reported as 64-bit ones: 0.949999988079071 is 0.95.
        sampling={name: round(value, 6) if isinstance(value, float) else value for name, value in numbers.items()},
    )


def total_slots(document: Mapping[str, Any]) -> int | None:
    """Return the slots in llama.cpp's reply to `GET /props`; None if it reports none."""
    slots = document.get("total_slots")
    return slots if isinstance(slots, int) and not isinstance(slots, bool) and slots > 0 else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1 << 53


def server_version() -> str:
    """Return the name and version of the server program."""
    try:
        return f"llama.cpp of {PACKAGE} {version(PACKAGE)}"
    except PackageNotFoundError:
        return f"llama.cpp of {PACKAGE}"
