"""`redline list`."""

from typing import TYPE_CHECKING, Annotated

import typer

from redline._errors import ExitCode

if TYPE_CHECKING:
    from redline.catalog import Factor


def list_(
    as_json: Annotated[bool, typer.Option("--json", help="Print the lists as JSON, and nothing else.")] = False,
) -> int:
    """Lists scenarios with their factors, controls with what is true of them, and guardrails."""
    import json

    from redline.catalog import scenarios
    from redline.controls import CONTROLS
    from redline.guardrails import guardrails

    if as_json:
        document = {
            "scenarios": {
                scenario.name: {
                    "summary": scenario.summary,
                    "factors": {
                        factor.name: {"default": factor.default, "choices": factor.choices}
                        for factor in scenario.factors.values()
                    },
                }
                for scenario in scenarios().values()
            },
            "controls": {
                control.name: {"summary": control.summary, "outcomes": control.truth.outcomes}
                for control in CONTROLS.values()
            },
            "guardrails": {
                name: {
                    "summary": _first_line(kind),
                    "where": kind.where,
                    "does": sorted(kind.does),
                    "parameters": list(kind.parameters_type.model_fields),
                }
                for name, kind in guardrails().items()
            },
        }
        print(json.dumps(document, indent=1))
        return ExitCode.OK
    print("Scenarios (redline run SCENARIO -T factor=value)")
    for scenario in scenarios().values():
        print(f"  {scenario.name}: {scenario.summary}")
        for factor in scenario.factors.values():
            print(f"      {_factor(factor)}")
    print("\nControls (--model redline/NAME)")
    for control in CONTROLS.values():
        print(f"  {control.name:<12} {control.summary} -> {' or '.join(control.truth.outcomes)}")
    print("\nGuardrails (-T guardrails=NAME+NAME:parameter=value, or redline guard --guardrail NAME)")
    for name, kind in guardrails().items():
        parameters = "".join(f":{parameter}=…" for parameter in kind.parameters_type.model_fields)
        print(f"  {name}{parameters}: {_first_line(kind)}")
    return ExitCode.OK


def _first_line(described: object) -> str:
    import inspect

    return (inspect.getdoc(described) or "").partition("\n")[0]


def _factor(factor: "Factor") -> str:
    if factor.choices:
        return f"{factor.name}={'|'.join(map(str, factor.choices))}  (default {factor.default})"
    return f"{factor.name}=…  (default {factor.default})"
