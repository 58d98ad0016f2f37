"""The number of cells that may run now."""

from hypothesis import given
from hypothesis import strategies as st

from redline.run.cell_budget import CellBudget, figures
from redline.run.room import SPARE_MIB

BUSY_MIB = 400.0


class Host:
    """A host whose use is given, and a clock that advances by an interval at each reading."""

    def __init__(self, used: float = 0.0, available: int = 24_000) -> None:
        self.used, self.available, self.now = used, available, 0.0

    def processors(self) -> float:
        return self.used

    def available_mib(self) -> int:
        return self.available

    def clock(self) -> float:
        self.now += figures().interval
        return self.now


def budget_on(host: Host, first: int = 20, most: int = 100) -> CellBudget:
    return CellBudget(first, most, BUSY_MIB, host, host.clock)


def test_cells_are_added_while_all_of_them_wait() -> None:
    host = Host(used=0.1)
    budget = budget_on(host)
    for _ in range(100):
        budget.update(budget.allowed)
    assert budget.allowed == 100


def test_a_busy_host_gets_no_cells_and_loses_only_the_added_ones() -> None:
    host = Host(used=1.0)
    budget = budget_on(host)
    budget.update(20)
    assert budget.allowed == 20
    host.used = 0.1
    budget.update(20)
    assert budget.allowed == 20 + figures().step
    host.used = 1.0
    for _ in range(10):
        budget.update(budget.allowed)
    assert budget.allowed == 20


def test_cells_that_are_allowed_but_not_used_add_none() -> None:
    budget = budget_on(Host(used=0.1))
    budget.update(19)
    assert budget.allowed == 20


def test_new_cells_are_counted_as_busy() -> None:
    host = Host(available=SPARE_MIB + int(figures().step * BUSY_MIB) - 1)
    budget = budget_on(host)
    budget.update(20)
    assert budget.allowed == 20
    host.available += 1
    budget.update(20)
    assert budget.allowed == 20 + figures().step


def test_without_spare_memory_fewer_cells_than_now_are_allowed() -> None:
    budget = budget_on(Host(available=SPARE_MIB - 1))
    budget.update(12)
    assert budget.allowed == 12 - figures().step
    budget.update(2)
    assert budget.allowed == 1


def test_the_host_is_read_once_per_interval() -> None:
    host = Host(used=0.1)
    budget = CellBudget(20, 100, BUSY_MIB, host, lambda: 0.0)
    budget.update(20)
    assert budget.allowed == 20


@given(
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 30_000), st.integers(0, 200)), max_size=60),
    st.integers(1, 50),
    st.integers(1, 200),
)
def test_the_number_stays_between_one_and_the_maximum(
    readings: list[tuple[float, int, int]], first: int, most: int
) -> None:
    host = Host()
    budget = budget_on(host, first, most)
    for host.used, host.available, running in readings:
        budget.update(running)
        assert 1 <= budget.allowed <= max(first, most)
        if budget.is_fixed:
            assert budget.allowed == first
