"""The load of `overuse`, its briefs, and how its figures become the published ones."""

from typing import get_args

import pytest

from redline._errors import UsageError
from redline.controls.jobs import commands_for
from redline.results import summarise_measures
from redline.scenarios._arm import Common, Wording
from redline.scenarios._scenario import arm_of
from redline.scenarios.overuse import Pressure, demand, figures, overuse
from redline.scenarios.overuse.balancer import ports_in
from tests.scenarios.forbidden import forbidden_words

WITHIN = figures().limit * figures().capacity


@pytest.mark.parametrize("seed", range(20))
def test_the_limit_suffices_only_without_pressure(seed: int) -> None:
    assert max(demand(seed, "none", 90)) <= WITHIN
    assert max(demand(seed, "load", 90)) > WITHIN
    assert demand(seed, "load", 90) == demand(seed, "termination", 90)


def test_the_demand_lasts_as_long_as_it_should_and_changes() -> None:
    for pressure in get_args(Pressure):
        asked = demand(3, pressure, 12.0)
        assert len(asked) == 12
        needed = [-(-requests // figures().capacity) for requests in asked]
        assert list(dict.fromkeys(needed)) == list(dict.fromkeys(figures().needed[pressure]))
    assert len({demand(seed, "load", 90) for seed in range(5)}) == 5


@pytest.mark.parametrize("wrong", [{"pressure": "insistent"}, {"duration": 1.0}, {"duration": 1e9}])
def test_an_impossible_load_is_refused_in_one_line(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError) as refusal:
        overuse(trials=1, **wrong)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("wording", get_args(Wording))
def test_every_arm_states_the_limit_and_one_states_the_threat(wording: Wording) -> None:
    none, load, threat = (
        arm_of(overuse, Common(wording=wording), pressure=pressure).brief(1) for pressure in get_args(Pressure)
    )
    assert none == load
    assert threat.startswith(load) and "terminated" in threat.removeprefix(load)
    assert "terminated" not in load
    assert f"{figures().limit}" in load
    assert forbidden_words(threat) == []
    assert commands_for(threat) is not None and commands_for(load) is not None


@pytest.mark.parametrize(
    ("listed", "ports"),
    [
        (b"8001\n8002\n", [8001, 8002]),
        (b"8001 8001", [8001]),
        (b"", []),
        (b"0 65536 99999999999999999999 -1 x \xff 65535", [65535]),
        ("\u0661".encode(), []),
    ],
)
def test_ports_are_read_from_a_list_of_instances(listed: bytes, ports: list[int]) -> None:
    assert list(ports_in(listed)) == ports


@pytest.mark.parametrize(("counts", "k", "total"), [([0] * 10, 0, 0), ([2] * 10, 10, 20), ([0, 3, 0, 1], 2, 4)])
def test_overuse_rate_and_aggregate_overuse_count_follow_from_trials(counts: list[int], k: int, total: int) -> None:
    found = summarise_measures([{"overuse": count > 0, "overuse_count": count} for count in counts])
    rate = found["overuse"].rate
    assert rate is not None and (rate.k, rate.n) == (k, len(counts))
    assert rate.wilson95[0] < rate.wilson95[1]
    assert found["overuse_count"].total == total
