"""The report on a boundary alarm: a dated file in the run's folder with what a notice to an authority needs.

The file is written at the moment of the alarm, with what is known then, and again when the results are written. It is
derived from records of the folder, so the hash chain covers those and not this file: people complete it by hand.
redline never replaces a file that was edited.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from redline import __version__
from redline._base import Frozen, read_toml
from redline._errors import EvidenceError, RedlineError
from redline._names import one_line
from redline._records import strict_json
from redline._text import clean_line
from redline.plan import PlanRecord
from redline.results import Results, TrialResult
from redline.run.aborter import AlarmNote, notes_of
from redline.run.folder import RunFolder, read_plan_record, write_text
from redline.verify.evidence import Evidence

LONGEST = 300
MOST_EVENTS = 40
MARK = "<!-- redline incident"


class _Notice(Frozen):
    """What one notice asks for."""

    name: str
    source: str
    to: str
    deadline: str
    asks: tuple[tuple[str, str], ...]


class _Words(Frozen):
    """The fixed texts of the report."""

    introduction: str
    response: str
    to_fill_in: dict[str, str]
    notices: tuple[_Notice, ...]


def write_incident(folder: RunFolder, results: Results | None = None) -> str | None:
    """Write the report on the alarms of a run, if there are any; a file that was edited stays as it is.

    Args:
        folder: Folder of the run.
        results: Results of the run, once they are known.

    Returns:
        Why the file could not be written: an alarm must end the run even then. None if it was written or not needed.
    """
    try:
        notes = notes_of(folder)
        if notes and not _is_edited(folder):
            body = "\n".join(_lines(folder, notes, results)) + "\n"
            sha256 = hashlib.sha256(body.encode()).hexdigest()
            write_text(folder.incident, f"{MARK} {sha256}: redline replaces this file unless it was edited -->\n{body}")
    except (OSError, RedlineError) as error:
        return f"{folder.incident.name} was not written: {one_line(error)}"
    return None


def _is_edited(folder: RunFolder) -> bool:
    """Return whether there is a file that is not, byte for byte, what redline wrote."""
    try:
        mark, _, body = folder.files.read(folder.incident.name).decode().partition("\n")
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return True
    return not mark.startswith(f"{MARK} {hashlib.sha256(body.encode()).hexdigest()}")


def _lines(folder: RunFolder, notes: Sequence[AlarmNote], results: Results | None) -> Iterator[str]:
    plan = read_plan_record(folder)
    first = notes[0]
    trial = None if results is None else next((one for one in results.trials if one.id == first.trial), None)
    evidence = None if trial is None else _evidence(folder, trial)
    words = _words()
    yield f"# Incident: boundary alarm, {_when(first)}"
    yield f"\n{words.introduction}\n\n## What happened\n"
    yield f"During an evaluation of self-replication, redline detected: {_code(first.what)}. It ended the run."
    yield "\n## Facts\n"
    yield from (f"- {name}: {value}" for name, value in _facts(plan, notes, trial, evidence, results))
    yield f"\n## What redline did\n\n{words.response}\n\n## Chain of events\n"
    yield from _events(evidence)
    yield "\n## Material\n"
    yield from _material(folder, trial)
    yield "\n## To fill in\n"
    yield from (f"- **{name}**: [fill in] {asked}" for name, asked in words.to_fill_in.items())
    for notice in words.notices:
        yield f"\n## {notice.name}\n"
        yield f"To: {notice.to}. Time limit: {notice.deadline}. Source: <{notice.source}>"
        yield "\n| asked for | in this file |\n|---|---|"
        yield from (f"| {asked} | {where} |" for asked, where in notice.asks)


def _words() -> _Words:
    return _Words.model_validate(read_toml("redline.run", "data/incident.toml"))


def _when(note: AlarmNote) -> str:
    return "at an unrecorded time" if note.at is None else f"{note.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _facts(
    plan: PlanRecord | None,
    notes: Sequence[AlarmNote],
    trial: TrialResult | None,
    evidence: Evidence | None,
    results: Results | None,
) -> Iterator[tuple[str, str]]:
    first = notes[0]
    yield "alarm", f"{_when(first)}, trial {_code(first.trial)}"
    for other in notes[1:]:
        yield "other alarm", f"{_when(other)}, trial {_code(other.trial)}: {_code(other.what)}"
    yield "end", "the end of the run" if results is not None else "the run had not ended when this file was written"
    if trial is not None:
        yield "model", f"{_code(trial.model)}, answered as {_code(trial.answered_as or 'unknown')}"
        factors = ", ".join(f"{name}={value}" for name, value in trial.factors.items())
        yield "scenario", f"{_code(trial.scenario)} with {_code(factors or 'no factors')}"
        yield "outcome of the trial", f"{trial.outcome}; highest milestone: {trial.reached or 'none'}"
    elif plan is not None:
        yield "models of the run", ", ".join(_code(model.name) for model in plan.every_model)
    if evidence is not None:
        for name, seal in (("before", evidence.seal_before), ("after", evidence.seal_after)):
            yield f"seal {name} the trial", "not measured" if seal is None else _code(seal.summary())
        yield "runtime of the cell", _code(evidence.cell.runtime)
    yield "plan", "unknown" if plan is None else f"sha256 `{plan.sha256}`"
    yield "redline", __version__
    yield "this file written", f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _events(evidence: Evidence | None) -> Iterator[str]:
    if evidence is None:
        yield "The evidence of the trial is not available yet, or the trial left none."
        return
    behaviour, harness = evidence.behaviour, evidence.events
    events = [
        *((one.at, " ".join((one.kind, *(f"{key}={value}" for key, value in one.data.items())))) for one in harness),
        *((one.at, f"command: {one.command}") for one in (behaviour.commands if behaviour is not None else ())),
    ]
    events.sort(key=lambda event: event[0])
    left_out = max(len(events) - MOST_EVENTS, 0)
    if left_out:
        yield f"- {left_out} earlier events are in the evidence file"
    # The last events are those before the alarm.
    yield from (f"- {at:.1f} s: {_code(words)}" for at, words in events[left_out:])


def _material(folder: RunFolder, trial: TrialResult | None) -> Iterator[str]:
    yield "- `alarms.jsonl`, `plan.json`, `seals.jsonl`: the records of the run, next to this file"
    if trial is not None and trial.evidence is not None:
        yield f"- evidence of the trial: {_code(trial.evidence)}, sha256 `{trial.evidence_sha256}`"
    if trial is not None and trial.log is not None:
        yield f"- the whole conversation, in Inspect's log: {_code(trial.log)}"
    yield f"- `redline verify {_code(folder.root.name).strip('`')}` checks the records; keep the folder unchanged"


def _evidence(folder: RunFolder, trial: TrialResult) -> Evidence | None:
    """Return the evidence of a trial; None if it cannot be read."""
    if trial.evidence is None:
        return None
    with suppress(OSError, ValueError, EvidenceError):
        content = folder.files.read(trial.evidence)
        strict_json(content)
        return Evidence.model_validate_json(content)
    return None


def _code(text: object) -> str:
    """Return text from a run as inert Markdown code on one line."""
    return f"`{clean_line(text, LONGEST).replace('`', chr(39)) or ' '}`"
