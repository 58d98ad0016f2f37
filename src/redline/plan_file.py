"""Plans in files, of a user's own, shipped with redline or of an earlier run: what they say, or which line is wrong."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from redline._errors import UsageError
from redline._names import one_line, unknown
from redline._records import read_bounded, record_limits
from redline.plan import SHIPPED, Arm, ModelSpec, Plan, PlanRecord, completed, each_setting
from redline.stats import DecisionRule, Effect

PLAN_SUFFIXES = (".yaml", ".yml", ".json")

PARTS: Mapping[str, type[BaseModel]] = {
    "arms": Arm,
    "models": ModelSpec,
    "decision": DecisionRule,
    "smallest_effect": Effect,
}
"""What lies below the keys of a plan, for the names that may be meant there."""


def shipped_plans() -> Mapping[str, str]:
    """The plans that come with redline by file name, each with the first line of its comment."""
    found = {file.name: file.read_text(encoding="utf-8") for file in SHIPPED.iterdir() if _is_plan(file.name)}
    return {name: text.splitlines()[0].removeprefix("# ") for name, text in sorted(found.items())}


def _is_plan(name: str) -> bool:
    return name.endswith(PLAN_SUFFIXES)


def read_plan(path: Path, changes: Mapping[str, Any] | None = None) -> Plan:
    """The plan in a file, completed; a bare name that is no file here may be that of a shipped plan.

    The `plan.json` of a run is taken if it is as it was written.

    Args:
        path: The file.
        changes: Keys whose value is not the file's. Models and trials that are given here are those of every arm.

    Raises:
        UsageError: There is no such file, or it holds no plan that can be run.
    """
    text = _text(path)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        _refuse_bomb(path, root)
        document = yaml.safe_load(text)
        if twice := next(_said_twice(root), None):
            raise UsageError(f"{path} is not a plan: {twice}")
        if isinstance(document, dict) and "sha256" in document:  # the plan.json of a run, as it was written
            document = PlanRecord.model_validate(document).plan.model_dump(mode="json", by_alias=True)
        plan = Plan.model_validate(_changed(document, changes or {}))
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not a plan: {one_line(error)}") from error
    except ValidationError as error:
        raise UsageError(f"{path} is not a plan: {_fault(error, root, document)}") from error
    except RecursionError as error:
        raise UsageError(f"{path} is not a plan: it is nested too deeply") from error
    except (ValueError, TypeError, OverflowError) as error:  # of numbers and dates that YAML knows and Python does not
        raise UsageError(f"{path} is not a plan: {one_line(error)}") from error
    try:
        return completed(plan)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def _text(path: Path) -> str:
    is_bare = path.name == str(path)
    try:
        if is_bare and not path.exists() and path.name in shipped_plans():
            return SHIPPED.joinpath(path.name).read_text(encoding="utf-8")
        return read_bounded(path, record_limits().plan_bytes).decode("utf-8")
    except OSError as error:
        meant = f"; {unknown('shipped plan', path.name, shipped_plans())}" if is_bare else ""
        raise UsageError(f"cannot read the plan {path}: {error.strerror}{meant}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not a plan: {one_line(error)}") from error


def _changed(document: object, changes: Mapping[str, Any]) -> object:
    if not isinstance(document, dict) or not changes:
        return document
    arms = document.get("arms")
    of_every_arm = {"models", "trials"} & set(changes)
    if isinstance(arms, list):
        arms = [
            {key: value for key, value in arm.items() if key not in of_every_arm} if isinstance(arm, dict) else arm
            for arm in arms
        ]
    return {**document, "arms": arms, **changes}


def _refuse_bomb(path: Path, root: yaml.Node | None) -> None:
    """Refuse a document whose aliases make it far larger than its text, or lead back to where they stand."""
    sizes: dict[int, int] = {}
    left: list[tuple[yaml.Node | None, bool]] = [(root, False)]
    begun: set[int] = set()
    while left:
        node, is_done = left.pop()
        if node is None or id(node) in sizes:
            continue
        inner = _children(node)
        if is_done:
            sizes[id(node)] = 1 + sum(sizes[id(child)] for child in inner)
            if sizes[id(node)] > record_limits().plan_values:
                raise UsageError(f"{path} is not a plan: it has more than {record_limits().plan_values} values")
        elif id(node) in begun:
            raise UsageError(f"{path} is not a plan: line {_line_of(node)}: an alias leads back to where it stands")
        else:
            begun.add(id(node))
            left.append((node, True))
            left += [(child, False) for child in inner if id(child) not in sizes]


def _line_of(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _said_twice(root: yaml.Node | None) -> Iterator[str]:
    """Keys that a mapping of the file has twice, of which YAML would silently take the last."""
    known, left = set(), [root]
    while left:
        node = left.pop()
        if node is None or id(node) in known:  # an alias may even lead back to where it stands
            continue
        known.add(id(node))
        if isinstance(node, yaml.MappingNode):
            keys: set[str] = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value in keys:
                    yield f"line {key.start_mark.line + 1}: the key '{key.value}' is there twice"
                keys |= {key.value} if isinstance(key, yaml.ScalarNode) else set()
            left += [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            left += node.value


def _fault(error: ValidationError, root: yaml.Node | None, document: object) -> str:
    """The first fault of a plan, with its line, and for an unknown key with the nearest that is known."""
    first = error.errors(include_url=False)[0]
    place = first["loc"]
    message = one_line(error)
    if first["type"] == "extra_forbidden":
        parent = next((str(part) for part in reversed(place[:-1]) if part in PARTS), None)
        model = Plan if parent is None else PARTS[parent]
        message = unknown("key", str(place[-1]), (info.alias or name for name, info in model.model_fields.items()))
    line = _line(root, _as_in_file(place, document))
    return message if line is None else f"line {line}: {message}"


def _as_in_file(place: Sequence[int | str], document: object) -> Sequence[int | str]:
    """The place of a fault in the file, where an arm with several settings stands once."""
    arms = document.get("arms") if isinstance(document, dict) else None
    match place:
        case ["arms", int(number), *rest] if isinstance(arms, list):
            return ["arms", [place for place, arm in enumerate(arms) for _ in each_setting(arm)][number], *rest]
    return place


def _line(node: yaml.Node | None, place: Sequence[int | str]) -> int | None:
    """The line of the innermost part of a place that the file has."""
    line = None
    for part in place:
        if isinstance(node, yaml.MappingNode):
            entry = next(((key, value) for key, value in node.value if key.value == str(part)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            entry = (node.value[part], node.value[part])
        else:
            entry = None
        if entry is None:
            break
        line, node = entry[0].start_mark.line + 1, entry[1]
    return line
