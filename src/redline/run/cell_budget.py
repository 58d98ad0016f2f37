"""How many cells may run at once: few where trials compute, many where they wait for their models.

A trial that waits for its model uses no processor time and a part of a busy cell's memory. So the number starts at the
host's size and follows what the host has left.
"""

import time
import tomllib
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Protocol

import psutil

from redline._base import Frozen
from redline.run.room import SPARE_MIB


class Figures(Frozen):
    """Figures of the budget."""

    interval: float
    """Time between two readings of the host, in seconds."""
    step: int
    """Number of cells by which the budget changes at a reading."""
    add_below: float
    """Share of the processors in use below which cells are added."""
    remove_above: float
    """Share of the processors in use above which added cells are taken back."""


@cache
def figures() -> Figures:
    """Return the figures of the package's data file."""
    return Figures.model_validate(tomllib.loads(files("redline.run").joinpath("data/cell_budget.toml").read_text()))


class HostUse(Protocol):
    """What is in use on the host."""

    def processors(self) -> float:
        """Return the share of all processors in use since the previous call, from 0 to 1."""
        ...

    def available_mib(self) -> int:
        """Return the available memory, in MiB."""
        ...


class MeasuredUse:
    """What is in use on this host, by all its processes."""

    def __init__(self) -> None:
        """Begin to measure."""
        psutil.cpu_percent()

    def processors(self) -> float:
        """Return the share of all processors in use since the previous call, from 0 to 1."""
        return psutil.cpu_percent() / 100

    def available_mib(self) -> int:
        """Return the available memory, in MiB."""
        return int(psutil.virtual_memory().available >> 20)


class CellBudget:
    """The number of cells that may run now, between a first number and a maximum."""

    def __init__(
        self,
        first: int,
        most: int,
        cell_mib: float = 0.0,
        host: HostUse | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Allow the first number of cells.

        Args:
            first: Number of cells at the start, which is never taken back for want of processor time.
            most: Maximum number of cells; equal to `first` if the number is fixed.
            cell_mib: Memory of a busy cell, in MiB.
            host: What is in use; None measures this host.
            clock: A clock in seconds.
        """
        self.most = max(first, most)
        self.allowed = first
        self._first = first
        self._cell_mib = cell_mib
        self._clock = clock
        self._read_at = clock()
        self._host = host or MeasuredUse()

    @classmethod
    def fixed(cls, cells: int) -> "CellBudget":
        """Return a budget that never changes."""
        return cls(cells, cells)

    @property
    def is_fixed(self) -> bool:
        """Whether the number never changes."""
        return self._first == self.most

    def update(self, running: int) -> None:
        """Follow the host, at most once per interval.

        Cells are added only if all that are allowed are running, since only then does the number limit the run. New
        cells are counted as busy, because a trial starts with work.

        Args:
            running: Number of trials that run now.
        """
        if self.is_fixed or self._clock() - self._read_at < figures().interval:
            return
        self._read_at = self._clock()
        step, used, available = figures().step, self._host.processors(), self._host.available_mib()
        if available < SPARE_MIB:
            self.allowed = max(1, min(self.allowed, running) - step)
        elif used > figures().remove_above:
            self.allowed = max(min(self._first, self.allowed), self.allowed - step)
        elif used < figures().add_below and running >= self.allowed and self._fit(step, available):
            self.allowed = min(self.most, self.allowed + step)

    def _fit(self, cells: int, available_mib: int) -> bool:
        return available_mib - SPARE_MIB >= cells * self._cell_mib
