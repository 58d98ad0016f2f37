"""Options that several commands share, each with the range of values it takes."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from redline._bounds import (
    MAX_CALL_SECONDS,
    MAX_CELLS,
    MAX_COST,
    MAX_HOLD_SECONDS,
    MAX_RETRIES,
    MAX_SEED,
    MAX_TOKENS,
    MAX_WAIT_SECONDS,
)


def number(least: float, most: float, *, above: bool = False) -> Callable[[str], float]:
    """Return the parser of an option that takes a number from a range; typer's own ranges let NaN through.

    Args:
        least: Lower bound.
        most: Upper bound, inclusive.
        above: Whether the lower bound itself is excluded.

    Returns:
        A parser that raises `typer.BadParameter`.
    """
    stated = f"a number {'above' if above else 'from'} {least:g} {'up ' if above else ''}to {most:g}"

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most or (above and value == least):
            raise typer.BadParameter(f"it must be {stated} (got {text})")
        return value

    parse.__name__ = "number"
    return parse


Prices = Annotated[Path | None, typer.Option(help="YAML file with the prices of models, in Inspect's format.")]
Cells = Annotated[
    int | None, typer.Option(min=1, max=MAX_CELLS, help="Maximum number of concurrent cells.  [default: by host size]")
]
MaxTokens = Annotated[
    int | None,
    typer.Option(min=1, max=MAX_TOKENS, help="Maximum output tokens per model call.  [default: 2048]"),
]
MaxRetries = Annotated[
    int | None, typer.Option(min=0, max=MAX_RETRIES, help="Maximum retries of a failed model call.  [default: 5]")
]
ModelTimeout = Annotated[
    int | None,
    typer.Option(min=1, max=MAX_CALL_SECONDS, help="Timeout of one attempt of a model call, in s.  [default: 600]"),
]
ModelWait = Annotated[
    float | None,
    typer.Option(
        parser=number(0, MAX_WAIT_SECONDS),
        help="Maximum time to wait for a model server that does not respond, in s.  [default: 600]",
    ),
]
MaxCost = Annotated[
    float | None,
    typer.Option(parser=number(0, MAX_COST, above=True), help="Maximum cost of the run, in USD."),
]
Monitor = Annotated[str | None, typer.Option(metavar="MODEL", help="Model that the guardrail llm_monitor calls.")]
Hold = Annotated[
    float,
    typer.Option(
        parser=number(0, MAX_HOLD_SECONDS),
        help="Time that a replica must survive on its own, in s.",
    ),
]
Seed = Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of the run.")]
NoPreflight = Annotated[
    bool, typer.Option("--no-preflight", help="Skip the check of the model servers before the first trial.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would run, then exit.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the result and errors only; no progress.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the results as JSON and nothing else.")]
Sign = Annotated[
    Path | None,
    typer.Option(metavar="KEY", help="Ed25519 private key (PEM or OpenSSH) with which to sign the results."),
]
