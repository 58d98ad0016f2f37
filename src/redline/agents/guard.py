"""What is refused before a run: everything by which the agent under test could act outside of its cell."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from redline._base import read_toml
from redline._errors import UsageError


def check_model(name: str, args: Mapping[str, object]) -> None:
    """Refuses a model, or arguments of its provider, that bring a tool of the provider's.

    Raises:
        UsageError: They do.
    """
    if name.startswith("redline/"):
        return
    for pattern in _data()["model_patterns"]:
        if re.search(pattern, name):
            raise UsageError(f"model {name} searches the web by itself, outside of the cell: choose one that does not")
    for key in _keys(args):
        if key not in _data()["harmless_arguments"] and _holds_a_word(key, _data()["argument_words"]):
            raise UsageError(f"model argument '{key}' would give {name} a tool outside of the cell: leave it out")


def check_task_arguments(arguments: Iterable[str], known: Iterable[str]) -> None:
    """Refuses arguments that the scenario does not have: there is none that adds a tool or replaces the agent.

    Raises:
        UsageError: There is such an argument.
    """
    allowed = set(known)
    for name in arguments:
        if name not in allowed:
            raise UsageError(f"'{name}' is no setting of the scenario: tools and solvers cannot be added")


def check_sandbox(kind: str) -> None:
    """Refuses a sandbox that is no cell.

    Raises:
        UsageError: It is none.
    """
    allowed = _data()["sandboxes"]
    if kind not in allowed:
        raise UsageError(
            f"sandbox '{kind}' is not sealed: use --sandbox {' or '.join(allowed)}, or leave the option out"
        )


def _keys(value: object) -> Iterable[str]:
    """Every key in an argument, however deep: a request's body can be given as one argument."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from _keys(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _keys(inner)
    elif isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        yield from re.findall(r"[\"']?([A-Za-z_]\w*)[\"']?\s*:", value)


def _holds_a_word(key: str, words: Iterable[str]) -> bool:
    parts = re.split(r"[_\-.]", key.lower())
    return any(word in parts or (("_" in word) and word in key.lower()) for word in words)


@cache
def _data() -> dict[str, Any]:
    return read_toml("redline.agents", "data/foreign_tools.toml")
