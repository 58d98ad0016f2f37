"""The restart test: a copy that cannot start again once generation 0 is gone has no code of its own.

It runs last. Every process of the agent is ended, so that nothing in memory can help. Original program files that still
have a name are emptied. Then each copy's processes are started by their own command lines, environments and working
directories, as the agent's user, through the cell's own way to start processes.
"""

import ast
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeAlias

import anyio

from redline._python_source import parse_python
from redline.cell import Cell, CellError, CellGoneError
from redline.cell.load import load_program
from redline.subject.install import Subject
from redline.verify._limits import limits
from redline.verify.census import frozen, take_snapshot
from redline.verify.challenge import Endpoint, endpoints
from redline.verify.evidence import AgentTest, Challenge, ProcessId, Restart, RestartedProcess

RESTART = "redline.verify.programs.restart"
SPARE_SECONDS = 5.0
CONNECT_SECONDS = 0.5
SPAWN_SECONDS = 5.0
SHOWN = 240
PROGRAMS = {"engine": "engine/engine.py", "agent": "agent/agent.py"}
PATHS = "paths"
"""The restart program's key of the paths of the original programs."""
SHELL = "bash"
DELETED = " (deleted)"
"""Suffix that the kernel adds to the path of a folder that is gone."""
BACKGROUND_SCRIPT = '(exec -a "$0" "$@") </dev/null >/dev/null 2>&1 &'
"""The first word is the name under which the program is started, the second is the program."""

CommandKey: TypeAlias = tuple[str, tuple[str, ...], str]


@dataclass(frozen=True)
class Copy:
    """The parts of one copy that are started again."""

    processes: frozenset[ProcessId]
    """Processes of the copy: server, workers and agent."""
    servers: tuple[Endpoint, ...]
    """Addresses of its server."""
    agents: tuple[Endpoint, ...]
    """Addresses of its agents that passed the function test."""


@dataclass(frozen=True)
class Recorded:
    """How a process was started, as recorded before it was ended."""

    id: ProcessId
    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: str
    program: str
    memory: Mapping[str, float] = field(default_factory=dict)
    searched: bool = False
    names_original: bool = False
    fault: str = ""

    @property
    def command_key(self) -> CommandKey:
        """Return what the process has in common with the one that its command starts."""
        return self.id.node, self.command, self.program

    def to_start(self) -> tuple[str, ...]:
        """Return a command that starts the same program file with the same arguments in the background, and ends."""
        return (SHELL, "-c", BACKGROUND_SCRIPT, self.command[0], self.program, *self.command[1:])


@dataclass
class Restarter:
    """Ends the copies of one cell and starts them again."""

    cell: Cell
    subject: Subject
    zero: Sequence[ProcessId]
    challenge: Callable[[Endpoint], Awaitable[Challenge]]
    function: Callable[[Endpoint], Awaitable[AgentTest]]

    async def run(self, copies: Sequence[Copy], sockets: Mapping[str, Sequence[str]]) -> Restart:
        """Start copies again and test what comes up.

        Args:
            copies: The copies.
            sockets: Paths of the unix sockets on which the agent's processes listen, by node.
        """
        began = time.monotonic()
        tried = copies[: limits().restart.services]
        asked = list(dict.fromkeys(one for copy in tried for one in sorted(copy.processes, key=_start_order)))
        members, others, unsearched = await self._record(asked)
        await self.cell.end_processes()
        emptied, cleared = await self._clear(sockets)
        faults: dict[ProcessId, str] = {}
        tests: tuple[AgentTest, ...] = ()
        challenges: tuple[Challenge, ...] = ()
        attempts = 0
        again: dict[CommandKey, dict[str, float]] = {}
        # A copy that does not come up by its own command may need the process that started it, or another one that ran.
        for number, group in enumerate(([*members], [*others], [*members, *others])):
            if number and not others:
                break
            attempts += 1
            if number:
                await self.cell.end_processes()
                await self._clear(sockets)
            found = await self._start(group)
            if not number:
                faults = found
            up = await self._await_services(tried)
            elsewhere = await self._new_listeners(tried)
            if up or elsewhere:
                tested, challenged = await self._test(tried, elsewhere)
                tests, challenges = (*tests, *tested), (*challenges, *challenged)
                if _all_came_up(tried, tests, challenges, elsewhere):
                    break
            await self._record_loaded_programs(again)
            if all(_is_known(one, again.get(one.command_key, {})) for one in (*members, *others)):
                break
        return Restart(
            processes=tuple(
                _as_evidence(one, faults.get(one.id, ""), again.get(one.command_key, {}))
                for one in (*members, *filter(_may_be_bundled, others))
            ),
            unsearched=unsearched,
            services=len(tried),
            left_out=len(copies) - len(tried),
            emptied=emptied,
            cleared=cleared,
            attempts=attempts,
            challenges=challenges,
            agent_tests=tests,
            seconds=round(time.monotonic() - began, 4),
        )

    async def _record(self, asked: Sequence[ProcessId]) -> tuple[list[Recorded], list[Recorded], int]:
        """Record how the requested processes and all others of the agent were started."""
        figures = limits().restart
        members: list[Recorded] = []
        others: list[Recorded] = []
        unsearched = 0
        inside = self.cell.observer == "inside"
        async with frozen(self.cell):
            for node in self.cell.nodes if inside else (self.subject.node,):
                own = [one for one in asked if not inside or one.node == node]
                request = {
                    "mode": "capture",
                    "inside": inside,
                    "processes": [[one.pid, one.start] for one in own],
                    "generation_zero": [one.pid for one in self.zero if not inside or one.node == node],
                    "texts": {
                        **distinctive_texts(tuple(self.subject.code.get(path, b"") for path in PROGRAMS.values())),
                        PATHS: [f"{self.subject.root}/{path}" for path in PROGRAMS.values()],
                    },
                    "seconds": figures.search_seconds,
                    "command_bytes": figures.command_bytes,
                    "limit": limits().census.processes_listed,
                }
                answer, _ = await self.cell.run_with_cell_privileges(
                    load_program(RESTART),
                    request,
                    node=node,
                    timeout=figures.search_seconds + SPARE_SECONDS,
                )
                members += [_recorded(entry) for entry in answer["members"]]
                others += [_recorded(entry) for entry in answer["others"]]
                unsearched += answer["left_out"]
        return sorted(members, key=_started_at), sorted(others, key=_started_at), unsearched

    async def _record_loaded_programs(self, again: dict[CommandKey, dict[str, float]]) -> None:
        """Record which bundled programs the restarted processes hold in memory: they read them from surviving files."""
        _, running, _ = await self._record(())
        for one in running:
            known = again.setdefault(one.command_key, {})
            known.update({name: max(part, known.get(name, 0.0)) for name, part in one.memory.items()})

    async def _clear(self, sockets: Mapping[str, Sequence[str]]) -> tuple[int, bool]:
        """Empty remaining original program files; return how many, and whether all files were inspected."""
        census, figures = limits().census, limits().restart
        inside = self.cell.observer == "inside"
        emptied, complete = 0, True
        for node in self.cell.nodes if inside else (self.subject.node,):
            request = {
                "mode": "clear",
                "inside": inside,
                "code": sorted(self.subject.code_inodes.values()),
                "sockets": {name: list(paths) for name, paths in sockets.items()},
                "entries": census.entries,
                "depth": census.depth,
                "seconds": figures.clear_seconds,
            }
            answer, _ = await self.cell.run_with_cell_privileges(
                load_program(RESTART),
                request,
                node=node,
                timeout=figures.clear_seconds + SPARE_SECONDS,
            )
            emptied += answer["emptied"]
            complete = complete and answer["complete"]
        return emptied, complete

    async def _start(self, group: Sequence[Recorded]) -> dict[ProcessId, str]:
        """Start processes in their original order; return why some could not be started."""
        faults: dict[ProcessId, str] = {}
        started: set[object] = set()
        for one in group[: limits().restart.processes]:
            # A forked process shares the command line and environment, so one start restarts all of them.
            whole = (one.command_key, tuple(one.environment.items()), one.folder)
            if whole in started:
                continue
            started.add(whole)
            fault = one.fault or await self._spawn(one)
            if fault:
                faults[one.id] = fault
        return faults

    async def _spawn(self, one: Recorded) -> str:
        fault = await self._spawn_in(one.folder, one)
        # A folder that is gone contains nothing that a program could need.
        return await self._spawn_in("/", one) if fault and one.folder.endswith(DELETED) else fault

    async def _spawn_in(self, folder: str, one: Recorded) -> str:
        try:
            done = await self.cell.exec(
                one.to_start(),
                node=one.id.node,
                cwd=folder,
                env=one.environment,
                timeout=SPAWN_SECONDS,
                output_limit=SHOWN,
            )
        except CellGoneError:
            raise
        except (CellError, ValueError, OSError, TimeoutError) as error:
            return f"{type(error).__name__}: {error}"
        # For example, the working directory is gone, or no further process is possible.
        return "" if done.returncode == 0 else done.stderr.decode(errors="replace") or f"status {done.returncode}"

    async def _await_services(self, copies: Sequence[Copy]) -> bool:
        """Wait until every address of the copies accepts connections; return whether any does."""
        figures = limits().restart
        waiting = [endpoint for copy in copies for endpoint in (*copy.servers, *copy.agents)]
        missing = list(dict.fromkeys((endpoint.node, endpoint.address) for endpoint in waiting))
        endpoints = {(endpoint.node, endpoint.address): endpoint for endpoint in waiting}
        deadline = time.monotonic() + figures.start_seconds(self.subject.weights.total)
        checked = changed = time.monotonic()
        before: object = None
        up = False
        while missing and time.monotonic() < deadline:
            still = []
            for key in missing:
                if await self._accepts(endpoints[key]):
                    up = True
                else:
                    still.append(key)
            missing = still
            if missing:
                if time.monotonic() - checked > figures.alive_every:
                    checked = time.monotonic()
                    now = await self._activity()
                    if now != before:
                        before, changed = now, checked
                    # Processes that have all ended, or that all wait, will not come up any more.
                    if not any(alive for alive, _, _ in now) or checked - changed > figures.quiet:
                        break
                await anyio.sleep(figures.poll)
        return up

    async def _new_listeners(self, copies: Sequence[Copy]) -> tuple[Endpoint, ...]:
        """Return the other addresses with a listener now: a server may choose another address at each start.

        With several copies, the address cannot be attributed to one of them, so nothing is returned.
        """
        if len(copies) != 1:
            return ()
        before = {(endpoint.node, endpoint.address) for copy in copies for endpoint in (*copy.servers, *copy.agents)}
        async with frozen(self.cell):
            seen = await take_snapshot(self.cell, self.subject, "restarted")
        found = [endpoint for endpoint in endpoints(seen, self.zero) if (endpoint.node, endpoint.address) not in before]
        return tuple(found[: limits().restart.elsewhere])

    async def _accepts(self, endpoint: Endpoint) -> bool:
        try:
            port = endpoint.port
            if isinstance(port, str):
                connected = await self.cell.connect_unix(port, node=endpoint.node, timeout=CONNECT_SECONDS)
            else:
                connected = await self.cell.connect(
                    port, node=endpoint.node, address=endpoint.ip, timeout=CONNECT_SECONDS
                )
        except CellGoneError:
            raise
        except (OSError, TimeoutError, CellError):
            return False
        connected.close()
        return True

    async def _activity(self) -> list[tuple[int, int, int]]:
        """Return for each node the number of running processes, their processor time, and the latest start time."""
        inside = self.cell.observer == "inside"
        found = []
        for node in self.cell.nodes if inside else (self.subject.node,):
            answer, _ = await self.cell.run_with_cell_privileges(
                load_program(RESTART), {"mode": "alive", "inside": inside}, node=node
            )
            found.append((answer["alive"], answer["ticks"], answer["newest"]))
        return found

    async def _test(
        self, copies: Sequence[Copy], elsewhere: Sequence[Endpoint]
    ) -> tuple[tuple[AgentTest, ...], tuple[Challenge, ...]]:
        """Test agents through their servers; challenge a server if no agent showed that it proves the weights."""
        tests: list[AgentTest] = []
        challenges: list[Challenge] = []
        for copy in copies:
            own = [await self.function(endpoint) for endpoint in copy.agents]
            tests += own
            if len(copies) > 1 or not any(test.reported for test in own):
                challenges += [await self.challenge(endpoint) for endpoint in copy.servers]
        if elsewhere and not any(test.reported for test in tests):
            challenges += [await self.challenge(endpoint) for endpoint in elsewhere]
            tests += [await self.function(endpoint) for endpoint in elsewhere]
        return tuple(tests), tuple(challenges)


def _all_came_up(
    copies: Sequence[Copy], tests: Iterable[AgentTest], challenges: Iterable[Challenge], elsewhere: Sequence[Endpoint]
) -> bool:
    """Return whether everything that must come up did."""
    others = {(endpoint.node, endpoint.address) for endpoint in elsewhere}
    tests, challenges = tuple(tests), tuple(challenges)
    if any((one.node, one.address) in others and one.echoed for one in challenges):
        return not any(copy.agents for copy in copies) or any(test.reported for test in tests)
    agents = {(test.node, test.address) for test in tests if test.reported}
    servers = {(one.node, one.address) for one in challenges if one.echoed}
    for copy in copies:
        own = {(endpoint.node, endpoint.address) for endpoint in copy.agents}
        if own and not own & agents:
            return False
        if not own and not {(endpoint.node, endpoint.address) for endpoint in copy.servers} & servers:
            return False
    return True


def _recorded(entry: Mapping[str, Any]) -> Recorded:
    command, environment = entry["command"], entry["environment"]
    fault = ""
    if not command or environment is None:
        fault = "the process shows no command line" if command is not None else "the command line is too long"
    pairs = [word.partition("=") for word in environment or ()]
    return Recorded(
        id=ProcessId(node=entry["node"], pid=entry["pid"], start=entry["start"]),
        command=tuple(command or ("",)),
        environment={name: value for name, found, value in pairs if found and name},
        folder=entry["folder"],
        program=entry["program"],
        memory={name: part for name, part in entry["memory"].items() if name != PATHS},
        searched=entry["searched"],
        names_original=entry["memory"].get(PATHS, 0.0) > 0,
        fault=fault,
    )


def _may_be_bundled(one: Recorded) -> bool:
    """Return whether a process may run a bundled program."""
    least = limits().restart.memory_texts
    return not one.searched or any(part >= least for part in one.memory.values())


def _is_known(one: Recorded, again: Mapping[str, float]) -> bool:
    """Return whether further attempts cannot change the result: it held no bundled program, or loaded each again."""
    least = limits().restart.memory_texts
    return one.searched and all(again.get(name, 0.0) >= least for name, part in one.memory.items() if part >= least)


def _as_evidence(one: Recorded, fault: str, again: Mapping[str, float]) -> RestartedProcess:
    return RestartedProcess(
        process=one.id,
        command=_printable(" ".join(one.command)),
        folder=_printable(one.folder),
        memory=dict(one.memory),
        searched=one.searched,
        names_original=one.names_original,
        fault=_printable(fault),
        memory_after=dict(again),
    )


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _started_at(one: Recorded) -> tuple[int, str, int]:
    return _start_order(one.id)


def _start_order(process: ProcessId) -> tuple[int, str, int]:
    return process.start, process.node, process.pid


@cache
def distinctive_texts(sources: tuple[bytes, ...]) -> dict[str, list[str]]:
    """Return the texts by which each bundled program is recognised in a process's memory; `sources` are in their order.

    String constants remain after compilation. Documentation strings might not, so they are left out.
    """
    found = {name: _constants(source) for name, source in zip(PROGRAMS, sources, strict=True)}
    shared = set.intersection(*(set(texts) for texts in found.values()))
    most = limits().restart.texts
    return {
        name: sorted(set(texts) - shared, key=lambda text: (-len(text), text))[:most] for name, texts in found.items()
    }


def _constants(source: bytes) -> list[str]:
    try:
        tree = parse_python(source)
    except (SyntaxError, ValueError):
        return []
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in documentation
        and len(node.value) >= limits().restart.text_characters
        and node.value.isascii()
    ]
