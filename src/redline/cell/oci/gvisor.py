"""gVisor (`runsc`): each cell has a kernel of its own, which the host cannot see into."""

import os
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from redline.cell.attendant import Attendant
from redline.cell.cell import Cell, SpecPatch
from redline.cell.config import CellConfig
from redline.cell.inside import InsideCell
from redline.cell.messages import send
from redline.cell.node import Node
from redline.cell.oci.cell import OciCell
from redline.cell.oci.spec import GVISOR_MIB
from redline.cell.oci.warden import start_warden
from redline.cell.runtime import Runtime, first_error_line
from redline.cell.traits import Traits
from redline.cell.warden import LEASE_SECONDS, Warden

OPTIONS = ("--platform=systrap", "--network=none", "--host-uds=none", "--oci-seccomp", "--overlay2=none")
"""Loopback only, no socket of the host, redline's system call filter inside too, and no writable root in memory."""

TRY_TIMEOUT = 30.0
PAUSE = "pause"
"""With several nodes under one kernel, an additional container holds the sandbox and runs nothing."""


class GvisorCell(OciCell, InsideCell):
    """A cell with a kernel of its own; all its nodes run under that kernel."""

    _pause: Node | None = None

    async def _start_nodes(self) -> None:
        if len(self.config.nodes) > 1:
            self._pause = await self._start_node(PAUSE)
        await super()._start_nodes()

    def _specification(self, name: str, tether: Path) -> dict[str, Any]:
        first = self.nodes.get("default")
        return self._node_spec(
            name,
            tether,
            name="" if name == PAUSE else name,
            shares=first.init.pid if first else None,
            attendant=self.harness.attendant,
            pod=f"{self.harness.owner.name}-{self.id}-{PAUSE}" if self._pause or name == PAUSE else None,
        )

    async def _prepare_first_process(self, name: str, control: socket.socket) -> None:
        """Send the first process the stream of the attendant that it must start."""
        if name == PAUSE:
            return
        ours, theirs = socket.socketpair()
        with theirs:
            await send(control, {}, [theirs.fileno()])
        stream = ours.detach()
        self._attendants[name] = Attendant(name, stream, stream)
        await self._attendants[name].ready()

    async def _close_connections(self) -> None:
        await super()._close_connections()
        if self._pause:
            self._pause.control.close()


@dataclass(frozen=True)
class Gvisor(Runtime):
    """gVisor's `runsc`. It needs root, and a processor that its platform supports."""

    traits: ClassVar = Traits(
        name="runsc",
        how_to_install="install gVisor: see gvisor.dev/docs",
        observer="inside",
        kernel="gVisor's own",
        runs_models_by_default=True,
        needs_root=True,
        spare_mib=GVISOR_MIB,
        cells_per_cpu=3,
        extra_mounts=("/sys",),
        private_namespaces=("net", "ipc", "uts", "mnt", "user"),
        names_connector=False,
        enforces=("no_new_privileges",),
        cannot_inject={
            "host_kernel": "gVisor's own kernel ignores this setting",
            "host_devices": "gVisor mounts no device of the host into a cell",
        },
        not_protected=(
            "vulnerabilities of gVisor, whose kernel serves the agent's system calls "
            "and reports what the verifier sees",
        ),
    )

    def defect(self) -> str | None:
        """Return why it can make no cells here: it is tried, since that depends on the processor."""
        if os.geteuid() != 0:
            return "gVisor makes cells for root only"
        with tempfile.TemporaryDirectory(prefix="pods-") as folder:
            command = [str(self.program), "--root", folder, *OPTIONS, "--ignore-cgroups", "do", "true"]
            return first_error_line(command, TRY_TIMEOUT)

    def start_warden(self, lease_seconds: float = LEASE_SECONDS) -> Warden:
        """Start a warden."""
        return start_warden(self.traits, str(self.program), OPTIONS, lease_seconds)

    @classmethod
    async def start_cell(cls, config: CellConfig, warden: Warden, patch: SpecPatch | None = None) -> Cell:
        """Make a cell."""
        return await GvisorCell.start(config, warden, patch)
