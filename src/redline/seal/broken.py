"""How a cell is broken in exactly one way, so that the seal is seen to fail.

Every defect is harmless and leaves the cell closed: what it opens leads to something that was made for it, never to
the machine's network, root or processes.
"""

import contextlib
import os
import secrets
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import IO, Any

from redline.cell.cell import Cell, SpecPatch
from redline.cell.config import CellConfig
from redline.cell.docker.engine import LABEL_CELL, LABEL_OWNER, LABEL_STATE
from redline.cell.errors import CellError
from redline.cell.load import load_library
from redline.cell.open import open_cell, traits_of
from redline.cell.programs.cgroups import remove_cgroups
from redline.cell.spec import INIT_PROGRAM, TETHER_FOLDER
from redline.cell.state import state_folder

Spec = dict[str, Any]
Change = Callable[[Spec, "Bench"], None]
"""Changes the specification of a node in place."""

READ_ONLY = ("bind", "ro", "nosuid", "nodev", "noexec")
INIT = "redline.cell.programs.init"
HOLDER_SECONDS = 10.0


class Bench:
    """What one defect makes on the machine, all of it gone with the defect."""

    def __init__(self, folder: Path) -> None:
        """Works in a folder of its own."""
        self.folder = folder
        self._ends = contextlib.ExitStack()

    def close(self) -> None:
        """Ends the helpers."""
        self._ends.close()

    def own_root(self, spec: Spec) -> Path:
        """Gives the node a root folder of its own, to be changed from outside. Returns it."""
        root = self.folder / "root"
        if not root.exists():
            shutil.copytree(spec["root"]["path"], root, symlinks=True)
        spec["root"]["path"] = str(root)
        return root

    def patch_init(self, spec: Spec, text: str) -> None:
        """Give the node a first process whose program is changed by definitions that replace its own."""
        program = self.folder / "init"
        program.write_text(f"{load_library(INIT)}{text}\n\nmain()\n")
        program.chmod(0o644)
        (mount,) = (mount for mount in spec["mounts"] if mount["destination"] == INIT_PROGRAM)
        mount["source"] = str(program)

    def hold_namespaces(self, spec: Spec) -> dict[str, str]:
        """Starts a helper in a user and a pid namespace of its own, with the node's id mappings. Returns their paths.

        Whatever else runs in that pid namespace ends with the helper.
        """
        return self._ends.enter_context(_holder(spec["linux"]["uidMappings"], spec["linux"]["gidMappings"]))

    def planted(self, spec: Spec, name: str) -> Path:
        """A folder outside in which the harness will plant something for the probes, made beforehand to be bound."""
        folder = _kept_folder(spec)
        self._ends.callback(shutil.rmtree, folder, ignore_errors=True)
        place = folder / name
        place.mkdir(parents=True)
        for made in (folder, place):
            made.chmod(0o777)
        return place

    def stray_cgroup(self, spec: Spec) -> None:
        """Puts the node into a cgroup that the warden does not look into."""
        name = f"pod-stray-{secrets.token_hex(4)}"
        spec["linux"]["cgroupsPath"] = "/" + name
        self._ends.callback(remove_cgroups, name)


@dataclass(frozen=True)
class DefectiveCell:
    """In which way a cell is broken; what is not given is as in any cell."""

    change: Change | None = None
    """Changes the first node's specification."""

    service: Change | None = None
    """The same for the Docker engine: changes the first node's service in the compose file."""

    init: str = ""
    """Definitions that replace some of the first process's program."""

    inside: Mapping[str, object] | None = None
    """Request for `programs/defects.py`, applied to the running cell."""

    config: Mapping[str, object] = field(default_factory=dict)
    """Settings of the cell that differ."""

    def why_not(self, runtime: str) -> str:
        """Why it cannot be made on a runtime, empty where it can."""
        needs_specification = self.service is None and (self.change is not None or bool(self.init))
        if needs_specification and traits_of(runtime).specification == "compose":
            return "the engine makes its own specification and cannot be told so"
        return ""

    def shape(self, config: CellConfig) -> CellConfig:
        """The configuration of the broken cell."""
        return CellConfig.model_validate({**config.model_dump(), **self.config})

    def patch(self, bench: Bench) -> SpecPatch:
        """The change of the first node's specification, or service, with what it needs on the machine."""

        def patched(spec: Spec, node: str) -> Spec:
            if node != "default":
                return spec
            if "ociVersion" not in spec:
                if self.service is not None:
                    self.service(spec, bench)
                return spec
            if self.init:
                bench.patch_init(spec, self.init)
            if self.change is not None:
                self.change(spec, bench)
            return spec

        return patched

    @contextlib.asynccontextmanager
    async def open(self, config: CellConfig) -> AsyncIterator[Cell]:
        """A running cell that is broken in this way."""
        with workbench() as bench:
            async with open_cell(self.shape(config), self.patch(bench)) as cell:
                held: list[int] = []
                if self.inside is not None:
                    held = await break_inside(cell, **self.inside)
                try:
                    yield cell
                finally:
                    await cell.release(held)


Situation = Callable[[CellConfig], Awaitable[str | None]]
"""Carries out a drill under a circumstance that must fail it. Returns why it failed, None where it did not."""


@dataclass(frozen=True)
class InjectedDefect:
    """One way to break a cell, the probe that must notice it, and the probes that cannot but notice it too."""

    probe: str
    """The probe's name."""

    what: str
    """What is broken, for a person."""

    broken: DefectiveCell | None = None
    """The broken cell on which the probes are measured."""

    drill: Situation | None = None
    """Where the probe is a drill, which makes its own cells: the drill under this defect."""

    related: Mapping[str, str] = field(default_factory=dict)
    """Other probes that fail of necessity, each with the reason."""

    needs: frozenset[str] = frozenset()
    """What the machine, user or runtime must have: see `selftest.LACKING`."""


@contextlib.contextmanager
def workbench() -> Iterator[Bench]:
    """A folder that runtimes of any user can pass through, and helpers that end with it."""
    with tempfile.TemporaryDirectory(prefix="pod-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        bench = Bench(folder)
        try:
            yield bench
        finally:
            bench.close()


def bind(spec: Spec, source: Path | str, destination: str, *options: str) -> None:
    """Adds a bind mount, read-only where no options are given."""
    spec["mounts"].append(
        {
            "destination": destination,
            "type": "bind",
            "source": str(source),
            "options": list(options or READ_ONLY),
        }
    )


def namespace(spec: Spec, kind: str, path: str) -> None:
    """Makes a node join a namespace instead of making its own."""
    for entry in spec["linux"]["namespaces"]:
        if entry["type"] == kind:
            entry["path"] = path


def mount_in_service(service: Spec, source: Path | str, destination: str, mode: str = "ro") -> None:
    """Adds a bind mount to the service of a compose file."""
    service.setdefault("volumes", []).append(f"{source}:{destination}:{mode}")


def _kept_folder(spec: Spec) -> Path:
    """Where the harness will plant things for the cell that a specification, or a service, is of."""
    if "labels" in spec:
        labels = spec["labels"]
        return Path(labels[LABEL_STATE], labels[LABEL_OWNER], f"kept-{labels[LABEL_CELL]}")
    (mount,) = (mount for mount in spec["mounts"] if mount["destination"] == TETHER_FOLDER)
    if mount["type"] == "bind":
        folder: Path = Path(mount["source"]).parents[1]
        return folder.parents[1].joinpath(f"kept-{folder.name}")
    # gVisor's cells have no folder of the machine; both names stand in the path of the control group.
    _, pod, _ = spec["linux"]["cgroupsPath"].split("/")
    _, owner, cell_id = pod.split("-")
    return state_folder().joinpath(owner, f"kept-{cell_id}")


async def break_inside(cell: Cell, **request: object) -> list[int]:
    """Applies a defect of `programs/defects.py` to a running cell. Returns what it holds, for `Cell.release`."""
    _, held = await cell.run_with_cell_privileges(_program(), request)
    return held


@cache
def _program() -> str:
    return files("redline.seal").joinpath("programs/defects.py").read_text()


@contextlib.contextmanager
def _holder(users: list[dict[str, int]], groups: list[dict[str, int]]) -> Iterator[dict[str, str]]:
    """A process that waits for the end of its input in namespaces of its own."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/"
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        _await_byte(process.stdout)
        for kind, maps in (("uid", users), ("gid", groups)):
            _map_ids(process.pid, kind, [[piece[key] for key in ("containerID", "hostID", "size")] for piece in maps])
        os.write(process.stdin.fileno(), b"m")
        _await_byte(process.stdout)
        yield {"user": f"/proc/{process.pid}/ns/user", "pid": f"/proc/{process.pid}/ns/pid_for_children"}
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(HOLDER_SECONDS)


def _await_byte(pipe: IO[bytes]) -> None:
    if not select.select([pipe], [], [], HOLDER_SECONDS)[0] or not os.read(pipe.fileno(), 1):
        raise CellError("the process that holds namespaces did not come up")


def _map_ids(pid: int, kind: str, maps: list[list[int]]) -> None:
    """Maps the ids of a user namespace; without root by the system's own helper."""
    if os.geteuid() == 0:
        lines = "".join(f"{inside} {outside} {size}\n" for inside, outside, size in maps)
        Path(f"/proc/{pid}/{kind}_map").write_text(lines)
    else:
        numbers = [str(number) for piece in maps for number in piece]
        command = [f"new{kind}map", str(pid), *numbers]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=HOLDER_SECONDS)


_HOLD = """
import ctypes, os, signal
libc = ctypes.CDLL(None, use_errno=True)
def done(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
done(libc.unshare(0x10000000))  # a user namespace
os.write(1, b"u")
os.read(0, 1)  # its ids are mapped
os.setgroups([]); os.setresgid(0, 0, 0); os.setresuid(0, 0, 0)
done(libc.unshare(0x6E020000))  # namespaces of every other kind
first = os.fork()
if first == 0:
    done(libc.prctl(1, signal.SIGKILL, 0, 0, 0))
    for capability in range(64):
        libc.prctl(24, capability, 0, 0, 0)
    done(libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()))
    done(libc.prctl(38, 1, 0, 0, 0))
    allow = ctypes.create_string_buffer(b"\\x06\\0\\0\\0\\0\\0\\xff\\x7f", 8)  # a filter, and what it says is yes
    program = (ctypes.c_uint64 * 2)(1, ctypes.addressof(allow))
    done(libc.prctl(22, 2, program, 0, 0))
    os.write(1, b"p")
    os.read(0, 1)
    os._exit(0)
os.waitpid(first, 0)
"""
"""Waits for the end of its input, confined like a cell's own process but for being none."""
