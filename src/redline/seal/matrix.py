"""The matrix of the self-test: what each probe found under each injected defect."""

import os
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import anyio

from redline._base import Frozen
from redline._tasks import faults_in
from redline.cell.cell import Cell
from redline.cell.config import CellConfig
from redline.cell.open import choose_runtime, one_warden
from redline.cell.runtime import Runtime
from redline.seal.defects import DefectiveCell, InjectedDefect
from redline.seal.facts import PROBE_NAMES
from redline.seal.report import SealReport

MAX_CONCURRENT = 4
REASON_LENGTH = 120
NEVER_FAILS = {"security_label": "it only warns"}
"""Probes that cannot fail, with the reason."""

NO_DEFECT = InjectedDefect("", "no defect", DefectiveCell())
HOST_COUNTERS = Path("/proc/net/dev")
PASSED, OWN, RELATED, WRONG, UNKNOWN = ".", "F", "r", "!", " "

Measure = Callable[[Cell], Awaitable[SealReport]]
Progress = Callable[["Row"], None]


class Row(Frozen):
    """What the probes, given by name, found under one defect."""

    probe: str
    """The probe that must fail; empty for the cell without a defect."""

    description: str
    """Description of the defect."""

    passed: tuple[str, ...] = ()
    """Probes that passed."""

    failed: dict[str, str] = {}
    """Probes that failed, each with what it found."""

    related: dict[str, str] = {}
    """Probes that necessarily fail with this defect as well, each with the reason."""

    error: str = ""
    """Why the defect could not be measured."""

    left_out: str = ""
    """Why the defect was not measured: what this host, user or runtime lacks."""

    @property
    def unexpected(self) -> tuple[str, ...]:
        """Probes that failed without a reason to."""
        return tuple(name for name in self.failed if name != self.probe and name not in self.related)

    @property
    def noticed(self) -> bool:
        """Whether the probe rejected the cell; for the cell without a defect, whether no probe did."""
        return self.probe in self.failed if self.probe else not self.failed

    @property
    def holds(self) -> bool:
        """Whether the probe failed and no unrelated probe did."""
        return bool(self.left_out) or (not self.error and self.noticed and not self.unexpected)

    def mark(self, probe: str) -> str:
        """Return the character that shows the result of a probe."""
        if probe in self.failed:
            return OWN if probe == self.probe else RELATED if probe in self.related else WRONG
        if probe in self.passed:
            return WRONG if probe == self.probe else PASSED
        return UNKNOWN

    def complaint(self) -> str:
        """Return why the row does not hold, empty if it does."""
        if self.holds:
            return ""
        if self.error:
            return self.error
        parts = [f"{name} failed as well ({self.failed[name][:REASON_LENGTH]})" for name in self.unexpected]
        return "; ".join(parts if self.noticed else ["its probe did not detect the defect", *parts])


class Matrix(Frozen):
    """The results of all probes under all defects."""

    runtime: str
    """The runtime that made the cells."""

    rows: tuple[Row, ...]
    """One row for each defect, that of the cell without a defect first."""

    uncovered: dict[str, str] = {}
    """Probes for which no defect was measured, with the reason."""

    notes: tuple[str, ...] = ()
    """Further observations."""

    seconds: float
    """Duration of the measurement."""

    @property
    def holds(self) -> bool:
        """Whether every probe has a defect, and each measured defect failed its own probe and no unrelated one."""
        return all(row.holds for row in self.rows) and set(self.uncovered) <= set(NEVER_FAILS)

    def render(self) -> str:
        """Return the matrix, its legend and the verdict as text for a terminal."""
        shown = [name for name in PROBE_NAMES if any(name in row.passed or name in row.failed for row in self.rows)]
        numbers = [f"{PROBE_NAMES.index(name) + 1:2}" for name in shown]
        lines = ["   " + "".join(number[digit] for number in numbers) for digit in (0, 1)]
        for row in self.rows:
            number = str(PROBE_NAMES.index(row.probe) + 1) if row.probe else ""
            label = f"{row.probe}: {row.description}" if row.probe else row.description
            marks = "".join(row.mark(name) for name in shown)
            lines.append(f"{number:>2} {marks} {label}" + (f" (left out: {row.left_out})" if row.left_out else ""))
            if not row.holds:
                lines.append(f"   WRONG: {row.complaint()}")
        lines.append(f"{PASSED} passed  {OWN} failed as it must  {RELATED} necessarily failed as well  {WRONG} wrong")
        lines += [f"not tested: {name} ({reason})" for name, reason in self.uncovered.items()]
        lines += self.notes
        tried = sum(bool(row.probe) and not row.left_out for row in self.rows)
        verdict = "every defect fails its own probe" if self.holds else "THE SEAL DOES NOT FAIL AS IT MUST"
        lines.append(f"{verdict}: {tried} defect{'s'[: tried != 1]} on {self.runtime}, {self.seconds:.1f} s")
        return "\n".join(lines)


async def measure_defects(
    config: CellConfig,
    defects: Sequence[InjectedDefect],
    measure: Measure,
    progress: Progress | None = None,
    *,
    unbroken: bool = True,
) -> Matrix:
    """Run the probes on a cell without a defect and under every defect.

    Args:
        config: Configuration of the cells.
        defects: The defects to inject.
        measure: Runs the probes on a cell.
        progress: Called with each row when it is complete.
        unbroken: Whether to measure a cell without a defect too.

    Returns:
        The matrix.
    """
    runtime = choose_runtime(config.runtime)
    config = config.model_copy(update={"runtime": runtime.name})
    lacking = _lacking(runtime)
    counters = _packets_sent_by_host()
    begun = time.perf_counter()
    chosen = [*([NO_DEFECT] if unbroken else []), *defects]
    rows: dict[int, Row] = {}
    slots = anyio.Semaphore(MAX_CONCURRENT)

    async def run(index: int, defect: InjectedDefect) -> None:
        async with slots:
            missing = next((lacking[need] for need in sorted(defect.needs & set(lacking))), "")
            missing = missing or (defect.broken.unsupported_reason(runtime.name) if defect.broken else "")
            if missing:
                rows[index] = Row(probe=defect.probe, description=defect.description, left_out=missing)
            else:
                rows[index] = await _row(config, defect, measure)
        if progress is not None:
            progress(rows[index])

    async with one_warden(config), anyio.create_task_group() as tasks:
        for index, defect in enumerate(chosen):
            tasks.start_soon(run, index, defect)
    return Matrix(
        runtime=runtime.name,
        rows=tuple(rows[index] for index in range(len(chosen))),
        notes=(_note(counters, _packets_sent_by_host()),),
        seconds=time.perf_counter() - begun,
    )


def _lacking(runtime: Runtime) -> dict[str, str]:
    """Return what a defect may need and this runtime or user lacks, each with the reason."""
    lacking = {}
    if runtime.traits.observer == "inside":
        lacking["namespaces"] = f"the namespaces of {runtime.name} cannot be entered from outside"
        lacking["low_ports"] = f"no program of redline in a cell of {runtime.name} may bind a low port"
    lacking.update(runtime.traits.cannot_inject)
    if os.geteuid() != 0:
        lacking["cgroups"] = "without root there is no cgroup whose limit could be removed"
    return lacking


def _packets_sent_by_host() -> dict[str, int]:
    """Return the packets sent by each interface of the host except the loopback."""
    lines = [line.replace(":", " ").split() for line in HOST_COUNTERS.read_text().splitlines()[2:]]
    return {words[0]: int(words[10]) for words in lines if words[0] != "lo"}


def _note(before: dict[str, int], after: dict[str, int]) -> str:
    sent = ", ".join(f"{name} {count - before.get(name, 0)}" for name, count in after.items()) or "none but loopback"
    return (
        "every broken network was closed (checked before use: no other interface, no route out); "
        f"for information, packets sent by the whole host in the meantime: {sent}"
    )


async def _row(config: CellConfig, defect: InjectedDefect, measure: Measure) -> Row:
    """Measure one defect. Every error is recorded in the row, which then does not hold."""
    row = Row(probe=defect.probe, description=defect.description, related=dict(defect.related))
    failed: dict[str, str] = {}
    passed: list[str] = []
    try:
        if defect.broken is not None:
            async with defect.broken.open(config) as cell:
                report = await measure(cell)
            failed = {finding.name: finding.reason for finding in report.failed}
            passed = list(report.passed)
        if defect.drill is not None:
            reason = await defect.drill(config)
            passed = [name for name in passed if name != defect.probe]
            if reason is None:
                passed.append(defect.probe)
            else:
                failed[defect.probe] = reason
    except Exception as error:
        return row.model_copy(
            update={"error": "; ".join(f"{type(each).__name__}: {each}" for each in faults_in(error))}
        )
    return row.model_copy(update={"passed": tuple(passed), "failed": failed})
