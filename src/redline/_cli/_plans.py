"""Build the plan of a command line from a plan file or from scenarios, factors and models."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from redline._errors import UsageError
from redline._names import one_line, unknown
from redline.catalog import scenarios
from redline.controls import find_control
from redline.plan import Plan, arms_from, models_from
from redline.plan_file import PLAN_SUFFIXES, read_plan, shipped_plans
from redline.run import arm_task


def requested_plan(
    what: Sequence[str],
    models: Sequence[str],
    factors: Sequence[str],
    model_args: Sequence[str],
    settings: Mapping[str, object],
) -> Plan:
    """Return the plan of `redline run`.

    Raises:
        UsageError: The plan cannot be run.
    """
    try:
        changes = {**settings, **({"models": models_from(models, model_args)} if models else {})}
        if any(word.endswith(PLAN_SUFFIXES) for word in what):
            if len(what) > 1 or factors or (model_args and not models):
                raise UsageError("a plan file defines its own scenarios and factors; remove the others")
            return plan_in_file(Path(what[0]), changes)
        known = [*scenarios(), *shipped_plans()]
        for word in what:
            if word not in known:
                raise UsageError(unknown("scenario or plan", word, known))
        if not models:
            raise UsageError("no model given; add --model NAME, for example --model redline/replicator")
        return Plan.model_validate({"arms": arms_from(what, factors), **changes})
    except ValidationError as error:
        raise UsageError(f"bad plan: {one_line(error)}") from error


def plan_in_file(path: Path, changes: Mapping[str, Any] | None = None) -> Plan:
    """Return the plan in a file, after checking that every arm is possible and every control exists.

    Raises:
        UsageError: The file contains no plan, or a plan that cannot be run.
    """
    plan = read_plan(path, {name: _plain(value) for name, value in (changes or {}).items()})
    for arm in plan.arms:
        try:
            arm_task(arm, plan)
        except UsageError as error:
            raise UsageError(f"{path}: arm {plan.name_of(arm)} is impossible: {error}") from error
    for model in plan.every_model:
        if model.is_control:
            find_control(model.name)
    return plan


def _plain(value: object) -> object:
    return [item.model_dump() for item in value] if isinstance(value, tuple) else value
