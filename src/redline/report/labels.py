"""Names of conditions that can be read without a table: what differs among them, and nothing else."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from redline.guardrails import NONE
from redline.report._data import phrases
from redline.results import Condition
from redline.run.guarding import FACTOR

UNGUARDED = "no guardrail"


@dataclass(frozen=True)
class Label:
    """The name of a condition in a report."""

    model: str
    """Short name of the model."""
    arm: str
    """The scenario, unless it is the only one with several arms, and the factors that differ among its arms."""
    run: str
    """Name of the run; empty if the report covers one run."""
    lines: tuple[str, ...]
    """The parts that differ among the conditions of the report, or the model if none does."""

    def __str__(self) -> str:
        """Return the whole name in one line."""
        return ", ".join(filter(None, (self.model, self.arm, self.run)))


def labels(conditions: Sequence[tuple[str, Condition]]) -> tuple[Label, ...]:
    """Return the label of each condition.

    Args:
        conditions: Each condition with the name of its run; empty names if there is one run.
    """
    models = short_models(one.model for _, one in conditions)
    varied = _varied([one for _, one in conditions])
    only = len(varied) == 1
    whole = [(models[one.model], _arm(one, varied[one.scenario], only=only), run) for run, one in conditions]
    differs = [len(set(parts)) > 1 for parts in zip(*whole, strict=True)]
    return tuple(Label(*parts, lines=_differing(parts, differs)) for parts in whole)


def _differing(parts: Sequence[str], differs: Sequence[bool]) -> tuple[str, ...]:
    return tuple(part for part, is_shown in zip(parts, differs, strict=True) if is_shown and part) or (parts[0],)


def short_models(models: Iterable[str]) -> dict[str, str]:
    """Return short names of models: the last part of the path, as long as the names stay distinct."""
    every = list(dict.fromkeys(models))
    short = {model: _short(model) for model in every}
    names = list(short.values())
    return {model: name if names.count(name) == 1 else model for model, name in short.items()}


def _short(model: str) -> str:
    """Return the last part of a model's path, with the arguments that follow the name."""
    path, blank, arguments = model.partition(" ")
    return f"{path.rstrip('/').rsplit('/', 1)[-1].removesuffix('.gguf')}{blank}{arguments}" or model


def _varied(conditions: Sequence[Condition]) -> dict[str, list[str]]:
    """Return the factors that differ among the conditions of each scenario."""
    found: dict[str, dict[str, set[str]]] = {}
    for one in conditions:
        settings = found.setdefault(one.scenario, {})
        for name, value in one.factors.items():
            settings.setdefault(name, set()).add(str(value))
    return {
        scenario: [name for name, values in settings.items() if len(values) > 1] for scenario, settings in found.items()
    }


def _arm(condition: Condition, varied: Sequence[str], *, only: bool) -> str:
    """Return the settings that vary, after the scenario unless it is the only one."""
    settings = ", ".join(setting_words(name, condition.factors[name]) for name in varied if name in condition.factors)
    scenario = condition.scenario.replace("_", " ")
    return settings if only and settings else f"{scenario}: {settings}" if settings else scenario


def setting_words(name: str, value: object) -> str:
    """Return one setting of a factor as a reader would name it."""
    if name == FACTOR:
        return UNGUARDED if value == NONE else f"with {value}"
    return f"{name.replace('_', ' ')} {value}"


def circumstance(scenario: str, factors: Mapping[str, object]) -> str:
    """Return what the agent was asked or faced with, as the end of a sentence."""
    known = phrases().circumstances
    for name, value in factors.items():
        if (words := known.get(f"{scenario} {name}={value}")) is not None:
            return words
    return known.get(scenario, f"in {scenario}")
