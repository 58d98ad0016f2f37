"""The view of one trial in a report: its verdict, and its evidence in tables of bounded size."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from redline.models.ledger import ModelCalls
from redline.report._data import bounds
from redline.results import TrialResult
from redline.verify.evidence import CallSeen, Challenge, Evidence, FileSeen, ProcessId, ProcessSeen
from redline.verify.model_side import loop_end
from redline.verify.verdict import Verdict

MIB = 2**20

STEPS = (
    "settle",
    "usable",
    "census",
    "challenge",
    "scorch",
    "snapshot",
    "hold",
    "function",
    "competence",
    "restart",
    "seal",
)
"""The steps of a verification, in order."""


@dataclass(frozen=True)
class Table:
    """A table of text."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left_out: int = 0
    """Number of rows that are only in the evidence file."""


@dataclass(frozen=True)
class Span:
    """An interval or a moment on a timeline, in seconds."""

    lane: str
    name: str
    start: float
    end: float


@dataclass(frozen=True)
class EvidenceView:
    """The part of a trial's evidence that the page shows."""

    summary: tuple[str, ...]
    """The findings, one sentence per line."""
    tables: tuple[Table, ...]
    final: str
    """The end of the agent's last message."""
    spans: tuple[Span, ...]
    """The timeline."""
    instructed: bool
    job: bool | None
    """Whether the ordinary job was done; None if there was none."""
    overuse: bool
    """Whether the agent attempted more replicas than the cap allows."""
    harm: tuple[str, ...]
    next_generation: bool
    sample: str
    """Name of the sample in Inspect's log."""
    prompts: tuple[str, ...]
    """Hashes of the texts that the model received."""


@dataclass(frozen=True)
class TrialView:
    """A trial with its evidence."""

    result: TrialResult
    condition: int
    """Number of its condition in the report."""
    highest_milestone: str
    """The highest milestone reached."""
    evidence: EvidenceView | None
    """The evidence; None if it is missing or altered."""


def trial_view(result: TrialResult, condition: int, evidence: EvidenceView | None) -> TrialView:
    """Return the view of a trial."""
    reached = [name for name, holds in result.milestones.items() if holds]
    return TrialView(result, condition, reached[-1] if reached else "none", evidence)


def evidence_view(evidence: Evidence, verdict: Verdict, *, brief: bool = False) -> EvidenceView:
    """Return the part of a trial's evidence that the page shows.

    Args:
        evidence: The evidence.
        verdict: The verdict on it.
        brief: Whether only what counts in totals is needed, because the page does not show the trial itself.
    """
    jobs = [bool(event.data.get("done")) for event in evidence.events if event.kind == "job"]
    return EvidenceView(
        summary=() if brief else tuple(_summary(evidence, verdict)),
        tables=() if brief else tuple(table for table in _tables(evidence) if table.rows),
        final="" if brief else evidence.transcript.final[-bounds().final :],
        spans=() if brief else tuple(_spans(evidence)),
        instructed=evidence.trial.instructed,
        job=jobs[-1] if jobs else None,
        overuse="replicas_over_cap" in verdict.harm,
        harm=verdict.harm,
        next_generation=verdict.next_generation,
        sample=evidence.trial.id,
        prompts=tuple(evidence.prompts.values()),
    )


def _summary(evidence: Evidence, verdict: Verdict) -> Iterable[str]:
    transcript, end = evidence.transcript, loop_end(evidence.events)
    why = "" if end is None else f" Its loop ended with: {end}."
    yield f"The agent used {transcript.turns} turns and {transcript.tool_calls} tool calls.{why}"
    if evidence.census is not None:
        seen = evidence.census
        yield (
            f"Census: {seen.processes_total} processes, {seen.files_total} files; "
            f"{seen.own_anchors} of {seen.anchors} sample points of the weights found outside the original files."
        )
    if evidence.scorch is not None:
        scorch, held = evidence.scorch, evidence.held
        state = "nothing of generation 0 remained" if scorch.complete else "part of generation 0 remained"
        yield (
            f"Scorch: {len(scorch.killed)} processes killed, {scorch.overwritten / MIB:.1f} MiB of weights "
            f"overwritten, {scorch.removed} files and folders removed; {state}. Held {held:g} s."
        )
    for replica in verdict.replicas[: bounds().rows]:
        ended = ", ended before the verdict" if replica.transient else ""
        yield (
            f"Replica of generation {replica.generation} on {replica.node}, process {replica.pid}: "
            f"{replica.separateness}{ended}."
        )
    if verdict.harm:
        yield f"Harm: {', '.join(verdict.harm)}."
    for verification_fault in evidence.verification_faults[: bounds().rows]:
        yield f"Verification fault ({verification_fault.cause}, {verification_fault.step}): {verification_fault.what}."


def _tables(evidence: Evidence) -> Iterable[Table]:
    roles = _process_roles(evidence)
    if evidence.census is not None:
        yield _table(
            "Processes and sockets",
            ("process", "node", "role", "listens on", "program", "weights"),
            [_process(one, roles) for one in evidence.census.processes],
        )
        copies = [one for one in evidence.census.files if one.anchors and not one.original]
        yield _table(
            "Weight bytes outside the original files", ("file", "node", "size", "sample points"), map(_copy, copies)
        )
    yield _table(
        "Challenges",
        ("step", "address", "answered", "fresh reply returned", "complete proof by"),
        map(_challenge, evidence.challenges),
    )
    yield _table(
        "Agent tests",
        ("kind", "address", "executed", "reported", "model calls"),
        [
            (one.kind, one.address, _yes(one.acted), _yes(one.reported), str(one.model_calls))
            for one in evidence.agent_tests
        ],
    )
    yield _table(
        "Model calls",
        ("caller", "answered", "retries", "failed", "unparsed", "truncated", "empty", "seconds", "last error"),
        map(_calls, evidence.model_calls),
    )
    if evidence.tether is not None:
        yield _table(
            "Servers that proved the weights, as recorded by the tether",
            ("process", "generation", "parent", "calls", "complete proofs"),
            [
                (str(one.by.pid), str(one.generation), str(one.parent or "–"), str(one.calls), str(one.whole_proofs))
                for one in evidence.tether.engines
            ],
        )
        yield _table("Incidents at the tether", ("incident",), [(line,) for line in evidence.tether.incidents])
    yield _table(
        "Events recorded by the harness",
        ("second", "event", "details"),
        [
            (f"{one.at:.1f}", one.kind, ", ".join(f"{key} {value}" for key, value in one.data.items()))
            for one in evidence.events
        ],
    )


def _table(title: str, head: tuple[str, ...], rows: Iterable[Sequence[str]]) -> Table:
    every = [tuple(cell[: bounds().text] for cell in row) for row in rows]
    return Table(title, head, tuple(every[: bounds().rows]), max(len(every) - bounds().rows, 0))


def _process_roles(evidence: Evidence) -> dict[ProcessId, str]:
    """Return the roles of processes: proved the weights, completed a task, or part of generation 0."""
    calls = (call for challenge in evidence.challenges for call in challenge.calls)
    roles = {call.by: "proved the weights" for call in calls if call.whole and call.proved}
    roles |= {one: "agent that completed a task" for test in evidence.agent_tests if test.acted for one in test.holders}
    if (subject := evidence.subject) is not None:
        roles |= dict.fromkeys(subject.tool_shells, "generation 0's tool")
        roles |= {subject.engine: "generation 0's server", subject.agent: "generation 0's agent"}
    return roles


def _process(one: ProcessSeen, roles: dict[ProcessId, str]) -> tuple[str, ...]:
    code = ", ".join(f"{seen.path} ({seen.origin})" for seen in one.code) or one.program
    held = one.weights
    weights = "–" if held is None else f"{held.own_files} own files, {held.original} original files"
    role = roles.get(one.id, "other")
    return f"{one.pid} {one.name}", one.node, role, ", ".join(one.listens) or "–", code, weights


def _copy(one: FileSeen) -> tuple[str, ...]:
    where = f"{one.path}{' (deleted)' if one.deleted else ''}"
    return where, one.node, f"{one.size / MIB:.1f} MiB", str(one.anchors)


def _challenge(one: Challenge) -> tuple[str, ...]:
    answered = f"HTTP {one.status}" if one.status is not None else one.fault or "no"
    return one.step, one.address, answered, _yes(one.echoed), _provers(one.calls)


def _calls(one: ModelCalls) -> tuple[str, ...]:
    caller = f"{one.role} of generation {one.generation}, process {one.process}" if one.process else one.role
    counts = (one.answered, one.retried, one.failed, one.unparsed, one.truncated, one.empty)
    return caller, *map(str, counts), f"{one.seconds:.1f}", one.last_error or "–"


def _provers(calls: Iterable[CallSeen]) -> str:
    proved = dict.fromkeys(str(call.by.pid) for call in calls if call.whole and call.proved)
    return ", ".join(proved) or "none"


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


def _spans(evidence: Evidence) -> Iterable[Span]:
    """Yield the events at their times, then the verifier's steps in sequence with their total durations."""
    at = max((event.at for event in evidence.events), default=0.0)
    first, last = evidence.events[: bounds().rows], evidence.events[bounds().rows :][-1:]
    for event in (*first, *last):
        yield Span("events", event.kind, event.at, event.at)
    if at:
        yield Span("agent", "the agent's loop", 0.0, at)
    for name in STEPS:
        seconds = evidence.timings.get(name, 0.0)
        if seconds:
            yield Span("verifier", name, round(at, 3), round(at + seconds, 3))
            at += seconds
