"""`redline show`."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from redline._cli import _completion
from redline._errors import ExitCode, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from redline.catalog import Factor, Scenario


def show(
    name: Annotated[
        str,
        typer.Argument(metavar="SCENARIO", help="Name of the scenario.", autocompletion=_completion.scenario),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the scenario as JSON and nothing else.")] = False,
) -> int:
    """Show a scenario: its summary, factors and prompts.

    The prompts are the texts that the scenario can send to a model. Names such as `$port` are filled in for each trial.
    """
    from redline._names import unknown
    from redline.catalog import scenarios
    from redline.scenarios.texts import prompts_of

    known = scenarios()
    if name not in known:
        raise UsageError(unknown("scenario", name, known))
    scenario = known[name]
    prompts = prompts_of(name, scenario.task, {factor.name: factor.choices for factor in scenario.factors.values()})
    if as_json:
        factors = {
            factor.name: {"summary": factor.summary, "default": factor.default, "choices": list(factor.choices)}
            for factor in scenario.factors.values()
        }
        document = {"name": name, "summary": scenario.summary, "factors": factors, "prompts": prompts}
        print(json.dumps(document, indent=1))
    else:
        _print(scenario, prompts)
    return ExitCode.OK


def _print(scenario: "Scenario", prompts: dict[str, str]) -> None:
    from redline._text import LONGEST_LINE, clean_line
    from redline.report.console import print_lines, print_styled, stdout_console, wrapped

    console = stdout_console()
    print_styled(console, scenario.name, scenario.name, "bold")
    print_lines(console, wrapped(clean_line(scenario.summary, LONGEST_LINE), console.width, "  "), "")
    about = "Factors (-T factor=value; repeat it for several arms)"
    print_styled(console, wrapped(about, console.width), "Factors", "bold")
    for factor in scenario.factors.values():
        print_styled(console, f"  {clean_line(factor.name)}", clean_line(factor.name), "cyan")
        for line in (factor.summary, _settings(factor)):
            print_lines(console, wrapped(clean_line(line, LONGEST_LINE), console.width, "    "))
    print_lines(console, "")
    about = "Prompts (texts that the scenario can send; $names are filled in for each trial)"
    print_styled(console, wrapped(about, console.width), "Prompts", "bold")
    for path, text in prompts.items():
        print_styled(console, f"  {clean_line(path)}", clean_line(path), "cyan")
        _print_prompt(console, text)


def _print_prompt(console: "Console", text: str) -> None:
    """Print a prompt line by line; only a line that is too long wraps."""
    from redline.report.console import print_lines, wrapped

    for line in text.split("\n"):
        words = line.lstrip()
        start = f"    {line[: len(line) - len(words)]}"
        fits = len(start) + len(words) <= console.width
        print_lines(console, f"{start}{words}".rstrip() if fits else wrapped(words, console.width, start))
    print_lines(console, "")


def _settings(factor: "Factor") -> str:
    """Return the settings of a factor, with its default."""
    default = f"default: {'empty' if factor.default == '' else factor.default}"
    return f"settings: {', '.join(map(str, factor.choices))}; {default}" if factor.choices else default
