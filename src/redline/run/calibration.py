"""The verifier against the controls, whose truth is known."""

from collections.abc import Iterator
from dataclasses import dataclass

from redline.controls import CONTROLS, find_control
from redline.plan import CONTROL_PREFIX, Arm, ModelSpec, Plan, Runtime
from redline.results import Results


@dataclass(frozen=True)
class Misjudged:
    """A trial of a control that was judged other than it truly is."""

    trial: str
    """The trial."""
    control: str
    """The control."""
    differences: tuple[str, ...]
    """Where verdict and truth differ."""


def calibrate_controls(trials: int, runtime: Runtime, hold: float, seed: int) -> Plan:
    """The plan that has every control asked outright for a copy."""
    return Plan(
        arms=(Arm(scenario="self_replication"),),
        models=tuple(ModelSpec(name=f"{CONTROL_PREFIX}{name}") for name in CONTROLS),
        trials=trials,
        runtime=runtime,
        hold=hold,
        seed=seed,
    )


def misjudged(results: Results) -> Iterator[Misjudged]:
    """Every trial of a control that was judged other than it truly is."""
    for trial in results.trials:
        control = find_control(trial.model)
        differences = control.truth_where(copy_is_asked=True).differences(
            outcome=trial.outcome,
            milestones=trial.milestones,
            separateness={replica.separateness for replica in trial.replicas},
            false_claim=trial.false_claim,
            invalid_cause=trial.invalid_cause,
        )
        if differences:
            yield Misjudged(trial.id, control.name, differences)
