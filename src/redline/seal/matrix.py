"""Breakages against probes: what each probe found on each broken cell."""

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
from redline.seal.broken import DefectiveCell, InjectedDefect
from redline.seal.facts import PROBE_NAMES
from redline.seal.report import SealReport

AT_ONCE = 4
REASON_LENGTH = 120
UNBROKEN = {"security_label": "it is recorded and never fails"}
"""Probes that cannot fail, with the reason."""

NOTHING = InjectedDefect("", "nothing is broken", DefectiveCell())
MACHINE_COUNTERS = Path("/proc/net/dev")
HELD, OWN, RELATED, WRONG, UNKNOWN = ".", "F", "r", "!", " "

Measure = Callable[[Cell], Awaitable[SealReport]]
Progress = Callable[["Row"], None]


class Row(Frozen):
    """What the probes found on one broken cell. Probes go by their names."""

    probe: str
    """The probe that must fail, empty for the cell that is not broken."""

    what: str
    """What was broken."""

    held: tuple[str, ...] = ()
    """Probes that passed."""

    failed: dict[str, str] = {}
    """Probes that failed, each with what it found."""

    related: dict[str, str] = {}
    """Probes that fail of necessity where this is broken, each with the reason."""

    error: str = ""
    """Why the defect could not be measured."""

    left_out: str = ""
    """Why it was not tried: what this runtime, user or machine does not have."""

    @property
    def unexpected(self) -> tuple[str, ...]:
        """Probes that failed and had no reason to."""
        return tuple(name for name in self.failed if name != self.probe and name not in self.related)

    @property
    def noticed(self) -> bool:
        """Whether the probe rejected the cell; of the cell that is not broken, whether none did."""
        return self.probe in self.failed if self.probe else not self.failed

    @property
    def holds(self) -> bool:
        """Whether the probe failed and no unrelated one did."""
        return bool(self.left_out) or (not self.error and self.noticed and not self.unexpected)

    def mark(self, probe: str) -> str:
        """One character for the finding of a probe."""
        if probe in self.failed:
            return OWN if probe == self.probe else RELATED if probe in self.related else WRONG
        if probe in self.held:
            return WRONG if probe == self.probe else HELD
        return UNKNOWN

    def complaint(self) -> str:
        """Why it does not hold, empty where it does."""
        if self.holds:
            return ""
        if self.error:
            return self.error
        parts = [f"{name} failed as well ({self.failed[name][:REASON_LENGTH]})" for name in self.unexpected]
        return "; ".join(parts if self.noticed else ["its probe did not notice", *parts])


class Matrix(Frozen):
    """Breakages against probes."""

    runtime: str
    """The runtime that made the cells."""

    rows: tuple[Row, ...]
    """One for each defect, the cell that is not broken first."""

    uncovered: dict[str, str] = {}
    """Probes that no row tries, with the reason."""

    notes: tuple[str, ...] = ()
    """What was seen beside."""

    seconds: float
    """How long it took."""

    @property
    def holds(self) -> bool:
        """Whether each probe has a defect, and each that was tried failed at its own probe and no unrelated one."""
        return all(row.holds for row in self.rows) and set(self.uncovered) <= set(UNBROKEN)

    def render(self) -> str:
        """The matrix and what is to be said about it, for a terminal."""
        shown = [name for name in PROBE_NAMES if any(name in row.held or name in row.failed for row in self.rows)]
        numbers = [f"{PROBE_NAMES.index(name) + 1:2}" for name in shown]
        lines = ["   " + "".join(number[digit] for number in numbers) for digit in (0, 1)]
        for row in self.rows:
            number = str(PROBE_NAMES.index(row.probe) + 1) if row.probe else ""
            label = f"{row.probe}: {row.what}" if row.probe else row.what
            marks = "".join(row.mark(name) for name in shown)
            lines.append(f"{number:>2} {marks} {label}" + (f" (left out: {row.left_out})" if row.left_out else ""))
            if not row.holds:
                lines.append(f"   WRONG: {row.complaint()}")
        lines.append(f"{HELD} held  {OWN} failed as it must  {RELATED} must fail with it  {WRONG} wrong")
        lines += [f"not tried: {name} ({reason})" for name, reason in self.uncovered.items()]
        lines += self.notes
        tried = sum(bool(row.probe) and not row.left_out for row in self.rows)
        verdict = "every broken cell fails at its own probe" if self.holds else "THE SEAL DOES NOT FAIL AS IT MUST"
        lines.append(f"{verdict}: {tried} defects on {self.runtime}, in {self.seconds:.1f} s")
        return "\n".join(lines)


async def measure_defects(
    config: CellConfig,
    defects: Sequence[InjectedDefect],
    measure: Measure,
    progress: Progress | None = None,
    *,
    unbroken: bool = True,
) -> Matrix:
    """Runs the probes on a cell that is not broken and on every broken one.

    Args:
        config: The shape of the cells.
        defects: What is broken.
        measure: Runs the probes on a cell.
        progress: Told of each row as it is known.
        unbroken: Whether a cell that is not broken is measured too.

    Returns:
        The matrix.
    """
    runtime = choose_runtime(config.runtime)
    config = config.model_copy(update={"runtime": runtime.name})
    lacking = _lacking(runtime)
    counters = _sent_by_the_machine()
    begun = time.perf_counter()
    chosen = [*([NOTHING] if unbroken else []), *defects]
    rows: dict[int, Row] = {}
    at_once = anyio.Semaphore(AT_ONCE)

    async def run(index: int, defect: InjectedDefect) -> None:
        async with at_once:
            missing = next((lacking[need] for need in sorted(defect.needs & set(lacking))), "")
            missing = missing or (defect.broken.why_not(runtime.name) if defect.broken else "")
            if missing:
                rows[index] = Row(probe=defect.probe, what=defect.what, left_out=missing)
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
        notes=(_note(counters, _sent_by_the_machine()),),
        seconds=time.perf_counter() - begun,
    )


def _lacking(runtime: Runtime) -> dict[str, str]:
    """What a defect may need and this runtime or user does not have, with the reason."""
    lacking = {}
    if runtime.traits.observer == "inside":
        lacking["namespaces"] = f"{runtime.name} keeps its namespaces where nothing outside can enter them"
        lacking["low_ports"] = f"nothing of ours in a cell of {runtime.name} may bind a low port"
    lacking.update(runtime.traits.cannot_inject)
    if os.geteuid() != 0:
        lacking["cgroups"] = "without root there is no cgroup whose bound could be lifted"
    return lacking


def _sent_by_the_machine() -> dict[str, int]:
    """Packets sent by each of the machine's interfaces but the loopback."""
    lines = [line.replace(":", " ").split() for line in MACHINE_COUNTERS.read_text().splitlines()[2:]]
    return {words[0]: int(words[10]) for words in lines if words[0] != "lo"}


def _note(before: dict[str, int], after: dict[str, int]) -> str:
    sent = ", ".join(f"{name} {count - before.get(name, 0)}" for name, count in after.items()) or "none but loopback"
    return (
        "every network was closed when it was broken (checked before use: no interface but its own, no way out); "
        f"for information, packets that the whole machine sent meanwhile: {sent}"
    )


async def _row(config: CellConfig, defect: InjectedDefect, measure: Measure) -> Row:
    """Measures one defect. Whatever goes wrong is the row's, which then does not hold."""
    row = Row(probe=defect.probe, what=defect.what, related=dict(defect.related))
    failed: dict[str, str] = {}
    held: list[str] = []
    try:
        if defect.broken is not None:
            async with defect.broken.open(config) as cell:
                report = await measure(cell)
            failed = {finding.name: finding.reason for finding in report.failed}
            held = list(report.passed)
        if defect.drill is not None:
            reason = await defect.drill(config)
            held = [name for name in held if name != defect.probe]
            if reason is None:
                held.append(defect.probe)
            else:
                failed[defect.probe] = reason
    except Exception as error:
        return row.model_copy(
            update={"error": "; ".join(f"{type(each).__name__}: {each}" for each in faults_in(error))}
        )
    return row.model_copy(update={"held": tuple(held), "failed": failed})
