"""CellManager of a harness's cells: makes them, ends them, and ends them all when the harness is gone or late.

Runs outside the cells as the harness's user, in a session of its own. Standard input is a SOCK_SEQPACKET socket to the
harness; every message renews the lease. A message is a JSON object, or `{"length": n}` with a memory file that holds
it; its last descriptor is where the reply goes. Each operation runs in a fork, so none waits for another.

Everything that a cell leaves on the machine is found again from the owner's folder: `cells/<id>/` for each cell, with
the pids of its first processes, and the cgroup `pod-<owner>-<id>`. So `sweep` works for a harness that died as for one
that ends.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import errno
import fcntl
import functools
import glob
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import traceback
import types

TYPE_CHECKING = False  # the name that type checkers know; importing typing would cost every start some milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    Reply = tuple[dict[str, Any], list[int]]

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
SYS_OPENAT2 = 437
RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_IN_ROOT = 0x02, 0x04, 0x10
CGROUP_ROOT = "/sys/fs/cgroup"
MAX_MESSAGE = 1 << 16
MAX_DESCRIPTORS = 200
GONE_SECONDS = 10.0
LOOK_SECONDS = 0.1
EMPTY_SECONDS = 1.0
AGAIN_SECONDS = 2.0
FREEZE_SECONDS = 8.0  # A node whose processors are all busy takes seconds to run each process to where it can stop.
RUNTIME_SECONDS = 60.0
TIMED_OUT = 124
STATE = "runtime-state"
PROGRAMS_KEPT = 16

NO_FLOCK = (errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""How file systems refuse `flock`: Lustre without its mount option, NFS without a lock service, some of FUSE."""

libc = ctypes.CDLL(None, use_errno=True)


def openat2_in_root(root_fd: int, path: str, flags: int, mode: int = 0) -> int:
    """Opens a path below a folder so that no link of any kind is followed and nothing outside can be reached."""
    how = struct.pack(
        "QQQ", flags | os.O_NONBLOCK | os.O_CLOEXEC, mode, RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
    )
    if flags & os.O_PATH:
        how = struct.pack("QQQ", flags | os.O_CLOEXEC, 0, RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)
    fd: int = libc.syscall(SYS_OPENAT2, root_fd, os.fsencode(path), how, len(how))
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return fd


# --- processes ---


def start_time(pid: int) -> int | None:
    """Clock ticks since boot at which a process started, None when there is none of that pid."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (OSError, ProcessLookupError):
        return None
    return int(fields[19])


def is_running(pid: int, start: int | None) -> bool:
    """Whether that very process exists and is not a zombie; one of whose threads some still live is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (OSError, ProcessLookupError):
        return False
    return int(fields[19]) == start and (fields[0] not in (b"Z", b"X") or int(fields[17]) > 1)


def die_with(parent: int) -> None:
    """Has the kernel kill this process when its parent ends, so that nothing goes on that nobody holds a lease on."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)  # it had ended before


def kill_process(pid: int, start: int | None) -> None:
    """Kills that very process, never a later one of the same pid."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if start_time(pid) == start:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
    except OSError:
        pass
    finally:
        os.close(fd)


# --- cgroups ---


def cgroup_folders(name: str) -> list[str]:
    """The folders of a cgroup in every hierarchy of the machine, the unified one first."""
    found = [path for path in (CGROUP_ROOT + "/" + name, CGROUP_ROOT + "/unified/" + name) if os.path.isdir(path)]
    return found + [path for path in glob.glob(CGROUP_ROOT + "/*/" + glob.escape(name)) if path not in found]


def write_file(path: str, text: str) -> bool:
    """Writes a control file. False where there is none or it refuses."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(fd, text.encode())
        return True
    except OSError:
        return False
    finally:
        os.close(fd)


def unified_folder(name: str) -> str | None:
    """The folder of a cgroup that has `cgroup.kill` and `cgroup.freeze`, None where there is none."""
    for folder in cgroup_folders(name):
        if os.path.exists(folder + "/cgroup.kill") and os.path.exists(folder + "/cgroup.freeze"):
            return folder
    return None


def set_frozen(name: str, frozen: bool) -> bool:
    """Freezes or thaws a whole cell and waits until it is so. False where there is no freezer."""
    folder = unified_folder(name)
    if folder is None:
        return False
    if not write_file(folder + "/cgroup.freeze", "1" if frozen else "0"):
        return False
    wanted = f"frozen {int(frozen)}"
    deadline = time.monotonic() + FREEZE_SECONDS
    while time.monotonic() < deadline:
        with open(folder + "/cgroup.events") as file:
            if wanted in file.read():
                return True
        time.sleep(0.0005)
    raise OSError(errno.ETIMEDOUT, "the cell did not " + ("freeze" if frozen else "thaw"))


def cgroup_pids(name: str, passed_over: tuple[type[OSError], ...] = (OSError,)) -> set[int]:
    """Pids in a cgroup and the ones below it; what cannot be read is passed over, unless one asks to be told."""
    pids: set[int] = set()
    for folder in cgroup_folders(name):
        for path, _, _ in os.walk(folder):
            with contextlib.suppress(*passed_over), open(path + "/cgroup.procs") as file:
                pids.update(int(line) for line in file)
        if pids:
            break
    return pids


def cell_processes(cgroup: str, inits: dict[str, int]) -> Iterator[tuple[str, int]]:
    """Yields (node, pid) of every process of a cell. Its pid namespace decides, never a name or an address.

    Where the cell has a cgroup, which no process of it can leave, only those in it are asked: there are as many others
    on the machine as other cells hold. A list that lacks a first process, or that cannot be read, is not relied on.
    """
    nodes = {}
    for node, init in inits.items():
        with contextlib.suppress(OSError):
            nodes[os.readlink(f"/proc/{init}/ns/pid")] = node
    try:
        pids = cgroup_pids(cgroup, passed_over=())
    except OSError:
        pids = set()
    if not pids.issuperset(inits.values()):
        pids = {int(name) for name in os.listdir("/proc") if name.isdigit()}
    for pid in sorted(pids):
        try:
            node_of = nodes.get(os.readlink(f"/proc/{pid}/ns/pid"))
        except OSError:
            continue  # gone, or not of the cell: over those of the cell we have every capability
        if node_of is not None:
            yield node_of, pid


def remove_cgroups(name: str) -> bool:
    """Removes the emptied cgroups of a cell. Says whether none is left."""
    deadline = time.monotonic() + EMPTY_SECONDS
    while folders := cgroup_folders(name):
        for folder in folders:
            for path, _, _ in os.walk(folder, topdown=False):
                with contextlib.suppress(OSError):  # a process that just died may still count for a moment
                    os.rmdir(path)
        if time.monotonic() > deadline:
            return not cgroup_folders(name)
    return True


# --- cells ---


class CellManager:
    """What the operations know: the owner's folder and the runtime."""

    def __init__(self, setup: dict[str, Any]) -> None:
        """Takes the owner's folder and the runtime's command line."""
        self.folder = setup["folder"]
        self.owner = os.path.basename(self.folder)
        self.runtime = setup["runtime"]
        self.own_kernel = os.path.basename(self.runtime[0]) == "runsc" if self.runtime else False

    def cell_folder(self, cell: str) -> str:
        """The folder of a cell."""
        return os.path.join(self.folder, "cells", cell)

    def cgroup(self, cell: str) -> str:
        """The cgroup that holds all nodes of a cell."""
        return f"pod-{self.owner}-{cell}"

    def inits(self, cell: str) -> dict[str, list[int]]:
        """Pid and start time of the first process of each node that was started."""
        try:
            with open(os.path.join(self.cell_folder(cell), "inits.json")) as file:
                found: dict[str, list[int]] = json.load(file)
                return found
        except (OSError, ValueError):
            return {}

    def start(self, request: dict[str, Any], fds: list[int]) -> Reply:
        """Starts one node. The first descriptor becomes its control socket."""
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
        if not request["shares"] and not self.own_kernel:
            deny_user_namespaces(pid)
        return {"pid": pid, "start": start}, []

    def call_runtime(self, arguments: list[str], stdin: int, errors: Any) -> int:
        """Runs the container runtime and returns its exit code; one that does not end in time is killed."""
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

    def join(self, request: dict[str, Any], fds: list[int]) -> Reply:
        """Runs a program with the capabilities of the cell's root and none over the machine."""
        inits = {node: pid for node, (pid, start) in self.inits(request["cell"]).items() if is_running(pid, start)}
        if not inits:
            raise RuntimeError("no node of the cell is running")
        join_user_namespace(next(iter(inits.values())))
        return run_program(request, fds, inits, self.cgroup(request["cell"]))

    def sockets(self, request: dict[str, Any], fds: list[int]) -> Reply:
        """Makes unconnected sockets inside the cell's network namespace."""
        pid, start = self.inits(request["cell"])["default"]
        if not is_running(pid, start):
            raise RuntimeError("the cell's first node is not running")
        network = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        join_user_namespace(pid)
        join_namespace(network, CLONE_NEWNET)
        made = [socket.socket(family, socket.SOCK_STREAM).detach() for family in request["families"]]
        return {}, made

    def freeze(self, request: dict[str, Any], fds: list[int]) -> Reply:
        """Freezes or thaws a cell."""
        return {"done": set_frozen(self.cgroup(request["cell"]), request["frozen"])}, []

    def kill(self, request: dict[str, Any], fds: list[int]) -> Reply:
        """Kills everything in a cell and reports how long it took and what is left."""
        begun = time.monotonic()
        left = self.kill_cell(request["cell"])
        return {"seconds": time.monotonic() - begun, "survivors": left}, []

    def kill_cell(self, cell: str) -> int:
        """Kills by cgroup first, then each node's first process, then thaws. Returns what still runs."""
        name = self.cgroup(cell)
        inits = self.inits(cell)
        unified = unified_folder(name)
        # Where a first process does not outlive the others of its node, these have to be remembered.
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
            # A first process ends after all others of its node. Looking at each of a storm's would only slow their end.
            if not left or now > look:
                left |= {pid for pid in cgroup_pids(name) if is_running(pid, start_time(pid))}
                look = now + LOOK_SECONDS
                if not left or now > begun + GONE_SECONDS:
                    return len(left)
                for pid in left:
                    kill_process(pid, start_time(pid))
            time.sleep(0.001)

    def remove(self, request: dict[str, Any], fds: list[int]) -> Reply:
        """Kills a cell and removes all that it left."""
        self.remove_cell(request["cell"])
        return {}, []

    def remove_cell(self, cell: str) -> None:
        """Ends a cell and removes its containers, cgroups, id range and folder.

        Once nothing runs, what runc and crun leave is a state folder and cgroups. Removing these here saves a start of
        the runtime for each node; where anything resists, the runtime's own way is taken.
        """
        folder = self.cell_folder(cell)
        left = self.kill_cell(cell)
        if not os.path.isdir(folder):
            return  # another sweep was faster
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
        """Gives up the range of ids that a note claims; a note alone claims nothing."""
        with contextlib.suppress(OSError), open(note) as file:
            claim = file.read()
            if os.path.samefile(claim, note):
                os.unlink(claim)

    def sweep(self) -> bool:
        """Ends every cell of this owner. Says whether nothing is left."""
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


def container(owner: str, cell: str, node: str) -> str:
    """Name by which the runtime knows a node."""
    return f"{owner}-{cell}-{node}"


def runtime_environment() -> dict[str, str]:
    """What the runtime gets to see of the environment: nothing of the harness's."""
    kept = {name: os.environ[name] for name in ("XDG_RUNTIME_DIR",) if name in os.environ}
    return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **kept}


def join_namespace(fd: int, kind: int) -> None:
    """Enters a namespace."""
    if libc.setns(fd, kind) != 0:
        number = ctypes.get_errno()
        raise OSError(number, "setns: " + os.strerror(number))


def join_user_namespace(pid: int) -> None:
    """Gives up what this user may do on the machine for all capabilities over a cell."""
    fd = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    join_namespace(fd, CLONE_NEWUSER)
    os.close(fd)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def deny_user_namespaces(pid: int) -> None:
    """Forbids user namespaces inside a cell. The limit belongs to the namespace, so it is set from within."""
    child = os.fork()
    if child == 0:
        try:
            join_user_namespace(pid)
            os._exit(0 if write_file("/proc/sys/user/max_user_namespaces", "0") else 1)
        finally:
            os._exit(1)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
        raise RuntimeError("user namespaces inside the cell could not be forbidden")


@functools.lru_cache(maxsize=PROGRAMS_KEPT)
def compiled(program: str) -> types.CodeType:
    """A program as code. The census takes 40 ms to compile, so it is done here once, and not in every fork."""
    return compile(program, "<joined>", "exec")


def run_program(request: dict[str, Any], fds: list[int], inits: dict[str, int], cgroup: str) -> Reply:
    """Runs a program's text in this fork."""
    signal.alarm(max(1, int(request["timeout"]) + 1))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    scope: dict[str, Any] = {
        "__name__": "joined",
        "openat2_in_root": openat2_in_root,
        "join_namespace": join_namespace,
        "is_running": is_running,
        "cell_processes": functools.partial(cell_processes, cgroup),
    }
    exec(compiled(request["program"]), scope)
    answer: Reply = scope["main"]({**request["request"], "inits": inits}, fds)
    return answer


# --- the loop ---


def receive(control: socket.socket) -> Reply | None:
    """Takes one message with its descriptors. None at the end of the socket."""
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
    """Sends an answer of any size: a memory file of JSON and the descriptors that belong to it."""
    body = os.memfd_create("reply")
    data = memoryview(json.dumps(answer).encode())
    size = len(data)
    while data:
        data = data[os.write(body, data) :]
    with socket.socket(fileno=fd) as channel:
        socket.send_fds(channel, [json.dumps({"length": size}).encode()], [body, *fds])


def operate(manager: CellManager, request: dict[str, Any], fds: list[int]) -> None:
    """Carries out one operation in a fork."""
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

    def __init__(self, control: socket.socket, manager: CellManager, lease: float) -> None:
        """Serves what comes over `control`."""
        self.control = control
        self.manager = manager
        self.lease = lease
        self.heard = time.clock_gettime(time.CLOCK_BOOTTIME)
        self.children: set[int] = set()
        self.deadlines: dict[str, float] = {}

    def run(self) -> None:
        """Serves until the harness is gone, late, or says that it is done; then ends every cell."""
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # the harness's end is what ends this process
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(wake_read, select.POLLIN)
        late = False
        while not late:
            # Cut short by a signal after its time, a look says that nothing waits, whatever does: so one looks again.
            ready = {fd for fd, _ in poll.poll(250) or poll.poll(0)}
            if wake_read in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(wake_read, 4096)
            self.reap()
            self.end_the_late()
            if self.control.fileno() not in ready:  # what waits to be read shows that the harness lives
                late = time.clock_gettime(time.CLOCK_BOOTTIME) - self.heard >= self.lease
            elif not self.serve():
                break
        self.finish()

    def serve(self) -> bool:
        """Takes one message. False at the end."""
        try:
            received = receive(self.control)
        except ConnectionError:
            received = None
        if received is None:
            return False
        request, fds = received
        self.heard = time.clock_gettime(time.CLOCK_BOOTTIME)
        if request["op"] == "start" and not request["shares"]:
            self.deadlines[request["cell"]] = self.heard + request["wall_seconds"]
        elif request["op"] == "remove":
            self.deadlines.pop(request["cell"], None)
        elif request["op"] == "join":
            with contextlib.suppress(SyntaxError, ValueError):  # the fork, which meets it again, has somebody to tell
                compiled(request["program"])
        if request["op"] != "beat":
            self.fork(request, fds)
        for fd in fds:
            os.close(fd)
        return True

    def fork(self, request: dict[str, Any], fds: list[int]) -> None:
        """Runs one operation in a child."""
        own = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                die_with(own)
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                self.control.close()
                operate(self.manager, request, fds)
            finally:
                os._exit(0)
        self.children.add(pid)

    def reap(self) -> None:
        """Collects ended children, first processes of cells among them: a zombie would seem alive for ever."""
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self.children.discard(pid)

    def end_the_late(self) -> None:
        """Kills the cells that are older than they may be, until they are removed: one may have been in the making."""
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        for cell in [cell for cell, deadline in self.deadlines.items() if now > deadline]:
            self.deadlines[cell] = now + AGAIN_SECONDS
            ours, theirs = socket.socketpair()
            with ours, theirs:  # nobody waits for the answer
                self.fork({"op": "kill", "cell": cell}, [theirs.fileno()])

    def finish(self) -> None:
        """Ends every operation under way and every cell, then removes what they left."""
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
        """Kills all that descends from here: a runtime that was cut off hands its half-made node to this process."""
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


def lock_file(fd: int, how: int) -> None:
    """Lock an open, writable file with `flock`, or with a POSIX record lock where the file system has no `flock`.

    Raises:
        OSError: It is locked by another process, or cannot be locked.
    """
    try:
        fcntl.flock(fd, how)
    except OSError as error:
        if error.errno not in NO_FLOCK:
            raise
        fcntl.lockf(fd, how)


def main(kind: type[CellManager] = CellManager) -> None:
    """Takes over standard input and serves, by a manager of a kind."""
    os.umask(0o022)  # the runtime makes folders of a cell, too, and its users must be able to pass through them
    control = socket.socket(fileno=os.dup(0))
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    first = receive(control)
    if first is None:
        return  # the harness ended before it said what it wants
    setup, _ = first
    lock = os.open(os.path.join(setup["folder"], "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    lock_file(lock, fcntl.LOCK_EX)
    control.send(b'{"ready": true}')
    Warden(control, kind(setup), setup["lease_seconds"]).run()


if __name__ == "__main__":
    if len(sys.argv) > 1:  # sweep: end what a harness that is no more has left
        sys.exit(0 if CellManager({"folder": sys.argv[1], "runtime": sys.argv[2:]}).sweep() else 1)
    else:
        main()
