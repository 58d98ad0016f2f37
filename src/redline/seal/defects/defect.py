"""Types of injected defects: each breaks one property of a cell, so that a probe can be shown to fail.

Every defect is harmless and leaves the cell closed. What it opens leads to something that was created for it, never to
the network, the root or the processes of the host.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from redline.cell.cell import Cell, SpecPatch
from redline.cell.config import CellConfig
from redline.cell.open import open_cell, traits_of
from redline.seal.defects.workbench import Spec, Workbench, open_workbench

Change = Callable[[Spec, Workbench], None]
"""Changes the specification of a node, or a service of a compose file, in place."""

DefectiveDrill = Callable[[CellConfig], Awaitable[str | None]]
"""Runs a drill under a condition that must make it fail. Returns the reason of the failure, None if it passed."""


@dataclass(frozen=True)
class DefectiveCell:
    """How a cell differs from a correct one. Fields that are not set leave the cell as it is."""

    change: Change | None = None
    """Changes the specification of the first node."""

    service: Change | None = None
    """Changes the first node's service in the compose file; used instead of `change` on Docker."""

    init: str = ""
    """Name of a file in `programs/init_patches/` that replaces definitions of the first process's program."""

    inside: Mapping[str, object] | None = None
    """Request for `programs/defects.py`, which is applied to the running cell."""

    config: Mapping[str, object] = field(default_factory=dict)
    """Settings of the cell that differ."""

    def unsupported_reason(self, runtime: str) -> str:
        """Return why a runtime cannot make this cell, empty if it can."""
        needs_specification = self.service is None and (self.change is not None or bool(self.init))
        if needs_specification and traits_of(runtime).specification == "compose":
            return "the Docker engine writes the specification itself and has no option for this defect"
        return ""

    def config_from(self, config: CellConfig) -> CellConfig:
        """Return the configuration of the broken cell."""
        return CellConfig.model_validate({**config.model_dump(), **self.config})

    def patch(self, bench: Workbench) -> SpecPatch:
        """Return the function that changes the specification, or the service, of the first node."""

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
        """Open a running cell with this defect."""
        with open_workbench() as bench:
            async with open_cell(self.config_from(config), self.patch(bench)) as cell:
                held: list[int] = []
                if self.inside is not None:
                    held = await inject(cell, **self.inside)
                try:
                    yield cell
                finally:
                    await cell.release(held)


@dataclass(frozen=True)
class InjectedDefect:
    """One defect, the probe that must detect it, and other probes that necessarily fail as well."""

    probe: str
    """The probe's name."""

    description: str
    """Description of the defect."""

    broken: DefectiveCell | None = None
    """The broken cell on which the probes are run."""

    drill: DefectiveDrill | None = None
    """For a drill, which makes its own cells: the drill under this defect."""

    related: Mapping[str, str] = field(default_factory=dict)
    """Other probes that necessarily fail, each with the reason."""

    needs: frozenset[str] = frozenset()
    """What the host, user or runtime must have: see `seal.matrix`."""


async def inject(cell: Cell, **request: object) -> list[int]:
    """Apply a defect of `programs/defects.py` to a running cell. Return the descriptors to pass to `Cell.release`."""
    _, held = await cell.run_with_cell_privileges(_program(), request)
    return held


@cache
def _program() -> str:
    return files("redline.seal").joinpath("programs/defects.py").read_text()
