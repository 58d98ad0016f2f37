"""Every wait has an effective bound: a timeout around a blocking call in a thread does not end the call.

The tests read the source. They find each call that can block forever by its form. Such a call is either rewritten so
that it cannot, or listed below with the reason why it is allowed.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

import redline

ROOT = Path(redline.__file__).parent

_BY_CALLER: Final = "a probe's program: `exec` kills it with all its descendants at its timeout"
_BY_ALARM: Final = "a program joined to a cell: the warden sets a kernel alarm before it runs one"
_FIRST: Final = "the first process of a node, which waits for work until its control socket or its node ends"
_UNCONNECTED: Final = "creates a socket and neither connects nor reads"

ALLOWED: Final = {
    # The harness
    "cell/outside.py: OutsideCell.write_held: anyio.to_thread.run_sync": "writes to a tmpfs, which does not block; "
    "if abandoned, it could write to a descriptor that was closed and reused",
    "subject/install.py: _write: anyio.to_thread.run_sync": "like OutsideCell.write_held, file by file",
    "cell/open.py: _open_warden: anyio.to_thread.run_sync": "each step inside has a timeout; if abandoned, it would "
    "leave a warden that no process ends",
    "cell/wardens.py: Wardens.serving: anyio.to_thread.run_sync": "like _open_warden in open.py, step by step",
    "models/llama_cpp.py: LlamaCppAPI.aclose: anyio.to_thread.run_sync": "each step has a timeout, and a server must "
    "not be left partly stopped",
    "models/llama_server.py: keep: os.waitpid": "waits for a process that was killed; the other call does not wait",
    "models/llama_server.py: serve: signal.pause": "a server, which ends with its supervisor",
    "controls/programs/fill.py: main: os.waitpid": "a control's program, which ends with its cell",
    "controls/programs/served.py: by_core: socket.socket": "a control's program, which ends with its cell",
    "controls/programs/served.py: core: socket.socket": "a control's program, which ends with its cell",
    "controls/programs/served.py: refuse_at.refuse: select.select": "a control's program, which ends with its cell",
    "cell/warden.py: Warden.aclose: anyio.to_thread.run_sync": "both waits inside have a timeout, and a process "
    "must not be left partly stopped",
    "cell/oci/gvisor.py: GvisorCell._prepare_first_process: socket.socketpair": "the attendant's thread makes it "
    "non-blocking first",
    "cell/docker/cell.py: DockerCell._start_attendant_of: socket.socket": _UNCONNECTED,
    "seal/drilled_harness.py: main: os.wait": "waits for its forks until the drill that started it kills it",
    "seal/defects/docker.py: add_socket: socket.socket": _UNCONNECTED,
    "seal/defects/oci.py: add_socket: socket.socket": _UNCONNECTED,
    # The warden's process
    "cell/programs/manager.py: unconnected_sockets: socket.socket": _UNCONNECTED,
    "cell/programs/warden.py: Warden.kill_expired: socket.socketpair": "this process does not read from it",
    "cell/programs/warden.py: reply: socket.socket": "one message into an empty socket of the fork's own",
    "cell/programs/warden.py: Warden.finish: os.waitpid": "every step of the sweeper has a timeout",
    "cell/programs/warden.py: main: socket.socket": "takes over its standard input, which ends with the harness",
    "cell/programs/prelude.py: lock_file: fcntl.flock": "waits only for the lock of a folder made for its caller",
    # Inside a cell
    "cell/docker/programs/call.py: leave_reader: poll.poll": "a fork that reads the output of daemons until they end",
    "cell/docker/programs/first.py: main: signal.sigwait": _FIRST,
    "cell/programs/init.py: Init.run: self.poll.poll": _FIRST,
    "cell/programs/init.py: main: socket.socket": _FIRST,
    "seal/programs/defects.py: leave_abstract_socket: socket.socket": _UNCONNECTED,
    "seal/programs/defects.py: require_closed: socket.socket": _BY_ALARM,
    "seal/programs/defects.py: listen: socket.socket": _BY_ALARM,
    "seal/programs/defects.py: ask: socket.socket": _BY_ALARM,
    "seal/programs/false_route.py: ask: socket.socket": "one answer from netlink, which the kernel sends at once",
    "seal/programs/hold_namespaces.py: main: os.waitpid": "its fork ends with standard input, which the harness closes",
    "seal/programs/apart.py: bound: socket.socket": _BY_CALLER,
    "seal/programs/apart.py: answer: select.select": _BY_CALLER,
    "seal/programs/limits.py: processor_time: os.waitpid": _BY_CALLER,
    "seal/programs/limits.py: memory: os.waitpid": _BY_CALLER,
    "seal/programs/limits.py: processes_at_once: os.waitpid": _BY_CALLER,
    "seal/programs/network.py: proxies: subprocess.run": _BY_CALLER,
    "seal/programs/privilege.py: ids_at_end: os.waitid": _BY_CALLER,
    "seal/programs/privilege.py: ids_at_end: os.waitpid": _BY_CALLER,
    "seal/programs/privilege.py: ipc: socket.socket": _BY_CALLER,
    "seal/programs/quick.py: refused_calls: socket.socket": _BY_CALLER,
    "seal/programs/quick.py: clone_user_namespace: os.waitpid": _BY_CALLER,
    "tether/programs/seal_peer.py: connected: socket.socket": _BY_CALLER,
    "tether/programs/seal_peer.py: main: thread.join": _BY_CALLER,
    "verify/programs/census_sockets.py: diag_records: socket.socket": _BY_ALARM,
    "scenarios/remote_copy/programs/provision.py: run_command: process.wait": "waits for a process just killed",
    "subject/bundle/agent/agent.py: run: process.wait": "waits for a process that was just killed",
    "subject/bundle/engine/engine.py: Accelerator.complete: socket.socket": "sets the rest of its deadline before "
    "each step",
}

RUNS = {"run", "call", "check_call", "check_output"}
WAITS = {"wait", "join", "result", "acquire", "communicate"}
PIPES = {"stdin", "stdout", "stderr"}
READS = {"read", "readline", "readlines", "read1"}


class Finder(ast.NodeVisitor):
    """Collects calls that can block without a bound, as `function: call`."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self._functions: list[ast.AST] = []
        self._names: list[str] = []
        self._awaited: set[int] = set()

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._functions.append(node)
        self._names.append(node.name)
        self.generic_visit(node)
        self._functions.pop()
        self._names.pop()

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._names.append(node.name)
        self.generic_visit(node)
        self._names.pop()

    def visit_Await(self, node: ast.Await) -> None:
        self._awaited.add(id(node.value))
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        # Whether it is called or passed to a thread: another process decides when the data arrives.
        if node.attr in READS and isinstance(node.value, ast.Attribute) and node.value.attr in PIPES:
            self._note(node)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if self._is_unbounded(node):
            self._note(node.func)
        self.generic_visit(node)

    def _note(self, what: ast.expr) -> None:
        self.found.append(f"{'.'.join(self._names) or 'module'}: {ast.unparse(what)}")

    def _is_unbounded(self, node: ast.Call) -> bool:  # noqa: PLR0911 - one return for each form of a call
        name = ast.unparse(node.func)
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        last = name.rpartition(".")[2]
        if name.endswith("to_thread.run_sync"):
            abandons = given.get("abandon_on_cancel")
            return not (isinstance(abandons, ast.Constant) and abandons.value is True)
        if name.startswith("subprocess.") and last in RUNS:
            return "timeout" not in given
        if name == "socket.create_connection":
            return len(node.args) < 2 and "timeout" not in given
        if name in ("socket.socket", "socket.socketpair"):
            return not self._sets_a_bound()
        if name in ("os.wait", "signal.pause", "signal.sigwait", "urllib.request.urlopen") or name == "urlopen":
            return "timeout" not in given
        if name in ("os.waitpid", "os.waitid"):
            return "WNOHANG" not in ast.unparse(node)
        if name == "fcntl.flock":
            return "LOCK_NB" not in ast.unparse(node) and "LOCK_UN" not in ast.unparse(node)
        if name == "select.select":
            return len(node.args) < 4
        if last == "poll" and not node.args and "poll" in name.rpartition(".")[0]:
            return True
        if last == "get" and "queue" in name.lower():
            return not ({"timeout", "block"} & set(given))
        if isinstance(node.func, ast.Attribute) and last in WAITS and id(node) not in self._awaited:
            return not node.args and not ({"timeout", "blocking"} & set(given))
        return False

    def _sets_a_bound(self) -> bool:
        """Return whether the function that creates a socket sets a timeout or makes it non-blocking."""
        text = ast.unparse(self._functions[-1]) if self._functions else ""
        return any(word in text for word in ("settimeout(", "setblocking(False)", "SOCK_NONBLOCK", "timeout="))


def unbounded(source: str) -> list[str]:
    finder = Finder()
    finder.visit(ast.parse(source))
    return finder.found


@cache
def all_unbounded() -> frozenset[str]:
    return frozenset(_all_unbounded())


def _all_unbounded() -> Iterator[str]:
    for path in sorted(ROOT.rglob("*.py")):
        for each in unbounded(path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(ROOT)}: {each}"


def test_nothing_waits_without_a_bound() -> None:
    assert sorted(all_unbounded() - set(ALLOWED)) == []


def test_no_exception_is_obsolete() -> None:
    assert sorted(set(ALLOWED) - all_unbounded()) == []


@pytest.mark.parametrize("reason", ALLOWED.values())
def test_every_exception_has_a_reason(reason: str) -> None:
    assert len(reason.split()) >= 5


@pytest.mark.parametrize(
    "line",
    [
        "await anyio.to_thread.run_sync(pipe.readline)",
        "await anyio.to_thread.run_sync(work, abandon_on_cancel=False)",
        "subprocess.run(command, check=True)",
        "subprocess.call(command)",
        "process.wait()",
        "process.communicate()",
        "thread.join()",
        "future.result()",
        "lock.acquire()",
        "queue.get()",
        "line = process.stdout.readline()",
        "await anyio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)",
        "select.select([a], [], [])",
        "self.poll.poll()",
        "os.wait()",
        "os.waitpid(pid, 0)",
        "fcntl.flock(fd, fcntl.LOCK_EX)",
        "socket.socket()",
        "socket.create_connection(address)",
        "urllib.request.urlopen(request)",
        "signal.pause()",
    ],
)
def test_an_unbounded_wait_is_found(line: str) -> None:
    assert len(unbounded(f"async def waits():\n    {line}")) == 1


@pytest.mark.parametrize(
    "line",
    [
        "await anyio.to_thread.run_sync(work, abandon_on_cancel=True)",
        "subprocess.run(command, timeout=5, check=True)",
        "process.wait(5)",
        "process.communicate(timeout=5)",
        "await event.wait()",
        "thread.join(5)",
        "', '.join(words)",
        "lock.acquire(blocking=False)",
        "process.poll()",
        "select.select([a], [], [], 5)",
        "poll.poll(100)",
        "os.waitpid(pid, os.WNOHANG)",
        "fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "made = socket.socket(); made.settimeout(5)",
        "socket.create_connection(address, 5)",
        "urllib.request.urlopen(request, timeout=5)",
        "done = process.poll() is None",
    ],
)
def test_a_bounded_wait_is_accepted(line: str) -> None:
    assert unbounded(f"async def waits():\n    {line}") == []
