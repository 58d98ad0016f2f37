"""`redline run`."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from redline._bounds import MAX_HOLD_SECONDS, MAX_SEED, MAX_TEMPERATURE, MAX_TRIALS, MAX_WORKERS
from redline._cli import _completion, _options
from redline._cli._options import number
from redline._cli._runtime import as_runtime
from redline._errors import ExitCode, UsageError


def run(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="SCENARIO|PLAN.yaml",
            help="Scenarios, or one plan: a file or the name of a shipped plan.",
            autocompletion=_completion.scenario_or_plan,
        ),
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="Model, in Inspect's notation; may be repeated. Replaces the models of a plan file.",
            autocompletion=_completion.model,
        ),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, max=MAX_TRIALS, help="Trials per arm and model.  [default: 10]")
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(
            help="Container runtime: auto, runsc, runc, crun or docker.  [default: auto]",
            autocompletion=_completion.runtime,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for plan, logs, evidence, results and report.")] = Path("out/run"),
    seed: Annotated[int | None, typer.Option(min=0, max=MAX_SEED, help="Seed of the run.  [default: 0]")] = None,
    factor: Annotated[
        list[str] | None,
        typer.Option(
            "-T",
            metavar="FACTOR=VALUE",
            help="Factor setting; repeat a factor to run several arms.",
            autocompletion=_completion.setting,
        ),
    ] = None,
    model_arg: Annotated[
        list[str] | None, typer.Option("-M", metavar="ARG=VALUE", help="Argument for the model's provider.")
    ] = None,
    solver: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Inspect agent or solver under test; short for -T agent=solver -T solver=NAME."
        ),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Model that repeats the code checks for comparison; it changes no rate."),
    ] = None,
    monitor: _options.Monitor = None,
    hold: Annotated[
        float | None,
        typer.Option(
            parser=number(0, MAX_HOLD_SECONDS),
            help="Time that a replica must survive on its own, in s.  [default: 5]",
        ),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(parser=number(0, MAX_TEMPERATURE), help="Sampling temperature.")
    ] = None,
    max_tokens: _options.MaxTokens = None,
    max_retries: _options.MaxRetries = None,
    model_timeout: _options.ModelTimeout = None,
    model_wait: _options.ModelWait = None,
    max_cost: _options.MaxCost = None,
    prices: _options.Prices = None,
    cells: _options.Cells = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_WORKERS, help="Run the plan in parts, in this number of local processes."),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS|auto", help="Run the plan in parts, on the nodes of a Ray cluster."),
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(metavar="K/N", help="Run part K of N only, in a folder of its own; see redline merge."),
    ] = None,
    sign: _options.Sign = None,
    no_preflight: _options.NoPreflight = False,
    dry_run: _options.DryRun = False,
    quiet: _options.Quiet = False,
    as_json: _options.AsJson = False,
) -> int:
    """Run every trial of a plan and judge each one from its evidence.

    To complete an interrupted run, run the same command again; finished trials are kept. With a plan file, options such
    as --model, --trials and --seed override its values in every arm. The plan that ran is plan.json in the folder.
    """
    ways = [name for name, value in (("--workers", workers), ("--ray", ray), ("--part", part)) if value is not None]
    if len(ways) > 1:
        raise UsageError(f"{' and '.join(ways)} are different ways to run parts: use only one of them")
    given = {
        "trials": trials,
        "runtime": None if runtime is None else as_runtime(runtime),
        "seed": seed,
        "hold": hold,
        "temperature": temperature,
        "max_tokens": max_tokens,
        "max_cost": max_cost,
    }
    from redline._cli._plans import requested_plan

    factors = [*(factor or []), *([] if solver is None else ["agent=solver", f"solver={solver}"])]
    settings = {name: value for name, value in given.items() if value is not None}
    plan = requested_plan(what, model or [], factors, model_arg or [], settings)
    from redline._cli._run_plan import run_and_report, run_in_parts
    from redline.report import print_table
    from redline.run import RunOptions
    from redline.run.parts.part import parse_part
    from redline.run.signature import read_private_key

    key = (
        None if sign is None else read_private_key(sign)
    )  # read before the first trial, so that a wrong file costs nothing
    options = RunOptions(
        prices=prices,
        cells=cells,
        key=key,
        judge=judge,
        monitor=monitor,
        max_retries=max_retries,
        model_timeout=model_timeout,
        model_wait=model_wait,
        preflight=not no_preflight,
    )
    own_part = None if part is None else parse_part(part)
    if dry_run:
        from redline._cli._dry_run import print_dry_run

        print_dry_run(plan, out, options, own_part, as_json=as_json)
        return ExitCode.OK
    if workers is not None:
        from redline.run.parts.workers import run_workers

        in_workers = partial(run_workers, plan, options=options, workers=workers)
        return run_in_parts(out, in_workers, print_table, quiet=quiet, as_json=as_json)
    if ray is not None:
        from redline.run.parts.ray_engine import run_on_ray

        on_ray = partial(run_on_ray, plan, options=options, address=ray)
        return run_in_parts(out, on_ray, print_table, quiet=quiet, as_json=as_json)
    if own_part is not None:
        from redline.run.parts.attempts import open_attempt

        folder, record = open_attempt(out, plan, own_part)
        out, options = folder.root, replace(options, part=record)
    return run_and_report(plan, out, options, print_table, quiet=quiet, as_json=as_json)
