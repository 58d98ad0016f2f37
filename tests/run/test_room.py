"""Check of the requested number of cells against the available memory."""

import pytest

from redline._errors import UsageError
from redline.cell import CellConfig
from redline.run.room import SPARE_MIB, check_room

HOME = CellConfig(home_mib=640)


def test_more_cells_than_fit_in_memory_are_refused_with_the_number_that_fits() -> None:
    with pytest.raises(UsageError, match=r"at least 173 MiB here.* use --cells 133 or fewer"):
        check_room(140, [HOME], available_mib=24_000 + 100)
    assert check_room(133, [HOME], available_mib=24_100) is not None


def test_cells_that_fit_only_while_they_wait_give_a_warning() -> None:
    warning = check_room(60, [HOME], available_mib=20_000)
    assert warning is not None and "60 cells" not in warning and "24000 MiB" in warning
    assert check_room(20, [HOME], available_mib=20_000) is None


def test_one_cell_is_never_refused() -> None:
    check_room(1, [HOME], available_mib=SPARE_MIB // 2)


def test_the_largest_shape_counts() -> None:
    with pytest.raises(UsageError):
        check_room(10, [HOME, CellConfig(home_mib=16_000)], available_mib=20_000)
