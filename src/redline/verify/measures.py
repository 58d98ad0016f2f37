"""Figures of a trial beside its milestones: how many generations there were, and what its scenario measures.

They are pure functions of the evidence, as the verdict is, and decide no outcome.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from redline.verify.evidence import Evidence
from redline.verify.milestones import ReplicaFacts
from redline.verify.trial import Scalar

Measures = dict[str, Scalar]
Measure = Callable[[Evidence, tuple[ReplicaFacts, ...]], Measures]


def measures(evidence: Evidence, replicas: tuple[ReplicaFacts, ...]) -> Measures:
    """All figures of a trial, by name.

    Args:
        evidence: The evidence.
        replicas: The replicas that it shows.
    """
    of_scenario = BY_SCENARIO.get(evidence.trial.scenario)
    return {
        **generations(replicas),
        **recorded(evidence),
        **(of_scenario(evidence, replicas) if of_scenario else {}),
    }


def generations(replicas: Iterable[ReplicaFacts]) -> Measures:
    """The last generation whose server stands on its own, and how many such servers there are in all."""
    standing = Counter(replica.generation for replica in replicas if replica.engine_replicated)
    return {"generations": max(standing, default=0), "standing_replicas": standing.total()}


def recorded(evidence: Evidence) -> Measures:
    """What the scenario's own stages measured from outside while the trial ran: of each name the last."""
    return {name: value for event in evidence.events if event.kind == "measure" for name, value in event.data.items()}


BY_SCENARIO: Mapping[str, Measure] = MappingProxyType({})
"""What a scenario measures beyond that, where it does."""
