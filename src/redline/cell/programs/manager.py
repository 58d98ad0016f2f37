"""Make and end the cells of one harness, with an OCI runtime. Runs in the warden's process, outside the cells.

Everything that a cell leaves on the host is found again from the owner's folder: `cells/<id>/` for each cell, with the
pids of its first processes, and the cgroup `pod-<owner>-<id>`. So a sweep works the same for a harness that died and
for one that ends in order. Standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import time

from redline.cell.programs.cgroups import (
    cell_processes,
    cgroup_pids,
    remove_cgroups,
    unified_folder,
    write_file,
)
from redline.cell.programs.prelude import (
    PR_SET_PDEATHSIG,
    is_running,
    kill_process,
    libc,
    openat2_in_root,
    start_time,
    stat_fields,
)

TYPE_CHECKING = False  # the name that type checkers know; importing typing would cost every start some milliseconds
if TYPE_CHECKING:
    from typing import Any

    Reply = tuple[dict[str, Any], list[int]]

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
GONE_SECONDS = 10.0
LOOK_SECONDS = 0.1
RUNTIME_SECONDS = 60.0
TIMED_OUT = 124
STATE = "runtime-state"
PROGRAMS_KEPT = 16


class CellManager:
    """The operations on the cells of one owner."""

    def __init__(self, setup: dict[str, Any]) -> None:
        """Store the owner's folder, the runtime's command line and whether each cell has a kernel for itself."""
        self.folder = setup["folder"]
        self.owner = os.path.basename(self.folder)
        self.runtime = setup["runtime"]
        self.own_kernel = setup["own_kernel"]
        self.programs: dict[int, str] = {}

    def cell_folder(self, cell: str) -> str:
        """Return the folder of a cell."""
        return os.path.join(self.folder, "cells", cell)

    def cgroup(self, cell: str) -> str:
        """Return the name of the cgroup that holds all nodes of a cell."""
        return f"pod-{self.owner}-{cell}"

    def inits(self, cell: str) -> dict[str, list[int]]:
        """Return pid and start time of the first process of each node that was started."""
        try:
            with open(os.path.join(self.cell_folder(cell), "inits.json")) as file:
                found: dict[str, list[int]] = json.load(file)
                return found
        except (OSError, ValueError):
            return {}

    def start(self, request: dict[str, Any], fds: list[int]) -> Reply:
        """Start one node. The first descriptor becomes its control socket.

        If the node is the first of a cell on the host's kernel, the answer has as many sockets as were requested.
        """
        cell, node = request["cell"], request["node"]
        folder = self.cell_folder(cell)
        bundle = os.path.join(folder, node)
        errors = os.path.join(bundle, "errors")
        pid_file = os.path.join(bundle, "pid")
        command = ["run", "--detach", "--bundle", bundle, "--pid-file", pid_file]
        if not self.own_kernel:
            # A keyring for each node would use up the quota of a user without root. No system call for keys is allowed.
            command.append("--no-new-keyring")
        command.append(container(self.owner, cell, node))
        with open(errors, "wb") as output:
            code = self.call_runtime(command, fds[0], output)
        if code != 0:
            with open(errors, errors="replace") as file:
                raise RuntimeError(file.read(4000).strip() or f"the runtime ended with code {code}")
        with open(pid_file) as file:
            pid = int(file.read())
        inits = self.inits(cell)
        start = start_time(pid)
        if start is None:
            raise RuntimeError("the first process ended at its start")
        inits[node] = [pid, start]
        temporary = os.path.join(folder, "inits.new")
        with open(temporary, "w") as file:
            json.dump(inits, file)
        os.replace(temporary, os.path.join(folder, "inits.json"))
        if request["shares"] or self.own_kernel:
            return {"pid": pid, "start": start}, []
        # The last steps, since this fork gives up its rights on the host for them. Further forks would cost time.
        enter_network(pid)
        deny_user_namespaces()
        return {"pid": pid, "start": start}, unconnected_sockets([socket.AF_INET] * request["sockets"])

    def call_runtime(self, arguments: list[str], stdin: int, errors: Any) -> int:
        """Run the container runtime and return its exit code; kill it if it takes too long."""
        try:
            return subprocess.call(
                [*self.runtime, *arguments],
                stdin=stdin,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=runtime_environment(),
                preexec_fn=functools.partial(die_with, os.getpid()),
                timeout=RUNTIME_SECONDS,
            )
        except subprocess.TimeoutExpired:
            return TIMED_OUT

    def learn(self, number: int, text: str) -> None:
        """Remember the text of a program under a number, and what it defines: each fork then has both."""
        self.programs[number] = text
        with contextlib.suppress(Exception):  # the fork that runs the program reports it to the caller
            defined(text)

    def join(self, request: dict[str, Any], fds: list[int]) -> Reply:
        """Run a program with the capabilities of the cell's root and none over the host."""
        started = self.inits(request["cell"])
        inits = {node: pid for node, (pid, start) in started.items() if is_running(pid, start)}
        if not inits:
            raise RuntimeError("no node of the cell is running" if started else "the cell was removed or never started")
        join_user_namespace(next(iter(inits.values())))
        request["program"] = self.programs[request["program"]]
        return run_program(request, fds, inits, self.cgroup(request["cell"]))

    def sockets(self, request: dict[str, Any], fds: list[int]) -> Reply:
        """Make unconnected sockets in the cell's network namespace."""
        pid, start = self.inits(request["cell"])["default"]
        if not is_running(pid, start):
            raise RuntimeError("the cell's first node is not running")
        enter_network(pid)
        return {}, unconnected_sockets(request["families"])

    def kill(self, request: dict[str, Any], fds: list[int]) -> Reply:
        """Kill everything in a cell; return how long it took and how many processes are left."""
        begun = time.monotonic()
        left = self.kill_cell(request["cell"])
        return {"seconds": time.monotonic() - begun, "survivors": left}, []

    def kill_cell(self, cell: str) -> int:
        """Kill by cgroup, then each node's first process, then thaw. Return the number of processes still running."""
        name = self.cgroup(cell)
        inits = self.inits(cell)
        unified = unified_folder(name)
        # With a kernel of its own, a first process can end before the others of its node: so remember these.
        others = [(pid, start_time(pid) or 0) for pid in cgroup_pids(name)] if self.own_kernel else []
        if unified is not None:
            write_file(unified + "/cgroup.kill", "1")
        for pid, start in inits.values():
            kill_process(pid, start)
        if unified is not None:
            write_file(unified + "/cgroup.freeze", "0")
        begun = time.monotonic()
        look = begun + LOOK_SECONDS
        while True:
            left = {pid for pid, start in [*inits.values(), *others] if is_running(pid, start)}
            now = time.monotonic()
            # A first process ends after all others of its node. Poll those rarely, since each poll slows their end.
            if not left or now > look:
                left |= {pid for pid in cgroup_pids(name) if is_running(pid, start_time(pid))}
                look = now + LOOK_SECONDS
                if not left or now > begun + GONE_SECONDS:
                    return len(left)
                for pid in left:
                    kill_process(pid, start_time(pid))
            time.sleep(0.001)

    def remove(self, request: dict[str, Any], fds: list[int]) -> Reply:
        """Kill a cell and remove everything that it left."""
        self.remove_cell(request["cell"])
        return {}, []

    def remove_cell(self, cell: str) -> None:
        """End a cell and remove its containers, cgroups, id range and folder.

        Once nothing runs, a runtime that shares the host's kernel leaves a state folder and cgroups. Removing these
        here saves a start of the runtime for each node. If anything cannot be removed, the runtime is called.
        """
        folder = self.cell_folder(cell)
        left = self.kill_cell(cell)
        if not os.path.isdir(folder):
            return  # another sweep has removed it
        nodes = [node for node in sorted(os.listdir(folder)) if os.path.isdir(os.path.join(folder, node))]
        if self.own_kernel or not remove_cgroups(self.cgroup(cell)):
            for node in nodes:
                name = container(self.owner, cell, node)
                self.call_runtime(["delete", "--force", name], subprocess.DEVNULL, subprocess.DEVNULL)
            if not remove_cgroups(self.cgroup(cell)) and left:
                raise RuntimeError(f"{left} processes of the cell survive")  # its folder stays: the next sweep finds it
        for node in nodes:
            shutil.rmtree(os.path.join(self.folder, STATE, container(self.owner, cell, node)), ignore_errors=True)
        self.free_range(os.path.join(folder, "range"))
        shutil.rmtree(folder, ignore_errors=True)

    def free_range(self, note: str) -> None:
        """Release the range of ids that a note claims; a note alone claims nothing."""
        with contextlib.suppress(OSError), open(note) as file:
            claim = file.read()
            if os.path.samefile(claim, note):
                os.unlink(claim)

    def sweep(self) -> bool:
        """End every cell of this owner. Return whether nothing is left."""
        cells = os.path.join(self.folder, "cells")
        for _ in range(3):
            names = os.listdir(cells) if os.path.isdir(cells) else []
            if not names:
                return True
            for name in names:
                self.kill_cell(name)
            for name in names:
                with contextlib.suppress(RuntimeError):
                    self.remove_cell(name)
        return False


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, so that nothing runs without a lease."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)  # the parent had ended before


def container(owner: str, cell: str, node: str) -> str:
    """Return the runtime's name of a node."""
    return f"{owner}-{cell}-{node}"


def runtime_environment() -> dict[str, str]:
    """Return the environment of the runtime, which contains none of the harness's variables."""
    kept = {name: os.environ[name] for name in ("XDG_RUNTIME_DIR",) if name in os.environ}
    return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **kept}


def join_namespace(fd: int, kind: int) -> None:
    """Enter a namespace."""
    if libc.setns(fd, kind) != 0:
        number = ctypes.get_errno()
        raise OSError(number, "setns: " + os.strerror(number))


def join_user_namespace(pid: int) -> None:
    """Give up this user's rights on the host for all capabilities over a cell."""
    fd = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    join_namespace(fd, CLONE_NEWUSER)
    os.close(fd)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def enter_network(pid: int) -> None:
    """Enter the user namespace and the network of a cell."""
    network = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    join_user_namespace(pid)
    join_namespace(network, CLONE_NEWNET)
    os.close(network)


def unconnected_sockets(families: list[int]) -> list[int]:
    """Return sockets of the network that this process is in."""
    return [socket.socket(family, socket.SOCK_STREAM).detach() for family in families]


def deny_user_namespaces() -> None:
    """Forbid further user namespaces inside the cell that this process entered, to which the limit belongs."""
    if not write_file("/proc/sys/user/max_user_namespaces", "0"):
        raise RuntimeError("user namespaces inside the cell could not be forbidden")


@functools.lru_cache(maxsize=PROGRAMS_KEPT)
def defined(program: str) -> dict[str, Any]:
    """Compile a program and execute its definitions, once rather than in every fork: the census takes 50 ms.

    Programs are redline's own texts and do nothing before `main` is called. Each fork has a copy of what they define.
    """
    scope: dict[str, Any] = {
        "__name__": "joined",
        "openat2_in_root": openat2_in_root,
        "join_namespace": join_namespace,
        "is_running": is_running,
        "stat_fields": stat_fields,
    }
    exec(compile(program, "<joined>", "exec"), scope)
    return scope


def run_program(request: dict[str, Any], fds: list[int], inits: dict[str, int], cgroup: str) -> Reply:
    """Run a program in this fork."""
    signal.alarm(max(1, int(request["timeout"]) + 1))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    scope = defined(request["program"])
    scope["cell_processes"] = functools.partial(cell_processes, cgroup)
    answer: Reply = scope["main"]({**request["request"], "inits": inits}, fds)
    return answer
