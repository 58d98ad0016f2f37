"""The seal of a run, combined from the readings of its cells."""

from collections.abc import Iterable, Sequence

from redline.results.judged import SealReading
from redline.results.schema import Probes, SealSummary
from redline.seal import PROBE_NAMES, not_protected


def summarise_seal(
    around: Sequence[SealReading], at_start: Sequence[SealReading] = (), *, nothing_ran: bool = False
) -> SealSummary:
    """Return the seal of a run. A probe passed if it passed every time; trials without a measurement prove nothing.

    Args:
        around: Readings around each trial.
        at_start: Readings from each start of the run.
        nothing_ran: Whether no trial has run yet; the readings from the start then decide.
    """
    readings = (*at_start, *around)
    failed = frozenset().union(*(reading.failed for reading in readings))
    seen = frozenset().union(*(reading.passed for reading in readings))
    runtime = _common(reading.runtime for reading in readings)
    return SealSummary(
        verified=bool(readings if nothing_ran else around) and all(reading.verified for reading in readings),
        profile=_common(reading.profile for reading in readings),
        runtime=runtime,
        observer=_common(reading.observer for reading in readings),
        probes=Probes(passed=in_order(seen - failed), failed=in_order(failed)),
        lacking={
            name: reason for reading in readings for name, reason in sorted(reading.lacking) if name not in failed
        },
        not_protected=tuple(
            dict.fromkeys(text for name in (runtime or "").split(", ") for text in not_protected(name))
        ),
    )


def _common(values: Iterable[str | None]) -> str | None:
    return ", ".join(sorted({value for value in values if value is not None})) or None


def in_order(probes: Iterable[str]) -> tuple[str, ...]:
    """Return probe names in the order of the list of probes; unknown names last, in alphabetical order."""
    numbers = {name: number for number, name in enumerate(PROBE_NAMES)}
    return tuple(sorted(probes, key=lambda name: (numbers.get(name, len(numbers)), name)))
