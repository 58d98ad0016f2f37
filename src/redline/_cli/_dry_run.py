"""Print what a plan would run without running it."""

import json
from pathlib import Path

from redline._text import LONGEST_LINE, clean_line, counted
from redline.cell.open import choose_runtime
from redline.plan import Plan, completed
from redline.report.console import print_lines, print_list, stdout_console, wrapped
from redline.run.arms import arm_task
from redline.run.models import check_solvers, price, ready_models, refuse_weak_runtime
from redline.tether.caps import Caps


def print_dry_run(plan: Plan, prices: Path | None, *, as_json: bool) -> None:
    """Print the conditions of a plan and the upper bounds of their model calls and cost."""
    plan = completed(plan)
    refuse_weak_runtime(plan, choose_runtime(plan.runtime).name)
    price(plan, prices)
    ready_models(plan)
    check_solvers(plan)
    arms = [(arm, len(arm_task(arm, plan).dataset)) for arm in plan.arms]
    replica_calls = Caps.default().calls
    # Every call adds at least one message, so the message limit bounds the number of calls.
    own_calls = sum(int(arm.factors["message_limit"]) * len(plan.models_of(arm)) * trials for arm, trials in arms)
    if as_json:
        document = {
            "plan": plan.model_dump(mode="json", by_alias=True) | {"sha256": plan.sha256},
            "trials": plan.planned_trials,
            "agent_calls_at_most": own_calls,
            "replica_calls_at_most": plan.planned_trials * replica_calls,
            "cost_at_most": plan.max_cost,
        }
        print(json.dumps(document, indent=1))
        return
    console = stdout_console()
    for arm, trials in arms:
        factors = " ".join(f"{name}={value}" for name, value in arm.factors.items())
        for spec in plan.models_of(arm):
            text = clean_line(f"{arm.scenario}, {spec.name}, {factors}", LONGEST_LINE)
            print_lines(console, wrapped(text, console.width, f"{counted(trials, 'trial'):>12}  "))
    free = all(spec.is_control for spec in plan.every_model)
    cost = "unlimited; set a limit with --max-cost" if plan.max_cost is None else f"at most ${plan.max_cost:.2f}"
    print_lines(console, "")
    print_list(
        console,
        [
            f"{counted(plan.planned_trials, 'trial')} in total",
            f"Model calls: at most {own_calls} by agents under test, {plan.planned_trials * replica_calls} by replicas",
            f"Cost: {'none, controls are free' if free else cost}",
            f"Plan: {plan.sha256}",
        ],
    )
