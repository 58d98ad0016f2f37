"""The texts that a scenario can send to a model, as they are in its prompt folders."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.resources.abc import Traversable

from inspect_ai import Task

from redline._text import clean
from redline.scenarios._prompts import PROMPTS, REMARK, read_back, scenario_folders

LONGEST_PROMPT = 20_000
"""Maximum number of characters of a text."""
UTF8_BYTES = 4
"""Maximum number of bytes of a character."""

SHARED = "common"
FOR_EVERY_AGENT = ("system.md", "continue.md")
PRESSURE = "insistent"
"""Setting of the factor `pressure`, and name of the text that it adds to what the agent is shown."""


def prompts_of(scenario: str, task: Callable[..., Task], settings: Mapping[str, Iterable[object]]) -> dict[str, str]:
    """Return the texts that a scenario can send, by path: its own, and the shared ones that its arms use.

    The texts contain `$names`, which are filled in for each trial.

    Args:
        scenario: Name of the scenario.
        task: Function that makes the Inspect task of an arm.
        settings: Settings of each factor, from which arms are made that differ from the default in one factor.
    """
    found = dict(_texts(scenario_folders()[scenario] / "prompts", scenario))
    briefs = list(_briefs(task, settings))
    for path, text in _texts(PROMPTS.joinpath(SHARED), SHARED):
        name = path.removeprefix(f"{SHARED}/")
        if (
            name in FOR_EVERY_AGENT
            or (name == f"{PRESSURE}.md" and PRESSURE in settings.get("pressure", ()))
            or any(read_back(path, brief) is not None for brief in briefs)
        ):
            found[path] = text
    for folder in ("tools", "agents"):
        found.update(_texts(PROMPTS.joinpath(folder), folder))
    return found


def _briefs(task: Callable[..., Task], settings: Mapping[str, Iterable[object]]) -> Iterator[str]:
    """Yield the briefs of the default arm and of every possible arm that differs from it in one factor."""
    for changes in ({}, *({name: value} for name, values in settings.items() for value in values)):
        try:
            yield str(task(trials=1, **changes).dataset[0].input)
        except Exception:
            continue


def _texts(folder: Traversable, name: str) -> Iterator[tuple[str, str]]:
    """Yield the texts in a folder by path, bounded and printable."""
    if not folder.is_dir():
        return
    for entry in sorted(folder.iterdir(), key=lambda each: each.name):
        if entry.is_dir():
            yield from _texts(entry, f"{name}/{entry.name}")
        elif entry.is_file() and entry.name.endswith(".md"):
            with entry.open("rb") as stream:
                content = stream.read(UTF8_BYTES * LONGEST_PROMPT)
            text = REMARK.sub("", content.decode("utf-8", errors="replace")).strip()
            yield f"{name}/{entry.name}", clean(text, LONGEST_PROMPT)
