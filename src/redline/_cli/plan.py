"""`redline plan`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from redline._bounds import MAX_TRIALS
from redline._cli import _completion, _options
from redline._cli._help import print_help_without_command
from redline._errors import ExitCode, UsageError
from redline._text import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redline.run.forecast import Cost, FisherForecast, Forecast, RuleForecast, RuleNeed

plan_app = typer.Typer(invoke_without_command=True, help="Check, list and create plans. These commands run no trial.")

MINUTE = 60


@plan_app.callback()
def _without_command(context: typer.Context) -> None:
    print_help_without_command(context)


@plan_app.command(short_help="Check a plan and print its trials, decision thresholds, statistical power and cost.")
def check(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="PLAN.yaml",
            help="Plan file, or the name of a shipped plan.",
            autocompletion=_completion.plan,
        ),
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="Model to use instead of the plan's models; may be repeated.",
            autocompletion=_completion.model,
        ),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, max=MAX_TRIALS, help="Number of trials to use instead of the plan's.")
    ] = None,
    prices: _options.Prices = None,
    like: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Earlier run from which to estimate tokens and time.")
    ] = None,
    cells: _options.Cells = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the forecast as JSON and nothing else.")] = False,
) -> int:
    """Check a plan and print its trials, decision thresholds, statistical power and cost.

    Examples: redline plan check headline.yaml; redline plan check headline.yaml --model openai/gpt-4o --prices p.yaml
    """
    from redline._cli._plans import plan_in_file
    from redline.plan import models_from
    from redline.run.arms import arm_task, shapes_of
    from redline.run.forecast import Earlier, forecast
    from redline.run.models import max_cells, price

    changes = {"models": models_from(model, []) if model else None, "trials": trials}
    plan = plan_in_file(file, {name: value for name, value in changes.items() if value is not None})
    price(plan, prices)
    shapes = shapes_of([arm_task(arm, plan) for arm in plan.arms])
    concurrent = cells or max_cells(_likely_runtime(plan.runtime), shapes)
    found = forecast(plan, concurrent, Earlier.of(like) if like else None)
    if as_json:
        print(found.model_dump_json(indent=1))
    else:
        _print(file, found)
    return ExitCode.OK


@plan_app.command(name="list")
def list_plans(
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON and nothing else.")] = False,
) -> int:
    """List the plans that ship with redline."""
    import json

    from redline.plan_file import shipped_plans
    from redline.report.console import print_styled, stdout_console, wrapped

    plans = shipped_plans()
    if as_json:
        print(json.dumps({name: {"summary": summary} for name, summary in plans.items()}, indent=1))
        return ExitCode.OK
    console = stdout_console()
    column = max(map(len, plans))
    for name, summary in plans.items():
        print_styled(console, wrapped(summary, console.width, f"{name:<{column}}  "), name, "cyan")
    return ExitCode.OK


@plan_app.command(short_help="Copy a shipped plan, including its comments, to a file that you can edit.")
def new(
    file: Annotated[Path, typer.Argument(metavar="PLAN.yaml", help="File to create; it must not exist.")],
    source: Annotated[
        str,
        typer.Option(
            "--from", metavar="SHIPPED", help="Shipped plan to copy.", autocompletion=_completion.shipped_plan
        ),
    ] = "smoke.yaml",
) -> int:
    """Copy a shipped plan, including its comments, to a file that you can edit."""
    from redline._names import unknown
    from redline.plan import SHIPPED
    from redline.plan_file import shipped_plans

    if source not in shipped_plans():
        raise UsageError(unknown("shipped plan", source, shipped_plans()))
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(SHIPPED.joinpath(source).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}") from error
    print(f"Created {file}. Edit it, then run: redline plan check {file}")
    return ExitCode.OK


def _likely_runtime(name: str) -> str:
    """Return the runtime that a run on this host would use; without an installed one, the recommended one."""
    from redline.cell.open import RECOMMENDED, choose_runtime

    try:
        return choose_runtime(name).name
    except UsageError:
        return RECOMMENDED


def _print(file: Path, found: "Forecast") -> None:
    from redline._text import LONGEST_LINE, clean_line
    from redline.report.console import print_lines, print_list, stdout_console, wrapped
    from redline.report.words import capital

    console = stdout_console()
    print_lines(console, wrapped(f"Trials of {clean_line(file)}", console.width))
    for row in found.conditions:
        factors = " ".join(f"{name}={value}" for name, value in row.factors.items()) or "default factors"
        tested = ", tested by the rule" if row.tested else ""
        name = "" if row.name == row.scenario else f"{row.name}: "
        text = f"{name}{row.scenario}, {row.model}, {factors}{tested}"
        print_lines(
            console, wrapped(clean_line(text, LONGEST_LINE), console.width, f"  {counted(row.trials, 'trial'):>11}  ")
        )
    print_lines(console, "")
    print_list(console, [capital(clean_line(line, LONGEST_LINE)) for line in _lines(found)])


def _lines(found: "Forecast") -> "Iterator[str]":
    yield f"{counted(found.trials, 'trial')} in total"
    yield f"red line: {found.red_line or 'not stated in the plan'}"
    yield f"rule{' (redline’s default, since the plan states none)' if found.rule_is_default else ''}: {found.rule}"
    tested = sum(row.tested for row in found.conditions)
    if tested > 1:
        yield f"{tested} conditions are tested independently; the chance of a wrong verdict grows with their number"
    yield from map(_verdict_line, found.verdicts)
    yield from map(_need_line, found.rule_needs)
    if found.comparison is None:
        yield "power: unknown, since the plan states no smallest_effect"
    else:
        yield from _comparison_lines(found.comparison)
    yield from _cost_lines(found.cost)
    if found.wall_time is None:
        yield "wall time: unknown; estimate it from an earlier run with --like DIR"
    else:
        time = found.wall_time
        yield (
            f"wall time: about {time.seconds / MINUTE:.1f} min at the pace of that run: a trial took "
            f"{time.seconds_per_trial:.0f} s, and {time.at_once:.1f} ran concurrently on average ({time.cells} cells "
            "in this run)"
        )
    yield f"plan: {found.sha256}"


def _verdict_line(row: "RuleForecast") -> str:
    low = "nothing is not crossed" if row.not_crossed_up_to is None else f"not crossed up to {row.not_crossed_up_to}"
    high = "nothing is crossed" if row.crossed_from is None else f"crossed from {row.crossed_from}"
    chances = "".join(
        f"; true rate {100 * float(rate):g}%: "
        + ", ".join(f"{verdict.replace('_', ' ')} {100 * chance:.1f}%" for verdict, chance in of_rate.items())
        for rate, of_rate in row.chances.items()
    )
    return f"of {row.trials} valid trials: {low}, {high}{chances}"


def _need_line(need: "RuleNeed") -> str:
    verdict = need.verdict.replace("_", " ")
    return f"for the verdict '{verdict}' at a true rate of {100 * need.rate:g}%, the rule needs {_needed(need.trials)}"


def _needed(trials: int | None) -> str:
    from redline.stats.power import MAX_TRIALS

    return f"more than {MAX_TRIALS} trials" if trials is None else counted(trials, "trial")


def _comparison_lines(found: "FisherForecast") -> "Iterator[str]":
    effect = found.effect
    yield (
        f"to distinguish {100 * effect.alternative:g}% from {100 * effect.baseline:g}% "
        f"with {100 * effect.power:g}% power (Fisher's exact test, two-sided, alpha {effect.alpha:g}): "
        f"{_needed(found.trials_needed)} per arm"
    )
    for n, power in found.power.items():
        yield f"with the planned {n} per arm: power {100 * power:.1f}%"


def _cost_lines(cost: "Cost") -> "Iterator[str]":
    if not cost.trials:
        yield "cost: none, controls are free"
        return
    for model, trials in cost.trials.items():
        dollars = cost.dollars[model]
        price = "price unknown; add --prices FILE" if dollars is None else f"about ${dollars:.2f}"
        yield f"cost of {model}: {price} ({trials} trials)"
    yield f"tokens per trial: {cost.input_tokens} in, {cost.output_tokens} out ({cost.tokens_from})"
    yield "at most: unlimited; set max_cost" if cost.at_most is None else f"at most: ${cost.at_most:.2f}"
