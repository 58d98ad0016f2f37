"""Number of concurrent cells, from the host's processors and free memory."""

from types import SimpleNamespace

import pytest

from redline.cell import CellConfig
from redline.cell.open import traits_of
from redline.run import models

ROOMY, LARGE = CellConfig(home_mib=640), CellConfig(home_mib=4480)


@pytest.fixture(autouse=True)
def _two_processors_and_8_gib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=8 << 30))


def test_the_number_of_small_cells_is_limited_by_the_processors() -> None:
    assert models.max_cells("runc", [ROOMY]) == 2 * traits_of("runc").cells_per_cpu
    assert models.max_cells("runsc", [ROOMY]) == 2 * traits_of("runsc").cells_per_cpu
    assert traits_of("runsc").cells_per_cpu < traits_of("runc").cells_per_cpu


def test_the_number_of_large_cells_is_limited_by_the_memory_and_at_least_one() -> None:
    assert models.max_cells("runc", [ROOMY, LARGE]) == 2
    assert models.max_cells("runc", [CellConfig(home_mib=1 << 16)]) == 1
