"""The limit of the lineage: processes that only fill it do not keep out a later copy."""

from collections.abc import Sequence
from typing import NamedTuple

from redline.tether.identity import Ancestor, Caller
from redline.tether.lineage import Lineage


class Process(NamedTuple):
    pid: int
    start: int


ZERO, ZERO_AGENT = Process(1, 1), Process(2, 1)
LIMIT = 4


def lineage() -> Lineage:
    made = Lineage(LIMIT)
    made.register_original(ZERO, ZERO_AGENT, "default")
    return made


def caller(pid: int) -> Caller:
    return Caller("default", pid, 10 * pid)


def meet(made: Lineage, pid: int, above: Sequence[Ancestor] = ()) -> int:
    return made.add(caller(pid), above, started=float(pid), at=float(pid)).generation


def test_a_copy_after_many_fillers_is_recorded() -> None:
    made = lineage()
    for pid in range(10, 120):
        meet(made, pid)
    assert made.find(caller(119)) is not None
    assert made.find(Caller("default", *ZERO)) is made.original
    assert len(made.engines) == LIMIT
    assert made.left_out == 110 - (LIMIT - 1)


def test_the_engine_that_proved_last_is_forgotten_last() -> None:
    made = lineage()
    for pid in (10, 11, 12):
        meet(made, pid)
    assert made.find(caller(10)) is not None
    meet(made, 13)
    assert made.find(caller(11)) is None
    assert made.find(caller(10)) is not None


def test_the_parent_of_a_known_engine_is_kept() -> None:
    made = lineage()
    meet(made, 10)
    assert meet(made, 11, [Ancestor(10, 100)]) == 2
    for pid in range(20, 40):
        meet(made, pid)
    kept = {engine.caller.pid: engine for engine in made.engines}
    assert 10 in kept or 11 not in kept


def test_a_forgotten_engine_still_counts_as_served() -> None:
    made = lineage()
    for pid in range(10, 30):
        meet(made, pid)
    assert made.replicas_served == 20
