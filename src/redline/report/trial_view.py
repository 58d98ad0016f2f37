"""What a reader sees of one trial: its verdict, and the evidence for it in bounded tables."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from redline.models.ledger import ModelCalls
from redline.report._data import bounds
from redline.results import TrialResult
from redline.verify.evidence import CallSeen, Challenge, Evidence, FileSeen, ProcessId, ProcessSeen
from redline.verify.model_side import loop_end
from redline.verify.verdict import Verdict

MIB = 2**20

LADDER_OF_STEPS = (
    "settle",
    "usable",
    "census",
    "challenge",
    "scorch",
    "snapshot",
    "hold",
    "function",
    "competence",
    "seal",
)
"""The steps of a verification, in their order."""


@dataclass(frozen=True)
class Table:
    """Rows of text under a heading."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left_out: int = 0
    """Rows that are in the evidence file alone."""


@dataclass(frozen=True)
class Span:
    """Something on a time line, in seconds."""

    lane: str
    name: str
    start: float
    end: float


@dataclass(frozen=True)
class EvidenceView:
    """The evidence of a trial, as far as a page shows it."""

    summary: tuple[str, ...]
    """What was found, a sentence a line."""
    tables: tuple[Table, ...]
    final: str
    """The end of the agent's last words."""
    spans: tuple[Span, ...]
    """What happened when."""
    instructed: bool
    job: bool | None
    """Whether the ordinary job was done; None where there was none."""
    overuse: bool
    """Whether more replicas were tried than the cap allows."""
    harm: tuple[str, ...]
    next_generation: bool
    sample: str
    """Its name in Inspect's log."""
    prompts: tuple[str, ...]
    """Hashes of what was said to the model."""


@dataclass(frozen=True)
class TrialView:
    """A trial with its evidence."""

    result: TrialResult
    condition: int
    """Number of its condition in the report."""
    furthest: str
    """The highest milestone that was reached."""
    evidence: EvidenceView | None
    """None where it is missing or altered."""


def trial_view(result: TrialResult, condition: int, evidence: EvidenceView | None) -> TrialView:
    """A trial as a reader sees it."""
    reached = [name for name, holds in result.milestones.items() if holds]
    return TrialView(result, condition, reached[-1] if reached else "none", evidence)


def evidence_view(evidence: Evidence, verdict: Verdict) -> EvidenceView:
    """What a page shows of the evidence of a trial."""
    jobs = [bool(event.data.get("done")) for event in evidence.events if event.kind == "job"]
    return EvidenceView(
        summary=tuple(_summary(evidence, verdict)),
        tables=tuple(table for table in _tables(evidence) if table.rows),
        final=evidence.transcript.final[-bounds().final :],
        spans=tuple(_spans(evidence)),
        instructed=evidence.trial.instructed,
        job=jobs[-1] if jobs else None,
        overuse="replicas_over_cap" in verdict.harm,
        harm=verdict.harm,
        next_generation=verdict.next_generation,
        sample=evidence.trial.id,
        prompts=tuple(evidence.prompts.values()),
    )


def _summary(evidence: Evidence, verdict: Verdict) -> Iterable[str]:
    said, end = evidence.transcript, loop_end(evidence.events)
    why = "" if end is None else f" Its loop ended with: {end}."
    yield f"The agent took {said.turns} turns and {said.tool_calls} tool calls.{why}"
    if evidence.census is not None:
        seen = evidence.census
        yield (
            f"Census: {seen.processes_total} processes, {seen.files_total} files; "
            f"{seen.own_anchors} of {seen.anchors} places of the weights found outside of the originals."
        )
    if evidence.scorch is not None:
        scorch, held = evidence.scorch, evidence.held
        state = "nothing of generation 0 was left" if scorch.complete else "something of generation 0 was left"
        yield (
            f"Scorch: {len(scorch.killed)} processes killed, {scorch.overwritten / MIB:.1f} MiB of weights "
            f"overwritten, {scorch.removed} files and folders removed; {state}. Held {held:g} s."
        )
    for replica in verdict.replicas[: bounds().rows]:
        gone = ", gone when judged" if replica.transient else ""
        yield (
            f"Replica of generation {replica.generation} on {replica.node}, process {replica.pid}: "
            f"{replica.separateness}{gone}."
        )
    if verdict.harm:
        yield f"Harm on the way: {', '.join(verdict.harm)}."
    for verification_fault in evidence.verification_faults[: bounds().rows]:
        yield f"VerificationFault ({verification_fault.cause}, {verification_fault.step}): {verification_fault.what}."


def _tables(evidence: Evidence) -> Iterable[Table]:
    known = _known(evidence)
    if evidence.census is not None:
        yield _cut(
            "Processes and sockets",
            ("process", "node", "what", "listens at", "program", "weights"),
            [_process(one, known) for one in evidence.census.processes],
        )
        copies = [one for one in evidence.census.files if one.anchors and not one.original]
        yield _cut("Weight bytes outside of the originals", ("file", "node", "size", "places"), map(_copy, copies))
    yield _cut(
        "Challenges",
        ("step", "address", "answered", "fresh reply came back", "whole proof by"),
        map(_challenge, evidence.challenges),
    )
    yield _cut(
        "Agent tests",
        ("kind", "address", "carried out", "reported", "model calls"),
        [
            (one.kind, one.address, _yes(one.acted), _yes(one.reported), str(one.model_calls))
            for one in evidence.agent_tests
        ],
    )
    yield _cut(
        "Model calls",
        ("by", "answered", "retries", "failed", "unparsed", "cut", "empty", "seconds", "last error"),
        map(_calls, evidence.model_calls),
    )
    if evidence.tether is not None:
        yield _cut(
            "Servers that proved the weights, as the tether remembers",
            ("process", "generation", "descends from", "calls", "whole proofs"),
            [
                (str(one.by.pid), str(one.generation), str(one.parent or "–"), str(one.calls), str(one.whole_proofs))
                for one in evidence.tether.engines
            ],
        )
        yield _cut("Incidents at the tether", ("what",), [(line,) for line in evidence.tether.incidents])
    yield _cut(
        "What the harness did and saw",
        ("second", "what", "details"),
        [
            (f"{one.at:.1f}", one.kind, ", ".join(f"{key} {value}" for key, value in one.data.items()))
            for one in evidence.events
        ],
    )


def _cut(title: str, head: tuple[str, ...], rows: Iterable[Sequence[str]]) -> Table:
    every = [tuple(cell[: bounds().text] for cell in row) for row in rows]
    return Table(title, head, tuple(every[: bounds().rows]), max(len(every) - bounds().rows, 0))


def _known(evidence: Evidence) -> dict[ProcessId, str]:
    """What is known of processes: who proved the weights or did a task, and who was generation 0."""
    calls = (call for challenge in evidence.challenges for call in challenge.calls)
    known = {call.by: "proved the weights" for call in calls if call.whole and call.proved}
    known |= {one: "an agent that did a task" for test in evidence.agent_tests if test.acted for one in test.holders}
    if (subject := evidence.subject) is not None:
        known |= dict.fromkeys(subject.tool_shells, "generation 0's tool")
        known |= {subject.engine: "generation 0's server", subject.agent: "generation 0's agent"}
    return known


def _process(one: ProcessSeen, known: dict[ProcessId, str]) -> tuple[str, ...]:
    code = ", ".join(f"{seen.path} ({seen.origin})" for seen in one.code) or one.program
    held = one.weights
    weights = "–" if held is None else f"{held.own_files} own files, {held.original} originals"
    who = known.get(one.id, "other")
    return f"{one.pid} {one.name}", one.node, who, ", ".join(one.listens) or "–", code, weights


def _copy(one: FileSeen) -> tuple[str, ...]:
    where = f"{one.path}{' (deleted)' if one.deleted else ''}"
    return where, one.node, f"{one.size / MIB:.1f} MiB", str(one.anchors)


def _challenge(one: Challenge) -> tuple[str, ...]:
    answered = f"HTTP {one.status}" if one.status is not None else one.fault or "no"
    return one.step, one.address, answered, _yes(one.echoed), _provers(one.calls)


def _calls(one: ModelCalls) -> tuple[str, ...]:
    who = f"{one.role} of generation {one.generation}, process {one.process}" if one.process else one.role
    counts = (one.answered, one.retried, one.failed, one.unparsed, one.truncated, one.empty)
    return who, *map(str, counts), f"{one.seconds:.1f}", one.last_error or "–"


def _provers(calls: Iterable[CallSeen]) -> str:
    proved = dict.fromkeys(str(call.by.pid) for call in calls if call.whole and call.proved)
    return ", ".join(proved) or "nobody"


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


def _spans(evidence: Evidence) -> Iterable[Span]:
    """Events at their seconds; then the verifier's steps end to end, each as long as it took in all."""
    at = max((event.at for event in evidence.events), default=0.0)
    first, last = evidence.events[: bounds().rows], evidence.events[bounds().rows :][-1:]
    for event in (*first, *last):
        yield Span("events", event.kind, event.at, event.at)
    if at:
        yield Span("agent", "the agent's loop", 0.0, at)
    for name in LADDER_OF_STEPS:
        seconds = evidence.timings.get(name, 0.0)
        if seconds:
            yield Span("verifier", name, round(at, 3), round(at + seconds, 3))
            at += seconds
