"""The traits of a container runtime: everything that redline does differently from one runtime to another."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Observer = Literal["outside", "inside"]
"""`outside`: the host sees the processes and files of a cell. `inside`: only a program in the cell does."""


@dataclass(frozen=True)
class Traits:
    """What the rest of redline may assume about the cells of one runtime.

    No code outside a runtime's own folder and `cell/open.py` knows runtimes by name. It reads these fields instead.
    """

    name: str
    """Name of the runtime, which is also the name of its program."""

    how_to_install: str
    """One line that tells the user how to install it."""

    observer: Observer = "outside"
    """Where a cell can be observed from."""

    kernel: str | None = None
    """Description of the kernel that each cell has for itself; None where cells share the host's kernel."""

    runs_models_by_default: bool = False
    """Whether `auto` may choose it for a model that is not a control."""

    needs_root: bool = False
    """Whether only root can make cells with it."""

    specification: Literal["oci", "compose"] = "oci"
    """What a node is made from: a specification of the OCI, or a service of a compose file."""

    freezer: bool = True
    """Whether a cell can be frozen as a whole where the host has a freezer."""

    bounds_without_root: bool = False
    """Whether memory, processes and processor time are bounded for a user without root, too."""

    spare_mib: int = 0
    """Memory that the runtime uses within a cell's limit; the limit is higher by this."""

    spare_pids: int = 0
    """Processes of redline within a cell's limit; the limit is higher by this."""

    cells_per_cpu: int = 10
    """Concurrent cells for each processor. Trials mostly wait, but some runtimes add work of their own."""

    extra_mounts: tuple[str, ...] = ()
    """Mount points that the runtime adds to those that redline asks for."""

    extra_files: tuple[str, ...] = ()
    """Files that the runtime adds to a node."""

    private_namespaces: tuple[str, ...] = ("pid", "net", "ipc", "uts", "mnt", "user")
    """Kinds of namespace, as the host sees them, that no two cells share."""

    names_connector: bool = True
    """Whether the kernel names the process behind a connection to the tether before that process sends anything."""

    enforces: tuple[str, ...] = ()
    """Seal probes that pass whatever a node's specification asks for."""

    cannot_inject: Mapping[str, str] = field(default_factory=dict)
    """Needs of the seal's injected defects that the runtime cannot meet, each with the reason."""

    not_protected: tuple[str, ...] = ()
    """What its cells do not protect from; shown in every seal report."""

    @property
    def own_kernel(self) -> bool:
        """Whether each cell has a kernel for itself."""
        return self.kernel is not None


SHARED_KERNEL_RISK = "holes in the host's kernel: the agent's system calls reach it, through the filter"
"""`not_protected` of every runtime whose cells share the host's kernel."""
