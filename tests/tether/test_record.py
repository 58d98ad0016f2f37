from hypothesis import given
from hypothesis import strategies as st

from redline.tether.caps import Caps, RecordLimits, refusal_words
from redline.tether.record import BoundedLog, CallRecord, EngineRecord, Incident, TetherRecord

EVIDENCE_SHARE = 160 * 1024
"""Maximum bytes of the tether in a trial's evidence."""


@given(st.integers(1, 20), st.integers(0, 60))
def test_a_full_log_keeps_the_first_and_the_last_entries_in_order(limit: int, count: int) -> None:
    log: BoundedLog[int] = BoundedLog(limit)
    for entry in range(count):
        log.add(entry)
    kept = log.entries
    assert len(kept) == min(limit, count)
    assert len(kept) + log.left_out == count
    first = limit - limit // 2
    assert kept == (*range(min(first, count)), *range(max(first, count - limit // 2), count))


def test_a_full_record_fits_the_evidence() -> None:
    limits = RecordLimits.default()
    call = CallRecord(
        at=12345.6789,
        seconds=12.3456,
        phase="verify",
        node="default",
        pid=4_000_000,
        start=99_999_999,
        generation=3,
        ticket="t" * 32,
        mode="whole",
        proof_ok=True,
        proof_seconds=1.2345,
        by_model=False,
        tokens=10_000,
        refusal="sender_changed",
        detail="d" * 40,
    )
    engine = EngineRecord(
        node="default",
        pid=4_000_000,
        start=99_999_999,
        generation=5,
        parent=4_000_000,
        descent="ancestry",
        first_seen=12345.6789,
        refused="replica_cap",
        calls=100,
        spot_proofs=100,
        whole_proofs=100,
        tokens=100_000,
    )
    incident = Incident(at=12345.6789, kind="sender_changed", node="default", pid=4_000_000, detail="d" * 160)
    record = TetherRecord(
        calls=(call,) * limits.calls,
        calls_left_out=1,
        engines=(engine,) * limits.engines,
        engines_left_out=1,
        incidents=(incident,) * limits.incidents,
        incidents_left_out=1,
        counters={f"counter_{i}": 10**6 for i in range(60)},
    )
    assert len(record.model_dump_json()) < EVIDENCE_SHARE
    assert TetherRecord.model_validate_json(record.model_dump_json()) == record


def test_caps_can_be_changed_and_a_misspelt_cap_is_refused() -> None:
    assert Caps.default(replicas=0).replicas == 0
    for wrong in ({"replica": 1}, {"replicas": -1}, {"message_seconds": 0}):
        try:
            Caps.default(**wrong)
        except ValueError:
            continue
        raise AssertionError(wrong)


def test_an_unknown_refusal_has_no_message() -> None:
    try:
        refusal_words("whatever")
    except KeyError:
        return
    raise AssertionError
