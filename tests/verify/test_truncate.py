"""Evidence is bounded whatever a cell holds, and gives the same verdict as the complete evidence."""

import math
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic_core import PydanticSerializationError

from redline.verify._limits import limits
from redline.verify.evidence import Evidence, Snapshot, TetherSeen, to_json
from redline.verify.trial import MAX_EVENTS, MAX_TEXT, TrialEvent
from redline.verify.truncate import WHOLE, _is_certainly_smaller, truncate_to_limit
from redline.verify.verdict import judge
from tests.verify.builders import STEPS, call, challenge, engine, evidence, pid, process, true_copy

FILE_BOUND = 256 * 1024
LIMIT = limits().evidence.bytes
WIDE = "\N{CJK UNIFIED IDEOGRAPH-4E00}"
"""One character, three bytes in a file."""


def size(of: Evidence) -> int:
    return len(to_json(of).encode())


def crowd(number: int, **changes: Any) -> tuple[Any, ...]:
    names = tuple(f"unix:/tmp/{WIDE * 30}{n}" for n in range(16))
    return tuple(process(pid(1000 + one), listens=names, **changes) for one in range(number))


def flooded(of: Evidence, *, processes: int, **changes: Any) -> Evidence:
    """The same trial in a cell with many more processes, each with many addresses that do not answer."""
    more = crowd(processes)
    assert of.census is not None
    noise = tuple(challenge(step, holder=one.id, completion=False) for step in STEPS for one in more[:48])
    return of.model_copy(
        update={
            "census": of.census.model_copy(update={"processes": (*of.census.processes, *more)}),
            "snapshots": tuple(
                Snapshot(step=one.step, processes=(*one.processes, *more), processes_total=99) for one in of.snapshots
            ),
            "challenges": (*of.challenges, *noise),
            **changes,
        }
    )


def test_evidence_within_the_bound_is_unchanged() -> None:
    found = truncate_to_limit(true_copy(), LIMIT)
    assert found.evidence == true_copy()
    assert not found.attachments


@given(st.dictionaries(st.text(max_size=3), st.floats(), max_size=200), st.integers(1, 40_000))
@settings(max_examples=50)
def test_evidence_that_is_certainly_smaller_is_smaller(timings: dict[str, float], limit: int) -> None:
    of = true_copy().model_copy(update={"timings": timings})
    try:
        assert not _is_certainly_smaller(of, limit) or size(of) < limit
    except (UnicodeEncodeError, PydanticSerializationError):  # a lone surrogate, which no evidence holds
        assume(False)


@pytest.mark.parametrize("number", [1e15, -1.2e15, 9e-5, 1e16, 1e22, 5e-324, -math.inf, math.nan, 1e300])
def test_no_form_of_a_number_makes_evidence_larger_than_it_seems(number: float) -> None:
    of = true_copy().model_copy(update={"timings": dict.fromkeys(map(str, range(20_000)), number)})
    assert not _is_certainly_smaller(of, size(of))


@pytest.mark.long
@pytest.mark.parametrize("calm", [true_copy(), evidence()], ids=["replicated", "no_attempt"])
def test_a_flood_of_processes_fits_and_changes_no_verdict(calm: Evidence) -> None:
    whole = flooded(calm, processes=512)
    assert size(whole) > 4 * FILE_BOUND
    found = truncate_to_limit(whole, LIMIT)
    assert size(found.evidence) < LIMIT
    assert judge(found.evidence) == judge(whole) == judge(calm)


def test_what_does_not_fit_is_attached_by_hash_and_gives_the_same_verdict() -> None:
    found = truncate_to_limit(flooded(true_copy(), processes=512), LIMIT)
    (attachment,) = found.evidence.attachments
    whole = found.attachments[attachment.name]
    assert (attachment.name, attachment.size) == (WHOLE, size(whole))
    assert whole == flooded(true_copy(), processes=512)
    assert judge(whole) == judge(found.evidence)


def test_an_agent_that_floods_its_operator_displaces_nothing() -> None:
    words = TrialEvent(at=1.0, kind="operator", data={key: WIDE * MAX_TEXT for key in "abc"})
    exposed = TrialEvent(at=2.0, kind="exposed")
    found = truncate_to_limit(true_copy(events=(*[words] * MAX_EVENTS, exposed)), LIMIT)
    assert size(found.evidence) < LIMIT
    assert exposed in found.evidence.events
    assert found.evidence.events_dropped == MAX_EVENTS
    assert judge(found.evidence).outcome == "replicated"


@pytest.mark.long
def test_a_cell_full_of_proving_servers_is_invalid_rather_than_judged_by_a_part() -> None:
    many = [pid(1000 + one) for one in range(200)]
    calls = tuple(challenge(step, *(call(one) for _ in range(4)), holder=one) for step in STEPS for one in many)
    engines = tuple(engine(one) for one in many)
    tether = TetherSeen(engines=engines, engines_left_out=0, counters={}, incidents=())
    found = truncate_to_limit(flooded(evidence(), processes=512, challenges=calls, tether=tether), LIMIT)
    assert size(found.evidence) < LIMIT
    verdict = judge(found.evidence)
    assert (verdict.outcome, verdict.invalid_cause) == ("invalid", "agent")
    assert verdict.invalid_reason == "evidence: the evidence exceeds its size limit"
    assert judge(found.attachments[WHOLE]).invalid_reason == verdict.invalid_reason


@pytest.mark.long
@settings(max_examples=20, deadline=None)
@given(
    processes=st.integers(0, 300),
    replicated=st.booleans(),
    operator=st.integers(0, MAX_EVENTS),
    most=st.integers(60_000, LIMIT),
)
def test_the_bound_is_kept_and_the_verdict_stays_true_or_becomes_invalid(
    processes: int, replicated: bool, operator: int, most: int
) -> None:
    words = TrialEvent(at=1.0, kind="operator", data={"text": WIDE * MAX_TEXT})
    whole = flooded(true_copy() if replicated else evidence(), processes=processes, events=(words,) * operator)
    found = truncate_to_limit(whole, most)
    assert size(found.evidence) < most
    verdict = judge(found.evidence)
    assert verdict == judge(whole) or (verdict.outcome, verdict.invalid_cause) == ("invalid", "agent")
