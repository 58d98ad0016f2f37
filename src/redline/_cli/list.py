"""`redline list`."""

import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redline._errors import ExitCode, UsageError

if TYPE_CHECKING:
    from redline.catalog import Factor


def list_(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[KIND]",
            help="scenarios, factors, controls, guardrails or plans.  [default: all]",
            autocompletion=lambda incomplete: [kind for kind in KINDS if kind.startswith(incomplete)],
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the lists as JSON and nothing else.")] = False,
) -> int:
    """List scenarios, factors, controls, guardrails and plans."""
    from redline._names import unknown

    if what is not None and what not in KINDS:
        raise UsageError(unknown("kind", what, KINDS))
    kinds = KINDS if what is None else {what: KINDS[what]}
    lists = {kind: entries() for kind, (_, entries) in kinds.items()}
    if as_json:
        print(json.dumps(lists, indent=1))
        return ExitCode.OK
    _print(lists)
    return ExitCode.OK


def _print(lists: Mapping[str, Mapping[str, Any]]) -> None:
    from redline._text import LONGEST_LINE, clean_line
    from redline.report.console import print_lines, print_styled, stdout_console, wrapped

    console = stdout_console()
    for kind, entries in lists.items():
        heading = kind.capitalize()
        print_styled(console, wrapped(f"{heading} ({KINDS[kind][0]})", console.width), heading, "bold")
        names = {name: clean_line(name) for name in entries}
        column = max(map(len, names.values()), default=0)
        indent = " " * (column + 4)
        for name, entry in entries.items():
            summary = clean_line(entry["summary"], LONGEST_LINE)
            text = wrapped(summary, console.width, f"  {names[name]:<{column}}  ", indent)
            print_styled(console, text, names[name], "cyan")
            for note in _notes(entry):
                print_lines(console, wrapped(clean_line(note, LONGEST_LINE), console.width, indent, f"{indent}  "))
        if not entries:
            print_lines(console, "  none")
        print_lines(console, "")


def _notes(entry: Mapping[str, Any]) -> Iterator[str]:
    """Yield the fields of an entry other than its summary, unless they are empty."""
    for name, value in entry.items():
        if name != "summary" and value:
            yield f"{name}: {_text(value)}"


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | dict) else str(value)


def _scenarios() -> dict[str, Any]:
    from redline.catalog import scenarios

    return {
        scenario.name: {
            "summary": scenario.summary,
            "factors": {name: _settings(factor) for name, factor in scenario.factors.items()},
        }
        for scenario in scenarios().values()
    }


def _settings(factor: "Factor") -> dict[str, Any]:
    return {"default": factor.default, "choices": list(factor.choices)}


def _factors() -> dict[str, Any]:
    """Return the factors of all scenarios, with the union of the choices where scenarios differ."""
    from redline.catalog import scenarios

    found: dict[str, Any] = {}
    for scenario in scenarios().values():
        for factor in scenario.factors.values():
            entry = found.setdefault(factor.name, {"summary": factor.summary, **_settings(factor), "scenarios": []})
            entry["choices"] += [choice for choice in factor.choices if choice not in entry["choices"]]
            entry["scenarios"].append(scenario.name)
    return found


def _controls() -> dict[str, Any]:
    from redline.controls import CONTROLS

    return {
        control.name: {
            "summary": control.summary,
            "outcomes": list(control.truth.outcomes),
            "options": dict(control.options),
        }
        for control in CONTROLS.values()
    }


def _guardrails() -> dict[str, Any]:
    from redline.guardrails import guardrails

    return {
        name: {
            "summary": (inspect.getdoc(kind) or "").partition("\n")[0],
            "where": kind.where,
            "does": sorted(kind.actions),
            "parameters": list(kind.parameters_type.model_fields),
        }
        for name, kind in guardrails().items()
    }


def _plans() -> dict[str, Any]:
    from redline.plan_file import shipped_plans

    return {name: {"summary": summary} for name, summary in shipped_plans().items()}


KINDS: Mapping[str, tuple[str, Callable[[], dict[str, Any]]]] = {
    "scenarios": ("redline run SCENARIO -T factor=value", _scenarios),
    "factors": ("-T factor=value; repeat it for several arms", _factors),
    "controls": ("--model redline/NAME", _controls),
    "guardrails": ("-T guardrails=NAME+NAME:parameter=value, or redline guard --guardrail NAME", _guardrails),
    "plans": ("redline run NAME, redline plan check NAME", _plans),
}
"""The kinds that can be listed: how to use each, and its entries by name."""
