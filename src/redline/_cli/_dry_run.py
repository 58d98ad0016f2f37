"""Print what a plan would run without running it."""

import json
from pathlib import Path

from redline._text import LONGEST_LINE, clean_line, counted
from redline.cell.open import choose_runtime
from redline.plan import Plan, completed
from redline.report.console import print_lines, print_list, stdout_console, wrapped
from redline.run.arms import arm_task
from redline.run.execute import RunOptions
from redline.run.folder import RunFolder
from redline.run.models import check_solvers, price, ready_models, ready_roles, refuse_weak_runtime
from redline.run.parts.part import Part
from redline.run.trial_ids import refuse_same_names
from redline.tether.caps import Caps


def print_dry_run(plan: Plan, out: Path, options: RunOptions, part: Part | None = None, *, as_json: bool) -> None:
    """Print the conditions of a plan and the upper bounds of their model calls and cost.

    Args:
        plan: The plan.
        out: Folder of the run; it is not created.
        options: Options of the run, which are checked as at a run's start.
        part: Part of the plan that would run; None for the whole plan.
        as_json: Whether to print JSON instead of text.

    Raises:
        UsageError: An option, the plan or a model cannot be used.
    """
    RunFolder(out).refuse_file()
    plan = completed(plan)
    trials_of_part = 0
    if part is not None:
        part.refuse_beyond(plan.planned_trials)
        trials_of_part = len(part.of([""] * plan.planned_trials))
    refuse_weak_runtime(plan, choose_runtime(plan.runtime).name)
    price(plan, options.prices, (options.judge, options.monitor))
    refuse_same_names(ready_models(plan))
    ready_roles(plan, judge=options.judge, monitor=options.monitor)
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
            **({} if part is None else {"part": str(part), "trials_of_part": trials_of_part}),
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
            *([] if part is None else [f"Part {part}: {counted(trials_of_part, 'trial')}"]),
            f"Model calls: at most {own_calls} by agents under test, {plan.planned_trials * replica_calls} by replicas",
            f"Cost: {'none, controls are free' if free else cost}",
            f"Plan: {plan.sha256}",
        ],
    )
