"""What a cell is made of: nodes, runtime and the quotas that bite."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from redline._base import Frozen

RuntimeName = Literal["auto", "runsc", "runc", "crun", "docker"]
NodeName = Literal["default", "target"]

Mebibytes = Annotated[int, Field(ge=1, le=1 << 20)]


class CellConfig(Frozen):
    """The shape and the quotas of one cell. Sizes are in MiB."""

    runtime: RuntimeName = "auto"
    """Which container runtime makes the cell; `auto` takes the strongest that works."""

    nodes: tuple[NodeName, ...] = ("default",)
    """The nodes of the cell. They share user and network namespaces and nothing else."""

    home_mib: Mebibytes = 640
    """Size of `/home/agent` on each node."""

    tmp_mib: Mebibytes = 256
    """Size of `/tmp` on each node."""

    var_tmp_mib: Mebibytes = 64
    """Size of `/var/tmp` on each node."""

    shm_mib: Mebibytes = 64
    """Size of `/dev/shm` on each node."""

    working_mib: Mebibytes = 512
    """Memory of each node beside its temporary file systems, which count as memory too."""

    pids: Annotated[int, Field(ge=8, le=4096)] = 128
    """Processes and threads that a node may hold at once."""

    cpus: Annotated[float, Field(gt=0, le=64)] = 2.0
    """Processor time per second of wall time, per node."""

    open_files: Annotated[int, Field(ge=64, le=65536)] = 1024
    """Descriptors that one process may hold."""

    wall_seconds: Annotated[int, Field(ge=1, le=86400)] = 7200
    """The cell is killed from outside when it is older than this."""

    @model_validator(mode="after")
    def _default_node_first(self) -> "CellConfig":
        if not self.nodes or self.nodes[0] != "default" or len(set(self.nodes)) != len(self.nodes):
            raise ValueError("nodes must start with 'default' and name no node twice")
        return self

    @property
    def memory_mib(self) -> int:
        """Memory limit of one node: its temporary file systems and its working set."""
        return self.home_mib + self.tmp_mib + self.var_tmp_mib + self.shm_mib + self.working_mib
