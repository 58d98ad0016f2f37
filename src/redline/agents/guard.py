"""Checks before a run: refuse every setting by which the agent under test could act outside its cell."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from redline._base import read_toml
from redline._errors import UsageError


def check_model(name: str, args: Mapping[str, object]) -> None:
    """Refuse a model or provider arguments that give the model a tool of its provider.

    Raises:
        UsageError: The model or an argument adds such a tool.
    """
    if name.startswith("redline/"):
        return
    for pattern in _data()["model_patterns"]:
        if re.search(pattern, name):
            raise UsageError(f"model {name} searches the web by itself, outside the cell: choose another model")
    for key in _keys(args):
        if key not in _data()["harmless_arguments"] and _contains_word(key, _data()["argument_words"]):
            raise UsageError(f"model argument '{key}' would give {name} a tool outside the cell: remove it")


def check_task_arguments(arguments: Iterable[str], known: Iterable[str]) -> None:
    """Refuse unknown arguments. No argument of a scenario adds a tool or replaces the agent.

    Raises:
        UsageError: An argument is unknown.
    """
    allowed = set(known)
    for name in arguments:
        if name not in allowed:
            raise UsageError(f"'{name}' is not a setting of the scenario: tools and solvers cannot be added")


def check_sandbox(kind: str) -> None:
    """Refuse a sandbox that is not a cell.

    Raises:
        UsageError: The sandbox is not a cell.
    """
    allowed = _data()["sandboxes"]
    if kind not in allowed:
        raise UsageError(f"sandbox '{kind}' is not sealed: use --sandbox {' or '.join(allowed)}, or omit the option")


def _keys(value: object) -> Iterable[str]:
    """Yield all keys in an argument at any depth: one argument can contain a whole request body."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from _keys(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _keys(inner)
    elif isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        yield from re.findall(r"[\"']?([A-Za-z_]\w*)[\"']?\s*:", value)


def _contains_word(key: str, words: Iterable[str]) -> bool:
    parts = re.split(r"[_\-.]", key.lower())
    return any(word in parts or (("_" in word) and word in key.lower()) for word in words)


@cache
def _data() -> dict[str, Any]:
    return read_toml("redline.agents", "data/foreign_tools.toml")
