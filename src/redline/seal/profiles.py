"""Probe 37: the probes reject a bare cell and a sample of broken cells, on this host, before each run."""

from collections.abc import Sequence

from redline._tasks import task_group
from redline.cell.config import CellConfig
from redline.cell.open import traits_of
from redline.seal.defects import DefectiveCell, InjectedDefect, Spec, Workbench
from redline.seal.defects.cells import CELLS
from redline.seal.matrix import measure_defects
from redline.seal.quick import quick_seal

SAMPLE = ("read_only_root", "declared_sockets")
"""Probes whose broken cells are probed at the start of every run; `redline seal --selftest` probes all."""


def bare_container(spec: Spec, _bench: Workbench) -> None:
    """Reduce a specification to a runtime's defaults; user and network namespaces stay, so that the cell is closed."""
    spec["process"]["noNewPrivileges"] = False
    spec["linux"].pop("seccomp", None)
    spec["linux"].pop("maskedPaths", None)
    spec["linux"].pop("readonlyPaths", None)
    for mount in spec["mounts"]:
        if mount["type"] == "tmpfs":
            mount["options"] = [option for option in mount["options"] if not option.startswith("size=")]


def bare_service(service: Spec, _bench: Workbench) -> None:
    """Reduce a service to the Docker engine's defaults, which include a filter."""
    service["security_opt"] = []
    service["read_only"] = False
    service["tmpfs"] = [entry.partition(":")[0] for entry in service["tmpfs"]]


BARE = DefectiveCell(bare_container, bare_service, init="kept_capabilities")
BARE_FAILS = ("no_capabilities", "no_new_privileges", "refused_system_calls", "read_only_root")
"""Probes of the quick set that must reject a bare cell."""


async def broken_profiles_fail(
    config: CellConfig | None = None, defects: Sequence[InjectedDefect] = CELLS, bare: DefectiveCell = BARE
) -> str | None:
    """Probe a bare cell and a sample of broken ones.

    Args:
        config: Configuration of the cells.
        defects: The defects to sample from: the first one of each probe in `SAMPLE`.
        bare: The bare cell.

    Returns:
        Which cell was not rejected as it must be, None if all were.
    """
    config = config or CellConfig()
    sample = [next(each for each in defects if each.probe == name) for name in SAMPLE]
    wrong: list[str] = []

    async def probe_bare() -> None:
        async with bare.open(config) as cell:
            report = await quick_seal(cell)
        enforced = traits_of(report.runtime).enforces
        missed = [name for name in BARE_FAILS if name in report.passed and name not in enforced]
        if missed:
            wrong.append(f"a bare cell passes {', '.join(missed)}")

    async with task_group() as tasks:
        tasks.start_soon(probe_bare)
        matrix = await measure_defects(config, sample, quick_seal, unbroken=False)
    wrong += [f"{row.description}: {row.complaint()}" for row in matrix.rows if not row.holds]
    return "; ".join(wrong) or None
