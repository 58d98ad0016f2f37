"""The configuration of a cell: its nodes, its runtime and its quotas."""

import re
from functools import cache
from importlib.metadata import entry_points
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticKnownError

from redline._base import Frozen, read_toml

BUILT_IN_NAMES: Final = ("auto", *read_toml("redline.cell", "data/runtimes.toml")["built_in"])
"""`auto` and the built-in runtimes."""

RUNTIME_GROUP: Final = "redline.runtimes"
"""Entry point group in which other packages register runtimes."""

NAME_PATTERN: Final = "^[a-z][a-z0-9_-]{0,31}$"


@cache
def runtime_names() -> tuple[str, ...]:
    """Return every name that a configuration accepts: `auto`, the built-in runtimes, then the registered ones.

    Only the metadata of installed packages is read; no runtime is imported.
    """
    registered = {entry.name for entry in entry_points(group=RUNTIME_GROUP) if re.match(NAME_PATTERN, entry.name)}
    return (*BUILT_IN_NAMES, *sorted(registered - set(BUILT_IN_NAMES)))


def _require_known(name: str) -> str:
    names = runtime_names()
    if name not in names:
        expected = f"{', '.join(map(repr, names[:-1]))} or {names[-1]!r}"
        raise PydanticKnownError("literal_error", {"expected": expected})
    return name


RuntimeName = Annotated[
    str,
    AfterValidator(_require_known),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "enum": list(BUILT_IN_NAMES)},
                {"type": "string", "pattern": NAME_PATTERN},
            ]
        }
    ),
]
"""Name of a container runtime, or `auto`."""

NodeName = Literal["default", "target"]

Mebibytes = Annotated[int, Field(ge=1, le=1 << 20)]


class CellConfig(Frozen):
    """The shape and the quotas of one cell. Sizes are in MiB."""

    runtime: RuntimeName = "auto"
    """Container runtime that makes the cell; `auto` takes the strongest one that works."""

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
    """Memory of each node in addition to its temporary file systems, which count as memory too."""

    pids: Annotated[int, Field(ge=8, le=4096)] = 128
    """Maximum number of concurrent processes and threads of a node."""

    cpus: Annotated[float, Field(gt=0, le=64)] = 2.0
    """Processor time per second of wall time, per node."""

    open_files: Annotated[int, Field(ge=64, le=65536)] = 1024
    """Maximum number of descriptors of one process."""

    wall_seconds: Annotated[int, Field(ge=1, le=86400)] = 7200
    """Maximum age of the cell; an older cell is killed from outside."""

    @model_validator(mode="after")
    def _default_node_first(self) -> "CellConfig":
        if not self.nodes or self.nodes[0] != "default" or len(set(self.nodes)) != len(self.nodes):
            raise ValueError("nodes must start with 'default' and name no node twice")
        return self

    @property
    def memory_mib(self) -> int:
        """Memory limit of one node: its temporary file systems and its working set."""
        return self.home_mib + self.tmp_mib + self.var_tmp_mib + self.shm_mib + self.working_mib
