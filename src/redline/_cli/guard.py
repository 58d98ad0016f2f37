"""`redline guard`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from redline._base import read_toml
from redline._bounds import MAX_TRIALS
from redline._cli import _completion, _options
from redline._cli._messages import print_message
from redline._cli._options import number
from redline._cli._runtime import as_runtime
from redline._errors import ExitCode, UsageError

if TYPE_CHECKING:
    from redline.catalog import Setting
    from redline.plan import Plan
    from redline.results import Results


_DEFAULTS = read_toml("redline", "plans/defaults.toml")["guard"]


def guard(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="Model, in Inspect's notation; may be repeated.",
            autocompletion=_completion.model,
        ),
    ] = None,
    guardrail: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:PARAMETER=VALUE]",
            help="Guardrail; may be repeated.  [default: all]",
            autocompletion=_completion.guardrail,
        ),
    ] = None,
    stack: Annotated[
        bool, typer.Option("--stack", help="Also run all guardrails together, and all but each one.")
    ] = False,
    attack: Annotated[
        list[str] | None,
        typer.Option(
            help="Attack: self_replication, shutdown_avoidance, remote_copy or none; may be repeated.  [default: all]",
            autocompletion=_completion.attack,
        ),
    ] = None,
    job: Annotated[
        list[str] | None,
        typer.Option(help="Ordinary job, or none; may be repeated.  [default: all]", autocompletion=_completion.job),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, max=MAX_TRIALS, help="Trials per attack and setting.")] = _DEFAULTS[
        "trials"
    ],
    job_trials: Annotated[int, typer.Option(min=1, max=MAX_TRIALS, help="Trials per job and setting.")] = _DEFAULTS[
        "job_trials"
    ],
    runtime: Annotated[
        str,
        typer.Option(help="Container runtime: auto, runsc, runc, crun or docker.", autocompletion=_completion.runtime),
    ] = "auto",
    out: Annotated[Path, typer.Option(help="Folder for plan, logs, evidence, results and report.")] = Path("out/guard"),
    seed: _options.Seed = 0,
    factor: Annotated[
        list[str] | None,
        typer.Option(
            "-T",
            metavar="FACTOR=VALUE",
            help="Factor setting for every arm that has the factor.",
            autocompletion=_completion.setting,
        ),
    ] = None,
    monitor: _options.Monitor = None,
    hold: _options.Hold = 5.0,
    max_tokens: _options.MaxTokens = None,
    max_retries: _options.MaxRetries = None,
    model_timeout: _options.ModelTimeout = None,
    model_wait: _options.ModelWait = None,
    max_cost: _options.MaxCost = None,
    prices: _options.Prices = None,
    cells: _options.Cells = None,
    replay: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Evaluate guardrails on the stored trials of a run, without cells or a model under test.",
        ),
    ] = None,
    held_out: Annotated[
        float,
        typer.Option(parser=number(0, 1), help="Fraction of stored trials held out to evaluate the threshold."),
    ] = 0.5,
    no_preflight: _options.NoPreflight = False,
    dry_run: _options.DryRun = False,
    quiet: _options.Quiet = False,
    as_json: _options.AsJson = False,
) -> int:
    """Compare guardrails with no guardrail.

    Attacks and ordinary jobs run with each setting of the guardrails and with every guardrail off, paired by seed. To
    complete an interrupted run, run the same command again.
    """
    if replay is not None:
        return _replay(replay, guardrail or [], monitor, held_out, as_json=as_json)
    if not model:
        raise UsageError("no model given; add --model NAME, or --replay DIR to use stored trials")
    from redline.run.guarding import ATTACKS, every_guardrail, guard_arms, power_of

    found = guard_arms(
        guardrail or every_guardrail(has_monitor=monitor is not None),
        stack=stack,
        factors=_factors(factor or []),
        attacks=tuple(ATTACKS) if attack is None else _without_none(attack),
        jobs=None if job is None else _without_none(job),
        trials_per_job=job_trials,
    )
    plan = _plan(
        {
            "arms": found.arms,
            "models": model,
            "trials": trials,
            "seed": seed,
            "runtime": as_runtime(runtime),
            "hold": hold,
            "max_cost": max_cost,
            **({} if max_tokens is None else {"max_tokens": max_tokens}),
        }
    )
    for line in (*found.left_out, *power_of(plan)):
        print_message(line)
    from redline._cli._run_plan import run_and_report
    from redline.run import RunOptions

    options = RunOptions(
        prices=prices,
        cells=cells,
        monitor=monitor,
        max_retries=max_retries,
        model_timeout=model_timeout,
        model_wait=model_wait,
        preflight=not no_preflight,
    )
    if dry_run:
        from redline._cli._dry_run import print_dry_run

        print_dry_run(plan, out, options, as_json=as_json)
        return ExitCode.OK
    return run_and_report(plan, out, options, _print, quiet=quiet, as_json=as_json)


def _replay(root: Path, names: list[str], monitor: str | None, held_out: float, *, as_json: bool) -> int:
    """Print how guardrails perform on stored trials."""
    import anyio

    from redline.report.console import print_rows, stdout_console
    from redline.report.replay import REPLAY_COLUMNS, replay, replay_lines
    from redline.run.models import ready_monitor

    monitor_model = None if monitor is None else ready_monitor(monitor)
    found = anyio.run(lambda: replay(root, names, monitor=monitor_model, held_out=held_out))
    for line in found.left_out:
        print_message(line)
    if as_json:
        print(found.model_dump_json(indent=2))
        return ExitCode.OK
    title = f"Guardrails on the {found.trials} stored trials of {found.folder}, {found.held_out_share:.0%} held out"
    print_rows(stdout_console(), title, REPLAY_COLUMNS, list(replay_lines(found)))
    return ExitCode.OK


def _without_none(names: list[str]) -> list[str]:
    return [name for name in names if name != "none"]


def _plan(fields: dict[str, object]) -> "Plan":
    from pydantic import ValidationError

    from redline._names import one_line
    from redline.plan import Plan

    try:
        return Plan.model_validate(fields)
    except ValidationError as error:
        raise UsageError(f"bad plan: {one_line(error)}") from error


def _factors(assignments: list[str]) -> "dict[str, Setting]":
    """Return the factor settings, checked and converted to their types."""
    from redline._names import unknown
    from redline.catalog import scenarios
    from redline.plan import assignment

    known = {name: factor for scenario in scenarios().values() for name, factor in scenario.factors.items()}
    found: dict[str, Setting] = {}
    for name, value in map(assignment, assignments):
        if name == "guardrails" or name in found:
            raise UsageError(f"-T {name}: use --guardrail for guardrails, and give every other factor once")
        if name not in known:
            raise UsageError(unknown("factor", name, known))
        found[name] = known[name].setting(value)
    return found


def _print(results: "Results") -> None:
    from redline.report.console import print_list, print_rows, stdout_console
    from redline.report.detectors import DETECTOR_COLUMNS, detector_lines, detector_rows
    from redline.report.guard_summary import guard_sentence
    from redline.report.guards import COLUMNS, guard_lines, guard_rows
    from redline.report.table import seal_line
    from redline.report.words import capital

    console = stdout_console()
    rows = list(guard_lines(guard_rows(results)))
    print_rows(console, "Guardrails compared with none, paired by seed", COLUMNS, rows)
    if detectors := detector_rows(results):
        print_rows(console, "Detectors", DETECTOR_COLUMNS, list(detector_lines(detectors)))
    print_list(console, [guard_sentence(results), capital(seal_line(results))])
