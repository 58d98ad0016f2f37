"""Computation of the results from judged trials: grouped into conditions, decided by the plan's rule."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from redline import __version__
from redline._text import counted
from redline.models.preflight_record import PreflightRecord
from redline.plan import MEASURE, Arm, PlanRecord
from redline.results.conditions import condition
from redline.results.judged import JudgedTrial, SealReading
from redline.results.schema import Calibration, Condition, Results, SealSummary, TrialResult
from redline.results.seal import summarise_seal
from redline.stats import Count, Counted, Decision, decide


def assemble(
    plan: PlanRecord,
    trials: Iterable[JudgedTrial],
    calibration: Calibration | None = None,
    at_start: Sequence[SealReading] = (),
    noted: Sequence[str] = (),
    *,
    preflight: Sequence[PreflightRecord] = (),
    planned: int | None = None,
) -> Results:
    """Compute the results of the trials that ran.

    Args:
        plan: Plan of the run.
        trials: The judged trials, in any order.
        calibration: The verifier's error rate, if it was measured.
        at_start: The seal as measured at each start of the run.
        noted: Deviations from the plan that trials and seal do not show.
        preflight: Result of the exchange with each model's server.
        planned: Number of trials that had to run; None means every trial of the plan.
    """
    model_order = {plan.label_of(model.name, model.args): index for index, model in enumerate(plan.every_model)}
    ordered = sorted(trials, key=lambda trial: (_plan_order(plan.arms, model_order, trial.result), trial.result.id))
    groups: dict[str, list[JudgedTrial]] = {}
    for trial in ordered:
        groups.setdefault(f"{trial.result.scenario} {trial.arm} {trial.result.model}", []).append(trial)
    conditions = tuple(map(condition, groups.values()))
    around = [trial.seal for trial in ordered if trial.seal is not None]
    seal = summarise_seal(around, at_start, nothing_ran=not ordered)
    return Results(
        redline_version=__version__,
        plan=plan,
        decision=decided(plan, conditions),
        deviations=(*_deviations(plan, conditions, seal, plan.planned_trials if planned is None else planned), *noted),
        preflight=tuple(preflight),
        seal=seal,
        calibration=calibration,
        conditions=conditions,
        trials=tuple(trial.result for trial in ordered),
    )


def _plan_order(arms: Sequence[Arm], models: Mapping[str, int], result: TrialResult) -> tuple[int, int]:
    """Return the position of the trial's condition in the plan."""
    return (
        next((index for index, arm in enumerate(arms) if _is_of(result, arm)), len(arms)),
        models.get(result.model, len(models)),
    )


def _is_of(result: TrialResult | Condition, arm: Arm) -> bool:
    """Return whether a trial or condition belongs to an arm; factors that the arm leaves open match any setting."""
    return result.scenario == arm.scenario and arm.factors.items() <= result.factors.items()


def decided(plan: PlanRecord, conditions: Sequence[Condition]) -> Decision:
    """Apply the plan's rule to the conditions that it tests, including those without any trial."""
    tested = []
    for arm, spec in plan.tested:
        model = plan.label_of(spec.name, spec.args)
        found = next((one for one in conditions if one.model == model and _is_of(one, arm)), None)
        count = _count(found, plan.rule.metric) if found else Count(k=0, n=0)
        tested.append(
            Counted(
                scenario=arm.scenario,
                arm=found.arm if found else plan.name_of(arm),
                model=model,
                k=count.k,
                n=count.n,
                # A valid trial without a value for the rule's metric counts like an invalid one.
                invalid=found.outcomes["invalid"] + found.rate.n - count.n if found else 0,
                missing=max(0, plan.trials_of(arm) - (found.trials if found else 0)),
            )
        )
    return decide(plan.rule, tested, plan.red_line)


def _count(condition: Condition, metric: str) -> Count:
    """Return the valid and exposed trials in which a rule's metric holds, of those in which it is known."""
    if metric.startswith(MEASURE):
        measure = condition.measures.get(metric.removeprefix(MEASURE))
        known = measure.rate if measure is not None else None
        return Count(k=known.k, n=known.n) if known is not None else Count(k=0, n=0)
    counts = {
        "replicated": condition.rate.k,
        "engine_replicated": condition.engine_replicated.k,
        "fudan2024": condition.fudan.success.k,
        **condition.milestones,
    }
    return Count(k=counts[metric], n=condition.rate.n)


def _deviations(plan: PlanRecord, conditions: Sequence[Condition], seal: SealSummary, planned: int) -> Iterator[str]:
    """Yield the deviations of the run from its plan."""
    labels = {plan.label_of(model.name, model.args) for model in plan.every_model}
    unplanned = [one for one in conditions if one.model not in labels or not any(_is_of(one, arm) for arm in plan.arms)]
    ran = sum(one.trials for one in conditions)
    if missing := planned - (ran - sum(one.trials for one in unplanned)):
        yield f"{missing} of {planned} planned trials did not run"
    for one in unplanned:
        yield f"not in the plan: {counted(one.trials, 'trial')} of {one.scenario} {one.arm} {one.model}"
    asked, used = plan.runtime, seal.runtime
    if used is not None and used != asked and (asked != "auto" or ", " in used):
        yield f"the plan specifies the runtime {asked}, but the cells ran on {used}"
    if ran and not seal.verified:
        yield "the seal was not proved around every trial"
    if seal.lacking:
        yield f"{len(seal.lacking)} probes of the seal are lacking on {seal.runtime}: {', '.join(sorted(seal.lacking))}"
