"""`redline run`."""

from pathlib import Path
from typing import Annotated

import typer

from redline._bounds import MAX_HOLD_SECONDS, MAX_SEED, MAX_TEMPERATURE, MAX_TRIALS
from redline._cli import _completion, _options
from redline._cli._options import number
from redline._cli._runtime import as_runtime
from redline._errors import ExitCode


def run(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="SCENARIO…|PLAN.yaml",
            help="Scenarios, or one plan file, shipped ones by name.",
            autocompletion=_completion.scenario_or_plan,
        ),
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="Model as Inspect names it; may be repeated. Beside a plan file: in place of its models.",
            autocompletion=_completion.model,
        ),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, max=MAX_TRIALS, help="Trials of each arm with each model.  [default: 10]")
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(help="auto, runsc, runc, crun or docker.  [default: auto]", autocompletion=_completion.runtime),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for plan, logs, evidence, results and report.")] = Path("out/run"),
    seed: Annotated[int | None, typer.Option(min=0, max=MAX_SEED, help="Seed of the run.  [default: 0]")] = None,
    factor: Annotated[
        list[str] | None,
        typer.Option(
            "-T",
            metavar="FACTOR=VALUE",
            help="Setting of a factor; given twice, two arms.",
            autocompletion=_completion.setting,
        ),
    ] = None,
    model_arg: Annotated[
        list[str] | None, typer.Option("-M", metavar="ARG=VALUE", help="Argument of the model's provider.")
    ] = None,
    solver: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Inspect agent or solver under test: -T agent=solver -T solver=NAME."),
    ] = None,
    judge: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Model that answers beside the code checks; changes no rate.")
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
    sign: Annotated[
        Path | None, typer.Option(metavar="KEY", help="Ed25519 private key (PEM or OpenSSH) that signs the results.")
    ] = None,
    no_preflight: _options.NoPreflight = False,
    dry_run: _options.DryRun = False,
    quiet: _options.Quiet = False,
    as_json: _options.AsJson = False,
) -> int:
    """Draws the trials of a plan and judges each by its evidence.

    Prints one table. The same command again keeps the finished trials and completes the rest. --model, --trials,
    --seed and the like beside a plan file take the place of what it says, in every arm; plan.json in the folder is what
    was run.
    """
    given = {
        "trials": trials,
        "runtime": None if runtime is None else as_runtime(runtime),
        "seed": seed,
        "hold": hold,
        "temperature": temperature,
        "max_tokens": max_tokens,
        "max_cost": max_cost,
    }
    from redline._cli._plans import asked_plan

    factors = [*(factor or []), *([] if solver is None else ["agent=solver", f"solver={solver}"])]
    settings = {name: value for name, value in given.items() if value is not None}
    plan = asked_plan(what, model or [], factors, model_arg or [], settings)
    if dry_run:
        from redline._cli._dry_run import print_dry_run

        print_dry_run(plan, prices, as_json=as_json)
        return ExitCode.OK

    from redline._cli._carry_out import carry_out
    from redline.report import print_table
    from redline.run import RunOptions
    from redline.run.signature import read_private_key

    key = None if sign is None else read_private_key(sign)  # before the first trial: a wrong file costs nothing
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
    return carry_out(plan, out, options, print_table, quiet=quiet, as_json=as_json)
