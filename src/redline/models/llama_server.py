"""Serve a GGUF model by llama.cpp on the loopback interface: `python -m redline.models.llama_server`.

Settings are one line of JSON on stdin; the address is one line on stdout once the model is loaded. Stdin stays open:
its end is the end of the server.

Two processes, because one is not enough. llama.cpp holds Python's lock while it loads, so a thread beside it could not
end it then. And the kernel's parent-death signal is sent when the *thread* ends that started the process, which in
redline may be any. So the first process loads nothing, has one thread, and ends the second when stdin ends or redline
is no longer its parent; the second asks for the parent-death signal and so does not outlive the first either. Standard
library and xllamacpp only.
"""

import ctypes
import json
import os
import select
import signal
import sys
from typing import Any

LOOK_SECONDS = 0.5
EXIT_SECONDS = 5
PR_SET_PDEATHSIG = 1
FAILED = 1
UNNAMED = -1


def main() -> int:
    """Keep the server until its owner is gone; return its exit code."""
    owner = os.getppid()
    line = sys.stdin.buffer.readline()
    if not line:
        return FAILED
    keeper = os.getpid()
    server = os.fork()
    if server == 0:
        try:
            serve(json.loads(line), keeper)
        except BaseException as error:  # whatever it is, it is the last line of the log
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        signal.alarm(EXIT_SECONDS)
        return FAILED  # an ordinary end: llama.cpp writes what its log still holds
    os.close(1)  # the server alone says the address, and its end must be the end of the pipe
    return keep(server, owner)


def keep(server: int, owner: int) -> int:
    """Wait for the end of the server or of its owner, and end it in the second case."""
    while True:
        ready, _, _ = select.select([0], [], [], LOOK_SECONDS)
        over = bool(ready) and not os.read(0, 1)
        if over or os.getppid() != owner:
            os.kill(server, signal.SIGKILL)
            os.waitpid(server, 0)
            return 0
        ended, status = os.waitpid(server, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status) or FAILED


def serve(settings: dict[str, Any], keeper: int) -> None:
    """Load the model, say the address, and serve until killed."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != keeper:  # it ended before the signal was asked for
        return
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    told = os.dup(1)
    os.dup2(2, 1)  # what libraries print belongs into the log

    import xllamacpp

    server = xllamacpp.Server(as_parameters(xllamacpp.CommonParams(), settings))
    os.write(told, f"{json.dumps({'address': server.listening_address})}\n".encode())
    os.close(told)
    while True:
        signal.pause()


def as_parameters(parameters: Any, settings: dict[str, Any]) -> Any:
    """Fill in llama.cpp's parameters."""
    parameters.model.path = settings["path"]
    parameters.model_alias = {settings["alias"]}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0  # the kernel picks one, so no other process can take it in between
    parameters.api_keys = [settings["key"]]
    parameters.n_parallel = settings["slots"]
    parameters.n_ctx = settings["ctx"] * settings["slots"]
    parameters.kv_unified = False
    parameters.cpuparams.n_threads = settings["threads"]
    parameters.cpuparams_batch.n_threads = settings["threads"]
    parameters.n_predict = settings["most_tokens"]
    parameters.cache_ram_mib = settings["prompts_mib"]
    parameters.use_jinja = True
    parameters.ui = False
    parameters.offline = True
    parameters.endpoint_slots = False
    return parameters


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(main())
