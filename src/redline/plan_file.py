"""Read plans from files: a user's own, a shipped plan, or the plan of an earlier run. Errors name the line."""

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
"""Models of the nested parts of a plan, for suggestions of similar keys."""


def shipped_plans() -> Mapping[str, str]:
    """Return the shipped plans by file name, each with the first line of its comment."""
    found = {file.name: file.read_text(encoding="utf-8") for file in SHIPPED.iterdir() if _is_plan(file.name)}
    return {name: text.splitlines()[0].removeprefix("# ") for name, text in sorted(found.items())}


def _is_plan(name: str) -> bool:
    return name.endswith(PLAN_SUFFIXES)


def read_plan(path: Path, changes: Mapping[str, Any] | None = None) -> Plan:
    """Read and complete the plan in a file.

    The `plan.json` of a run is accepted if it is unaltered.

    Args:
        path: The file. A bare name without a file of that name can be the name of a shipped plan.
        changes: Values that replace those of the file, by key. `models` and `trials` apply to every arm.

    Raises:
        UsageError: The file cannot be read, or its plan is not valid.
    """
    text = _text(path)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        _refuse_bomb(path, root)
        document = yaml.safe_load(text)
        if duplicate := next(_duplicate_keys(root), None):
            raise UsageError(f"{path} is not a plan: {duplicate}")
        if isinstance(document, dict) and "sha256" in document:  # the plan.json of a run
            document = PlanRecord.model_validate(document).plan.model_dump(mode="json", by_alias=True)
        plan = Plan.model_validate(_changed(document, changes or {}))
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not a plan: {one_line(error)}") from error
    except ValidationError as error:
        raise UsageError(f"{path} is not a plan: {_fault(error, root, document)}") from error
    except RecursionError as error:
        raise UsageError(f"{path} is not a plan: it is nested too deeply") from error
    except (ValueError, TypeError, OverflowError) as error:  # numbers and dates valid in YAML but not in Python
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
        suggestion = f"; {unknown('shipped plan', path.name, shipped_plans())}" if is_bare else ""
        raise UsageError(f"cannot read the plan {path}: {error.strerror}{suggestion}") from error
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
    """Refuse a document whose aliases expand it far beyond the size of its text, or contain themselves."""
    sizes: dict[int, int] = {}
    left: list[tuple[yaml.Node | None, bool]] = [(root, False)]
    visited: set[int] = set()
    while left:
        node, is_done = left.pop()
        if node is None or id(node) in sizes:
            continue
        inner = _children(node)
        if is_done:
            sizes[id(node)] = 1 + sum(sizes[id(child)] for child in inner)
            if sizes[id(node)] > record_limits().plan_values:
                raise UsageError(f"{path} is not a plan: it has more than {record_limits().plan_values} values")
        elif id(node) in visited:
            raise UsageError(f"{path} is not a plan: line {_line_of(node)}: an alias contains itself")
        else:
            visited.add(id(node))
            left.append((node, True))
            left += [(child, False) for child in inner if id(child) not in sizes]


def _line_of(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _duplicate_keys(root: yaml.Node | None) -> Iterator[str]:
    """Yield the duplicate keys of the file's mappings, of which YAML would silently use the last."""
    known, left = set(), [root]
    while left:
        node = left.pop()
        if node is None or id(node) in known:  # an alias can contain itself
            continue
        known.add(id(node))
        if isinstance(node, yaml.MappingNode):
            keys: set[str] = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value in keys:
                    yield f"line {key.start_mark.line + 1}: the key '{key.value}' appears twice"
                keys |= {key.value} if isinstance(key, yaml.ScalarNode) else set()
            left += [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            left += node.value


def _fault(error: ValidationError, root: yaml.Node | None, document: object) -> str:
    """Return the first error of a plan with its line; for an unknown key, suggest a similar one."""
    first = error.errors(include_url=False)[0]
    location = first["loc"]
    message = one_line(error)
    if first["type"] == "extra_forbidden":
        parent = next((str(part) for part in reversed(location[:-1]) if part in PARTS), None)
        model = Plan if parent is None else PARTS[parent]
        message = unknown("key", str(location[-1]), (info.alias or name for name, info in model.model_fields.items()))
    line = _line(root, _location_in_file(location, document))
    return message if line is None else f"line {line}: {message}"


def _location_in_file(location: Sequence[int | str], document: object) -> Sequence[int | str]:
    """Translate the location of an error to the file, in which an arm with several settings appears once."""
    arms = document.get("arms") if isinstance(document, dict) else None
    match location:
        case ["arms", int(number), *rest] if isinstance(arms, list):
            return ["arms", [index for index, arm in enumerate(arms) for _ in each_setting(arm)][number], *rest]
    return location


def _line(node: yaml.Node | None, location: Sequence[int | str]) -> int | None:
    """Return the line of the innermost part of a location that the file contains."""
    line = None
    for part in location:
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
