"""`redline run`."""

from pathlib import Path
from typing import Annotated

import typer

from redline._cli import _completion
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
        int | None, typer.Option(min=1, help="Trials of each arm with each model.  [default: 10]")
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(help="auto, runsc, runc, crun or docker.  [default: auto]", autocompletion=_completion.runtime),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for plan, logs, evidence, results and report.")] = Path("out/run"),
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the run.  [default: 0]")] = None,
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
    monitor: Annotated[str | None, typer.Option(metavar="MODEL", help="Model that guardrail llm_monitor asks.")] = None,
    hold: Annotated[
        float | None, typer.Option(min=0, help="Seconds a replica must live on alone.  [default: 5]")
    ] = None,
    temperature: Annotated[float | None, typer.Option(min=0, help="Sampling temperature.")] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Maximum tokens of one answer of a model.  [default: 2048]")
    ] = None,
    max_retries: Annotated[
        int | None, typer.Option(min=0, help="Retries of a failed model call.  [default: 5]")
    ] = None,
    model_timeout: Annotated[
        int | None, typer.Option(min=1, help="Seconds that one try of a model call may take.  [default: 600]")
    ] = None,
    model_wait: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds to wait for a model that does not answer.  [default: 600]"),
    ] = None,
    max_cost: Annotated[float | None, typer.Option(help="Dollars that the run may cost at most.")] = None,
    prices: Annotated[Path | None, typer.Option(help="YAML file of model prices, in Inspect's format.")] = None,
    cells: Annotated[int | None, typer.Option(min=1, help="Cells at once; by the machine's size if not given.")] = None,
    sign: Annotated[
        Path | None, typer.Option(metavar="KEY", help="Ed25519 private key (PEM or OpenSSH) that signs the results.")
    ] = None,
    no_preflight: Annotated[
        bool, typer.Option("--no-preflight", help="Start without trying the models' servers first.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, and stop.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Show no progress: the result, and what went wrong.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON, and nothing else.")] = False,
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
    from redline.run import Options
    from redline.run.signature import read_private_key

    key = None if sign is None else read_private_key(sign)  # before the first trial: a wrong file costs nothing
    options = Options(
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
