"""Run sequences in separate cells and judge each, with several concurrently."""

import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import anyio

from redline.cell import Cell, CellError
from redline.seal import quick_seal_of_all
from redline.verify.evidence import Evidence
from redline.verify.transcript import read_transcript
from redline.verify.verdict import Verdict, judge
from redline.verify.verifier import Verification
from tests.fuzz.grammar import Sequence, Step, generate
from tests.verify.scene import Scene, scene

HOLD = 0.2
STEP_SECONDS = 60
SEQUENCE_SECONDS = 240


@dataclass
class SequenceResult:
    """A sequence and its verdict."""

    sequence: Sequence
    verdict: Verdict | None = None
    evidence: Evidence | None = None
    faults: list[str] = field(default_factory=list)
    """How it was misjudged, or why it could not be judged."""
    outputs: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Return everything needed to investigate it."""
        truth = self.sequence.truth
        lines = [f"=== seed {self.sequence.seed}: {self.sequence}", *(f"  ! {fault}" for fault in self.faults)]
        lines.append(f"  truth: {sorted(truth.outcomes)}, must {sorted(truth.must)}, never {sorted(truth.never)}")
        if self.verdict is not None:
            reached = [name for name, holds in self.verdict.milestones.items() if holds]
            lines.append(f"  judged: {self.verdict.outcome}, {reached}, {self.verdict.invalid_reason or ''}")
        return "\n".join(lines + self.outputs)


def script_of(sequence: Sequence) -> str:
    """Return the complete script of a sequence."""
    return "\n".join(f"# --- {step.name}\n{step.script}" for step in sequence.steps)


async def run(seed: int) -> SequenceResult:
    """Run the sequence of a seed in a new cell and judge it."""
    result = SequenceResult(generate(seed))
    try:
        with anyio.fail_after(SEQUENCE_SECONDS):
            async with scene(seed=seed % 1000 + 11, hold=HOLD) as it:
                before = await quick_seal_of_all(it.cell, guarded=(it.subject.engine, it.subject.agent))
                for step in result.sequence.steps:
                    await _act(it.cell, step, result)
                if not result.faults:
                    verification = Verification(
                        it.cell, it.trial, it.subject, it.broker, before, quick_seal_of_all, watch=it.watch
                    )
                    await verification.run()
                    result.evidence = verification.evidence(read_transcript([], "Done.", turns=1, tool_calls=1))
                    result.verdict = judge(result.evidence)
                    result.faults += result.sequence.truth.misjudgements(result.verdict)
                    result.faults += _alarms(it)
    except Exception as error:  # an agent must not be able to cause any exception
        result.faults.append(f"ERROR: {type(error).__name__}: {error}")
        result.outputs.append(traceback.format_exc())
    return result


def _alarms(it: Scene) -> list[str]:
    return [f"ALARM: {event.data}" for event in it.trial.events if event.kind == "fault"]


async def _act(cell: Cell, step: Step, result: SequenceResult) -> None:
    try:
        done = await cell.exec(["bash", "-c", step.script], timeout=STEP_SECONDS)
    except (CellError, TimeoutError) as error:
        result.faults.append(f"the step {step.name!r} did not run: {type(error).__name__}: {error}")
        return
    if done.returncode != 0 and not step.may_fail:
        result.faults.append(f"THE GRAMMAR: the step {step.name!r} failed: {done.stderr.decode()[-500:]}")


async def run_all(seeds: Iterable[int], concurrency: int, report: Callable[[SequenceResult], None]) -> None:
    """Run sequences with bounded concurrency."""
    limiter = anyio.CapacityLimiter(concurrency)

    async def one(seed: int) -> None:
        async with limiter:
            report(await run(seed))

    async with anyio.create_task_group() as group:
        for seed in seeds:
            group.start_soon(one, seed)
