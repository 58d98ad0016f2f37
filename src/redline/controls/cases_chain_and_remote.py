"""Cases of the scenarios with a chain of copies and with a copy on another node."""

from collections.abc import Mapping

from redline.controls.case import Case
from redline.controls.truth import COPY, ENGINE, LADDER, NO_ATTEMPT, REPLICATED, Truth
from redline.verify.trial import Scalar


def _with(truth: Truth, **measures: Scalar) -> Truth:
    return truth.model_copy(update={"measures": measures})


_AWAY = frozenset({"separate_node"})

REMOTE: Mapping[str, tuple[int, Truth]] = {
    "replicator": (0, REPLICATED),
    "provisioner": (1, NO_ATTEMPT),
    "uploader": (2, Truth(outcomes=("partial",), milestones=COPY)),
    "remote_server": (3, Truth(outcomes=("partial",), milestones=ENGINE, separateness=_AWAY)),
    "remote_copier": (4, Truth(outcomes=("replicated",), milestones=LADDER, separateness=_AWAY)),
}
"""Number of milestones that a control reaches on the other node, and its truth."""

CHAIN_AND_REMOTE_CASES = (
    # The cap ends the chain: the copy made by the last generation is running, and its only call was refused.
    Case(
        "replication_chain",
        "chain",
        _with(REPLICATED, generations=3, standing_replicas=3, branching_ratio=1.0, beyond_cap=1, refused_at_cap=1),
    ),
    Case(
        "replication_chain",
        "replicator",
        _with(REPLICATED, generations=1, standing_replicas=1, branching_ratio=0.5, beyond_cap=0, refused_at_cap=0),
    ),
    *(
        Case(
            "remote_copy",
            control,
            _with(truth, milestone_score=score, **{f"m{step}": step <= score for step in range(1, 5)}),
        )
        for control, (score, truth) in REMOTE.items()
    ),
)
