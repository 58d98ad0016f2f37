"""What only the evaluator can state: who evaluated, for whom, with which access, and under which terms.

The statements come from a file that the evaluator writes. The report shows them next to what it contributes itself to
the 15 requirements of AEF-1; it checks none of them.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError

from redline._base import Frozen, read_toml
from redline._errors import UsageError
from redline._names import one_line, unknown
from redline._records import read_bounded, record_limits

Status = Literal["met", "alternative", "not_met", "not_applicable"]
NOT_STATED = "not stated"

Text = Annotated[str, Field(max_length=4000)]
Name = Annotated[str, Field(min_length=1, max_length=200)]


class Requirement(Frozen):
    """The evaluator's answer to one requirement."""

    status: Status
    """Whether the requirement is met; `alternative` if its principle is met by other means."""
    statement: Text = ""
    """How it is met, or why it is not."""


class Conflict(Frozen):
    """The evaluator's answer about one kind of conflict of interest."""

    answer: Literal["none", "exists"]
    """Whether the conflict exists."""
    statement: Text = ""
    """Details; required if it exists."""


class Disclosures(Frozen):
    """The disclosures of an evaluator."""

    evaluator: Name
    """The organisation or person that ran the evaluation."""
    provider: Text = ""
    """The provider of the evaluated system."""
    contact: Text = ""
    """Address for questions."""
    access: Text = ""
    """Access that the evaluator had."""
    time: Text = ""
    """Time that the evaluator had."""
    staffing: Text = ""
    """People who carried out the evaluation, and their qualification."""
    redactions: Text = ""
    """Who could redact what, and what was redacted."""
    requirements: dict[str, Requirement] = Field(default_factory=dict)
    """Answers by number of the requirement in AEF-1."""
    conflicts: dict[str, Conflict] = Field(default_factory=dict)
    """Answers by number of the conflict in AEF-1."""


class _Asked(Frozen):
    """A requirement as the checklist states it."""

    id: str
    asks: str
    report: str


class _Checklist(Frozen):
    source: str
    requirements: tuple[_Asked, ...]
    conflicts: dict[str, str]


@dataclass(frozen=True)
class ChecklistRow:
    """One row of the checklist in a report."""

    id: str
    """Number in AEF-1."""
    asks: str
    """The requirement in our own words."""
    report: str
    """What the report contributes."""
    status: str
    """The evaluator's answer."""
    statement: str
    """The evaluator's statement."""


@dataclass(frozen=True)
class DisclosuresView:
    """Disclosures as a report shows them."""

    sha256: str | None
    """SHA-256 of the evaluator's file; None without a file."""
    facts: tuple[tuple[str, str], ...]
    """Statements about evaluator, access, time, staffing and redactions."""
    checklist: tuple[ChecklistRow, ...]
    """The requirements, all with an answer or `not stated`."""
    conflicts: tuple[ChecklistRow, ...]
    """The kinds of conflict of interest."""
    source: str
    """Address of the standard."""

    @property
    def stated(self) -> int:
        """Number of requirements with an answer."""
        return sum(row.status != NOT_STATED for row in self.checklist)


@cache
def checklist() -> _Checklist:
    """Return the requirements as shipped."""
    return _Checklist.model_validate(read_toml("redline.report", "data/aef1.toml"))


def template() -> str:
    """Return the text of a file to fill in."""
    return files("redline.report").joinpath("data/disclosures.yaml").read_text(encoding="utf-8")


def read_disclosures(path: Path) -> DisclosuresView:
    """Read the evaluator's file.

    Raises:
        UsageError: The file cannot be read, or is not a file of disclosures.
    """
    try:
        content = read_bounded(path, record_limits().plan_bytes)
        document = _document(path, content.decode("utf-8"))
        found = Disclosures.model_validate(document)
    except OSError as error:
        raise UsageError(f"cannot read the disclosures {path}: {error.strerror}") from error
    except ValidationError as error:
        raise UsageError(f"{path}: {one_line(error)}") from error
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise UsageError(f"{path} is not a file of disclosures: {one_line(error)}") from error
    for kind, given, known in (
        ("requirement", found.requirements, [one.id for one in checklist().requirements]),
        ("conflict", found.conflicts, list(checklist().conflicts)),
    ):
        if wrong := next((name for name in given if name not in known), None):
            raise UsageError(f"{path}: {unknown(f'{kind} of AEF-1', wrong, known)}")
    if bare := next(
        (name for name, one in found.conflicts.items() if one.answer == "exists" and not one.statement), None
    ):
        raise UsageError(f"{path}: conflict {bare} exists, so it needs a statement")
    return view_of(found, hashlib.sha256(content).hexdigest())


def _document(path: Path, text: str) -> Any:
    """Return the content of a YAML file without aliases, which could expand it, and without duplicate keys."""
    if any(isinstance(event, yaml.events.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
        raise UsageError(f"{path} is not a file of disclosures: it contains a YAML alias")
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if duplicate := next(_duplicates(root), None):
        raise UsageError(f"{path} is not a file of disclosures: {duplicate} appears twice")
    document = yaml.safe_load(text)
    if not isinstance(document, dict):
        raise UsageError(f"{path} is not a file of disclosures: it is not a list of keys with values")
    return document


def _duplicates(node: yaml.Node | None) -> Iterator[str]:
    if isinstance(node, yaml.MappingNode):
        keys = [str(key.value) for key, _ in node.value]
        yield from (key for place, key in enumerate(keys) if key in keys[:place])
        for _, value in node.value:
            yield from _duplicates(value)


def view_of(found: Disclosures | None, sha256: str | None = None) -> DisclosuresView:
    """Return what a report shows; without disclosures, every answer is `not stated`."""
    shipped = checklist()
    answers = {} if found is None else found.requirements
    conflicts = {} if found is None else found.conflicts
    return DisclosuresView(
        sha256=sha256,
        facts=() if found is None else tuple(_facts(found)),
        checklist=tuple(_requirement(one, answers.get(one.id)) for one in shipped.requirements),
        conflicts=tuple(_conflict(name, asks, conflicts.get(name)) for name, asks in shipped.conflicts.items()),
        source=shipped.source,
    )


def _facts(found: Disclosures) -> Iterator[tuple[str, str]]:
    for name in ("evaluator", "provider", "contact", "access", "time", "staffing", "redactions"):
        yield name, getattr(found, name) or NOT_STATED


def _requirement(asked: _Asked, answer: Requirement | None) -> ChecklistRow:
    status = NOT_STATED if answer is None else answer.status.replace("_", " ")
    return ChecklistRow(asked.id, asked.asks, asked.report, status, "" if answer is None else answer.statement)


def _conflict(name: str, asks: str, answer: Conflict | None) -> ChecklistRow:
    status = NOT_STATED if answer is None else answer.answer
    return ChecklistRow(name, asks, "", status, "" if answer is None else answer.statement)
