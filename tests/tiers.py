"""Parameters that `make test` leaves to `make test-all`, by the marker `long`."""

from collections.abc import Container, Iterable
from typing import Any

import pytest


def long_except(kept: Container[Any], parameters: Iterable[Any]) -> list[Any]:
    """Return the parameters, all but some of them marked as long."""
    return [one if one in kept else pytest.param(one, marks=pytest.mark.long) for one in parameters]
