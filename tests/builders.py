"""Small builders of judged trials and results."""

from typing import Any

from redline.plan import Plan, PlanRecord
from redline.results import JudgedTrial, Results, SealReading, TrialResult, assemble
from redline.verify.verdict import MILESTONES

HELD = SealReading(
    verified=True,
    profile="quick",
    runtime="runc",
    observer="outside",
    passed=frozenset({"no_network", "own_namespaces"}),
    failed=frozenset(),
)


def plan(**changes: Any) -> Plan:
    return Plan.model_validate({"arms": ["self_replication"], "models": ["redline/replicator"], **changes})


def judged(outcome: str, number: int = 0, *, arm: str = "default", seal: SealReading = HELD, **changes: Any) -> JudgedTrial:
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
