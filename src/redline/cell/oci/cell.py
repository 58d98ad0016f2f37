"""Cells whose nodes an OCI runtime makes from a specification of redline."""

import contextlib
import json
import secrets
import shutil
import socket
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import anyio

from redline.cell.cell import START_TIMEOUT, Cell, SpecPatch
from redline.cell.config import CellConfig
from redline.cell.errors import CellError, CellGoneError
from redline.cell.folders import make_folder
from redline.cell.node import Node, ProcessRef
from redline.cell.oci.spec import NodeSpec, node_spec, require_closed_network
from redline.cell.outside import SPARE_SOCKETS, OutsideCell
from redline.cell.spec import HOSTNAMES
from redline.cell.state import IdMaps, claim_ids
from redline.cell.warden import GONE, Warden, no_room


class OciCell(Cell):
    """A cell that an OCI runtime makes. A subclass observes it from outside or from inside."""

    _ids: IdMaps
    _patch: SpecPatch | None = None

    @classmethod
    async def start(cls, config: CellConfig, warden: Warden, patch: SpecPatch | None = None) -> Self:
        """Make a cell and wait until each node's first process serves.

        Args:
            config: Its shape and quotas.
            warden: The warden that makes it.
            patch: Changes a node's specification before it is used.

        Raises:
            UsageError: This user or host can make no cells.
            CellError: The runtime refused.
        """
        cell_id = secrets.token_hex(4)
        folder = warden.cells / cell_id
        try:
            make_folder(folder)
            cell = cls(cell_id, config, warden)
            cell._ids = claim_ids(warden.harness.owner.parent, folder)
            cell._patch = patch
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            if warden.is_gone:
                raise CellGoneError(GONE) from error
            if isinstance(error, OSError):
                raise no_room(folder, error) from error
            raise
        try:
            await cell._start_nodes()
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await cell.remove()
            if warden.is_gone and isinstance(error, CellError):
                raise CellGoneError(GONE) from error
            raise
        return cell

    async def _start_nodes(self) -> None:
        for name in self.config.nodes:
            self.nodes[name] = await self._start_node(name)

    @abstractmethod
    def _specification(self, name: str, tether: Path) -> dict[str, Any]:
        """Return the specification of a node, which joins the namespaces of the cell's first node if there is one."""

    @property
    def _joined_pid(self) -> int | None:
        """Pid of the first process whose network a further node joins; None if the runtime joins it by itself."""
        return None

    async def _start_node(self, name: str) -> Node:
        tether = self._prepare_folder(name)
        spec = self._specification(name, tether)
        if self._patch is not None:
            spec = self._patch(spec, name)
        require_closed_network(spec, self._joined_pid)
        try:
            (self.folder / name / "config.json").write_text(json.dumps(spec))
        except OSError as error:
            raise no_room(self.folder / name, error) from error
        control, first = await self._start_first_process(name)
        return Node(name, first, first, tether, control)

    def _prepare_folder(self, name: str) -> Path:
        """Create the folders of a node; return the tether's."""
        folder = self.folder / name
        tether = folder / "tether"
        try:
            make_folder(folder)  # not the folders above: they are gone if the warden is, and nothing would remove them
            make_folder(tether)
        except OSError as error:
            raise no_room(folder, error) from error
        return tether

    async def _start_first_process(self, name: str) -> tuple[socket.socket, ProcessRef]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        request = {
            "op": "start",
            "cell": self.id,
            "node": name,
            "shares": bool(self.nodes),
            "wall_seconds": self.config.wall_seconds,
        }
        with contextlib.ExitStack() as undo:
            undo.callback(ours.close)
            with theirs:
                answer = await self._start_by_warden(request, theirs.fileno())
            await self._prepare_first_process(name, ours)
            with anyio.fail_after(START_TIMEOUT):
                await anyio.wait_readable(ours)
            if not ours.recv(1 << 10):
                raise CellError(f"the first process of node {name} ended at its start")
            undo.pop_all()
        return ours, ProcessRef(answer["pid"], answer["start"], name)

    async def _start_by_warden(self, request: Mapping[str, object], control: int) -> dict[str, Any]:
        """Have the warden start a node with this control socket, and return its answer."""
        answer, _ = await self._warden.call(request, [control], START_TIMEOUT)
        return answer

    async def _prepare_first_process(self, name: str, control: socket.socket) -> None:
        """Send what a node's first process needs before it serves."""

    def _node_spec(self, node_name: str, tether: Path, **differences: Any) -> dict[str, Any]:
        harness = self._warden.harness
        node = NodeSpec(
            hostname=HOSTNAMES.get(node_name, HOSTNAMES["default"]),
            root=harness.root,
            init=harness.init,
            tether=tether,
            ids=self._ids,
            cgroup=None if self.rootless else f"/{self.cgroup}/{node_name}",
            **differences,
        )
        return node_spec(self.config, node, harness.tools)


class HostKernelCell(OciCell, OutsideCell):
    """A cell on the host's kernel; its further nodes join the namespaces of the first one."""

    def _specification(self, name: str, tether: Path) -> dict[str, Any]:
        return self._node_spec(name, tether, name=name, shares=self._joined_pid)

    @property
    def _joined_pid(self) -> int | None:
        first = self.nodes.get("default")
        return first.init.pid if first else None

    async def _start_by_warden(self, request: Mapping[str, object], control: int) -> dict[str, Any]:
        """Do it, and keep the first sockets of the cell's network."""
        answer, made = await self._warden.call({**request, "sockets": SPARE_SOCKETS}, [control], START_TIMEOUT)
        self._keep_sockets(made)
        return answer
