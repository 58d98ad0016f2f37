"""Serve a GGUF model with llama.cpp on the loopback interface: `python -m redline.models.llama_server`.

The settings are one line of JSON on stdin. The address is one line on stdout, written when the model is loaded. Stdin
stays open; when it is closed, the server ends.

Two processes are needed. llama.cpp holds Python's global lock while it loads a model, so another thread of that process
could not end it. And the kernel sends the parent-death signal when the *thread* that started the process ends, which in
redline can be any thread. Therefore the first process is single-threaded and loads nothing; it kills the second when
stdin is closed or redline is no longer its parent. The second process requests the parent-death signal, so it does not
outlive the first. This module uses only the standard library and xllamacpp.
"""

import ctypes
import json
import os
import select
import signal
import sys
from typing import Any

POLL_SECONDS = 0.5
EXIT_SECONDS = 5
PR_SET_PDEATHSIG = 1
FAILED = 1
UNNAMED = -1


def main() -> int:
    """Run the server until its owner ends; return its exit code."""
    owner = os.getppid()
    line = sys.stdin.buffer.readline()
    if not line:
        return FAILED
    keeper = os.getpid()
    server = os.fork()
    if server == 0:
        try:
            serve(json.loads(line), keeper)
        except BaseException as error:  # any error becomes the last line of the log
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        signal.alarm(EXIT_SECONDS)
        return FAILED  # a regular exit, so that llama.cpp flushes its log
    os.close(1)  # only the server writes the address, and the pipe must close when it ends
    return keep(server, owner)


def keep(server: int, owner: int) -> int:
    """Wait until the server or its owner ends; in the second case, kill the server."""
    while True:
        ready, _, _ = select.select([0], [], [], POLL_SECONDS)
        over = bool(ready) and not os.read(0, 1)
        if over or os.getppid() != owner:
            os.kill(server, signal.SIGKILL)
            os.waitpid(server, 0)
            return 0
        ended, status = os.waitpid(server, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status) or FAILED


def serve(settings: dict[str, Any], keeper: int) -> None:
    """Load the model, write the address, and serve until killed."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != keeper:  # the parent ended before the signal was requested
        return
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    output = os.dup(1)
    os.dup2(2, 1)  # the output of libraries belongs in the log

    import xllamacpp

    server = xllamacpp.Server(as_parameters(xllamacpp.CommonParams(), settings))
    os.write(output, f"{json.dumps({'address': server.listening_address})}\n".encode())
    os.close(output)
    while True:
        signal.pause()


def as_parameters(parameters: Any, settings: dict[str, Any]) -> Any:
    """Set llama.cpp's parameters."""
    parameters.model.path = settings["path"]
    parameters.model_alias = {settings["alias"]}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0  # the kernel chooses a port, so that no other process can take it first
    parameters.api_keys = [settings["key"]]
    parameters.n_parallel = settings["slots"]
    parameters.n_ctx = settings["ctx"] * settings["slots"]
    parameters.kv_unified = False
    parameters.cpuparams.n_threads = settings["threads"]
    parameters.cpuparams_batch.n_threads = settings["threads"]
    parameters.n_predict = settings["max_tokens"]
    parameters.cache_ram_mib = settings["prompts_mib"]
    parameters.use_jinja = True
    parameters.ui = False
    parameters.offline = True
    parameters.endpoint_slots = False
    return parameters


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(main())
