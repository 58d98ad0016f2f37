"""runc and crun: cells share the host's kernel, and the host sees into them."""

from dataclasses import dataclass
from typing import ClassVar

from redline.cell.cell import Cell, SpecPatch
from redline.cell.config import CellConfig
from redline.cell.oci.cell import HostKernelCell
from redline.cell.oci.warden import start_warden
from redline.cell.runtime import Runtime
from redline.cell.traits import SHARED_KERNEL_RISK, Traits
from redline.cell.warden import LEASE_SECONDS, Warden


@dataclass(frozen=True)
class HostKernelRuntime(Runtime):
    """An OCI runtime with runc's command line whose cells share the host's kernel."""

    def start_warden(self, lease_seconds: float = LEASE_SECONDS) -> Warden:
        """Start a warden."""
        return start_warden(self.traits, str(self.program), (), lease_seconds)

    @classmethod
    async def start_cell(cls, config: CellConfig, warden: Warden, patch: SpecPatch | None = None) -> Cell:
        """Make a cell."""
        return await HostKernelCell.start(config, warden, patch)


@dataclass(frozen=True)
class Runc(HostKernelRuntime):
    """The reference implementation of the OCI runtime specification."""

    traits: ClassVar = Traits(
        name="runc",
        how_to_install="install runc with the system's package tool, such as: apt-get install runc",
        not_protected=(SHARED_KERNEL_RISK,),
    )


@dataclass(frozen=True)
class Crun(HostKernelRuntime):
    """An OCI runtime in C with runc's command line."""

    traits: ClassVar = Traits(
        name="crun",
        how_to_install="install crun with the system's package tool; runc is enough",
        not_protected=(SHARED_KERNEL_RISK,),
    )
