"""Warden of a harness's cells: holds their lease, and ends them all when the harness is gone or late.

Runs outside the cells as the harness's user, in a session of its own. Standard input is a SOCK_SEQPACKET socket to the
harness; every message renews the lease. A message is a JSON object, or `{"length": n}` with a memory file that holds
it; its last descriptor is where the reply goes. Each operation runs in a fork, so none waits for another.

Given a folder as its argument, it sweeps that folder instead: it ends what a dead harness left. Standard library only.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import fcntl
import gc
import json
import os
import select
import shutil
import signal
import socket
import sys
import time
import traceback

from redline.cell.programs.lease import Lease
from redline.cell.programs.manager import GONE_SECONDS, CellManager, die_with
from redline.cell.programs.prelude import PR_SET_CHILD_SUBREAPER, libc, lock_file

TYPE_CHECKING = False  # the name that type checkers know; importing typing would cost every start some milliseconds
if TYPE_CHECKING:
    from typing import Any

    from redline.cell.programs.manager import Reply

MAX_MESSAGE = 1 << 16
MAX_DESCRIPTORS = 200
AGAIN_SECONDS = 2.0
SETUP_FILE = "runtime"
WITHOUT_FORK = ("beat", "program")


def receive(control: socket.socket) -> Reply | None:
    """Receive one message with its descriptors; None at the end of the socket."""
    message, ancillary, _, _ = control.recvmsg(MAX_MESSAGE, socket.CMSG_SPACE(MAX_DESCRIPTORS * 4))
    fds = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    if not message:
        return None
    given = list(fds)
    request = json.loads(message)
    if "length" in request:
        body = given.pop(0)
        request = json.loads(os.pread(body, request["length"], 0))
        os.close(body)
    return request, given


def reply(fd: int, answer: dict[str, Any], fds: list[int]) -> None:
    """Send an answer of any size: a memory file of JSON and the descriptors that belong to it."""
    body = os.memfd_create("reply")
    data = memoryview(json.dumps(answer).encode())
    size = len(data)
    while data:
        data = data[os.write(body, data) :]
    with socket.socket(fileno=fd) as channel:
        socket.send_fds(channel, [json.dumps({"length": size}).encode()], [body, *fds])


def operate(manager: CellManager, request: dict[str, Any], fds: list[int]) -> None:
    """Carry out one operation in a fork."""
    *given, channel = fds
    made: list[int] = []
    try:
        result, made = getattr(manager, request["op"])(request, given)
        answer: dict[str, Any] = {"answer": result}
    except BaseException as error:
        detail = "".join(traceback.format_exception(error))[-2000:]
        answer = {
            "error": f"{type(error).__name__}: {error}" if str(error) else type(error).__name__,
            "detail": detail,
        }
    reply(channel, answer, made)


class Warden:
    """The loop: operations, children, and the lease."""

    def __init__(self, control: socket.socket, manager: CellManager, lease: Lease) -> None:
        """Serve the requests on `control`."""
        self.control = control
        self.manager = manager
        self.lease = lease
        self.children: set[int] = set()
        self.deadlines: dict[str, float] = {}

    def run(self) -> None:
        """Serve until the harness is gone, late, or closes its socket; then end every cell."""
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # only the end of the harness ends this process
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(wake_read, select.POLLIN)
        late = False
        while not late:
            # A poll that a signal interrupts after its time returns nothing even if something is ready: so poll again.
            ready = {fd for fd, _ in poll.poll(250) or poll.poll(0)}
            if wake_read in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(wake_read, 4096)
            self.reap()
            self.kill_expired()
            if self.control.fileno() not in ready:  # an unread message shows that the harness is alive
                late = self.lease.has_expired()
            elif not self.serve():
                break
        self.finish()

    def serve(self) -> bool:
        """Serve one message. Return False at the end of the socket."""
        try:
            received = receive(self.control)
        except ConnectionError:
            received = None
        if received is None:
            return False
        request, fds = received
        self.lease.renew()
        if request["op"] == "start" and not request["shares"]:
            self.deadlines[request["cell"]] = time.clock_gettime(time.CLOCK_BOOTTIME) + request["wall_seconds"]
        elif request["op"] == "remove":
            self.deadlines.pop(request["cell"], None)
        elif request["op"] == "program":
            self.manager.learn(request["number"], request["text"])
        if request["op"] not in WITHOUT_FORK:
            self.fork(request, fds)
        for fd in fds:
            os.close(fd)
        return True

    def fork(self, request: dict[str, Any], fds: list[int]) -> None:
        """Run one operation in a child."""
        own = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                die_with(own)
                gc.disable()  # a short life leaves no garbage worth the search, which would copy every page
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                self.control.close()
                operate(self.manager, request, fds)
            finally:
                os._exit(0)
        self.children.add(pid)

    def reap(self) -> None:
        """Collect ended children, including the first processes of cells, which would otherwise stay as zombies."""
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self.children.discard(pid)

    def kill_expired(self) -> None:
        """Kill the cells that exceed their maximum age, repeatedly: a node may still have been starting."""
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        for cell in [cell for cell, deadline in self.deadlines.items() if now > deadline]:
            self.deadlines[cell] = now + AGAIN_SECONDS
            ours, theirs = socket.socketpair()
            with ours, theirs:  # the answer is not read
                self.fork({"op": "kill", "cell": cell}, [theirs.fileno()])

    def finish(self) -> None:
        """End every operation in progress and every cell, then remove what they left."""
        self.kill_children()
        sweeper = os.fork()
        if sweeper == 0:
            try:
                if self.manager.sweep():
                    shutil.rmtree(self.manager.folder, ignore_errors=True)
                    os.rmdir(os.path.dirname(self.manager.folder))  # refused while other harnesses have theirs in it
            finally:
                os._exit(0)
        ended = 0
        while ended != sweeper:
            ended, _ = os.waitpid(-1, 0)

    def kill_children(self) -> None:
        """Kill every descendant: the half-made node of a killed runtime becomes a child of this process."""
        deadline = time.monotonic() + GONE_SECONDS
        while time.monotonic() < deadline:
            with open(f"/proc/self/task/{os.getpid()}/children") as file:
                children = [int(word) for word in file.read().split()]
            if not children:
                return
            for pid in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.002)
            self.reap()


def main(kind: type[CellManager] = CellManager) -> None:
    """Sweep the folder that is given as an argument; without one, serve on standard input.

    Args:
        kind: Class of the manager of the cells.
    """
    if len(sys.argv) > 1:
        sys.exit(0 if sweep(kind, sys.argv[1]) else 1)
    os.umask(0o022)  # the runtime makes folders of a cell, too, and its users must be able to pass through them
    control = socket.socket(fileno=os.dup(0))
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    first = receive(control)
    if first is None:
        return  # the harness ended before it sent the setup
    setup, _ = first
    lock_folder(setup["folder"])
    control.send(b'{"ready": true}')
    Warden(control, kind(setup), Lease(setup["lease_seconds"], os.getppid())).run()


def lock_folder(folder: str) -> None:
    """Lock a harness's folder until this process ends.

    The lock file is locked before it gets its name: another harness sweeps a folder whose lock file is not locked.
    """
    path = os.path.join(folder, "lock")
    fd = os.open(path + ".new", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    lock_file(fd, fcntl.LOCK_EX)
    os.rename(path + ".new", path)


def sweep(kind: type[CellManager], folder: str) -> bool:
    """End what a dead harness left in its folder. Return whether nothing is left."""
    with open(os.path.join(folder, SETUP_FILE)) as file:
        setup = json.load(file)
    return kind({**setup, "folder": folder}).sweep()


if __name__ == "__main__":
    main()
