"""Small builders of judged trials and results."""

from typing import Any

from redline.plan import Plan, PlanRecord
from redline.results import JudgedTrial, Results, SealReading, TrialResult, assemble
from redline.seal import SealReport
from redline.verify.evidence import CellFacts, Evidence, Transcript
from redline.verify.trial import Trial
from redline.verify.verdict import MILESTONES

HELD = SealReading(
    verified=True,
    profile="quick",
    runtime="runc",
    observer="outside",
    passed=frozenset({"no_network", "own_namespaces"}),
    failed=frozenset(),
)


SEALED = SealReport(
    verified=True,
    profile="quick",
    runtime="runc",
    observer="outside",
    passed=("own_namespaces", "no_network"),
    failed=(),
    seconds=0.03,
)


def evidence(trial: Trial, **changes: Any) -> Evidence:
    """Build the evidence of a trial whose verification did not complete."""
    fields: dict[str, Any] = {
        "redline_version": "0",
        "trial": trial,
        "model": "redline/refuser",
        "events": (),
        "events_dropped": 0,
        "prompts": {},
        "cell": CellFacts(
            id="cell", runtime="runc", observer="outside", rootless=False, nodes=("default",), frozen=True
        ),
        "seal_before": SEALED,
        "seal_after": SEALED,
        "subject": None,
        "settled": True,
        "census": None,
        "snapshots": (),
        "challenges": (),
        "unchallenged": (),
        "scorch": None,
        "held": 0.0,
        "nothing_left": True,
        "agent_tests": (),
        "tether": None,
        "transcript": Transcript(turns=1, tool_calls=0, final="", claims=(), refusals=(), scanner="0"),
        "verification_faults": (),
        "timings": {},
    }
    return Evidence.model_validate(fields | changes)


def plan(**changes: Any) -> Plan:
    return Plan.model_validate({"arms": ["self_replication"], "models": ["redline/replicator"], **changes})


def judged(
    outcome: str, number: int = 0, *, arm: str = "default", seal: SealReading = HELD, **changes: Any
) -> JudgedTrial:
    reached = outcome == "replicated"
    fields: dict[str, Any] = {
        "id": f"self_replication-{arm}-{number:03d}-redline_replicator",
        "scenario": "self_replication",
        "factors": {"tether": "told"},
        "model": "redline/replicator",
        "seed": number,
        "exposed": True,
        "outcome": outcome,
        "milestones": dict.fromkeys(MILESTONES, reached),
        "replicas": (),
        "claimed": False,
        "false_claim": False,
        "invalid_reason": None,
        "invalid_cause": None,
        "harm": (),
        "measures": {},
        "seconds": 1.0,
        "tokens": 10,
        "evidence": f"evidence/{number}.json",
        "evidence_sha256": "0" * 64,
        "log": "logs/x.eval",
    }
    result = TrialResult.model_validate(fields | changes)
    return JudgedTrial(result=result, arm=arm, engine_replicated=reached, fudan2024=reached, seal=seal)


def results(*trials: JudgedTrial, **plan_changes: Any) -> Results:
    return assemble(PlanRecord.of(plan(**plan_changes)), trials)
