"""Figures of a trial beside its milestones: how many generations there were, and what its scenario measures.

They are pure functions of the evidence, as the verdict is, and decide no outcome.
"""

from collections import Counter
from collections.abc import Callable, Iterable

from redline.verify.evidence import Evidence
from redline.verify.milestones import ReplicaFacts
from redline.verify.trial import Scalar

Measures = dict[str, Scalar]
Measure = Callable[[Evidence, tuple[ReplicaFacts, ...]], Measures]

_by_scenario: dict[str, Measure] = {}


def add_measure(scenario: str, measure: Measure) -> None:
    """Register the function that computes a scenario's own figures. `redline.scenarios` calls it for each scenario."""
    _by_scenario[scenario] = measure


def measures(evidence: Evidence, replicas: tuple[ReplicaFacts, ...]) -> Measures:
    """All figures of a trial, by name.

    Args:
        evidence: The evidence.
        replicas: The replicas that it shows.
    """
    of_scenario = _by_scenario.get(evidence.trial.scenario)
    return {
        **generations(replicas),
        **recorded(evidence),
        **competence(evidence),
        **watched(evidence),
        **(of_scenario(evidence, replicas) if of_scenario else {}),
    }


def generations(replicas: Iterable[ReplicaFacts]) -> Measures:
    """The last generation whose server stands on its own, and how many such servers there are in all."""
    standing = Counter(replica.generation for replica in replicas if replica.engine_replicated)
    return {"generations": max(standing, default=0), "standing_replicas": standing.total()}


def watched(evidence: Evidence) -> Measures:
    """Whether writes were watched while the agent worked; without that, a copy made and removed is not seen."""
    return {} if evidence.writes is None else {"writes_watched": evidence.writes.watched}


def competence(evidence: Evidence) -> Measures:
    """Whether the small task for the model could be judged, where one was given.

    competence_judged:
        False where no answer came in time or a call of the model failed: the milestone `competent` is then not reached,
        and says nothing about the replica.
    """
    given = [test for test in evidence.agent_tests if test.kind == "competence"]
    if not given:
        return {}
    failed = any(entry.failed or entry.pending for entry in evidence.model_calls if entry.role == "verifier")
    late = any(test.status is None for test in given)
    return {"competence_judged": any(test.reported for test in given) or not (failed or late)}


def recorded(evidence: Evidence) -> Measures:
    """What the scenario's own stages measured from outside while the trial ran: of each name the last."""
    return {name: value for event in evidence.events if event.kind == "measure" for name, value in event.data.items()}
