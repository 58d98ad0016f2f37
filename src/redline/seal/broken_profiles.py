"""Probe 37: a bare cell and broken ones are rejected, here and now, by the probes that are to reject them."""

from collections.abc import Sequence

from redline._tasks import task_group
from redline.cell.config import CellConfig
from redline.cell.open import traits_of
from redline.seal.broken import Bench, DefectiveCell, InjectedDefect, Spec
from redline.seal.broken_cells import CAPABILITY_KEPT, CELLS
from redline.seal.matrix import measure_defects
from redline.seal.quick import quick_seal

SAMPLE = ("read_only_root", "declared_sockets")
"""Probes whose broken cells are tried at the start of every run; `redline seal --selftest` tries all."""


def bare_container(spec: Spec, _bench: Bench) -> None:
    """What a runtime makes where nothing is asked of it; user and network namespaces stay, so that it is closed."""
    spec["process"]["noNewPrivileges"] = False
    spec["linux"].pop("seccomp", None)
    spec["linux"].pop("maskedPaths", None)
    spec["linux"].pop("readonlyPaths", None)
    for mount in spec["mounts"]:
        if mount["type"] == "tmpfs":
            mount["options"] = [option for option in mount["options"] if not option.startswith("size=")]


def bare_service(service: Spec, _bench: Bench) -> None:
    """The same of the engine; what it filters by itself stays."""
    service["security_opt"] = []
    service["read_only"] = False
    service["tmpfs"] = [place.partition(":")[0] for place in service["tmpfs"]]


BARE = DefectiveCell(bare_container, bare_service, init=CAPABILITY_KEPT)
BARE_FAILS = ("no_capabilities", "no_new_privileges", "refused_system_calls", "read_only_root")
"""Probes of the quick set that must reject a bare cell."""


async def broken_profiles_fail(
    config: CellConfig | None = None, defects: Sequence[InjectedDefect] = CELLS, bare: DefectiveCell = BARE
) -> str | None:
    """Tries a bare cell and a sample of broken ones.

    Args:
        config: The shape of the cells.
        defects: From which the sample is taken, the first for each of its probes.
        bare: The bare cell.

    Returns:
        Which of them was not rejected as it must be, None where all were.
    """
    config = config or CellConfig()
    sample = [next(each for each in defects if each.probe == name) for name in SAMPLE]
    wrong: list[str] = []

    async def try_bare() -> None:
        async with bare.open(config) as cell:
            report = await quick_seal(cell)
        enforced = traits_of(report.runtime).enforces
        missed = [name for name in BARE_FAILS if name in report.passed and name not in enforced]
        if missed:
            wrong.append(f"a bare cell passes {', '.join(missed)}")

    async with task_group() as tasks:
        tasks.start_soon(try_bare)
        matrix = await measure_defects(config, sample, quick_seal, unbroken=False)
    wrong += [f"{row.what}: {row.complaint()}" for row in matrix.rows if not row.holds]
    return "; ".join(wrong) or None
