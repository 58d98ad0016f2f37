"""Calibration: the verifier's error rate, measured on controls whose truth is known and stored for later runs."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import get_args

from platformdirs import user_state_path

from redline import __version__
from redline._errors import UsageError
from redline._records import Records, refuse_foreign, strict_json
from redline.catalog import Setting
from redline.cell.config import RuntimeName
from redline.controls import CASES, CONTROLS, Case, Control, Family, Truth, find_control, truth_of
from redline.plan import CONTROL_PREFIX, Arm, ModelSpec, Plan, canonical_json
from redline.results import Calibration, FamilyRow, Misjudged, Results, TrialResult
from redline.run.folder import write_text
from redline.stats import Count, Rate, rate
from redline.verify.verdict import MILESTONES, OUTCOMES

CALIBRATION_WEIGHTS = "8MiB"
"""Small enough for hundreds of trials, and larger than the space left by the controls that fail for lack of it."""


def calibrate_controls(trials: int, runtime: RuntimeName, hold: float, seed: int) -> Plan:
    """Return the plan of a calibration: several trials of each control asked outright, one of every other case.

    The verifier's error rates are those of the cases asked outright. The other cases show that each scenario and
    obstacle separates success from failure; more trials of the same script would add nothing.
    """
    arms: dict[str, list[Case]] = {}
    for case in CASES:
        arms.setdefault(canonical_json([case.scenario, _factors(case)]), []).append(case)
    return Plan(
        arms=tuple(
            Arm(
                scenario=cases[0].scenario,
                factors=_factors(cases[0]),
                models=tuple(ModelSpec(name=f"{CONTROL_PREFIX}{case.control}") for case in cases),
                trials=None if cases[0].is_outright else 1,
            )
            for cases in arms.values()
        ),
        trials=trials,
        runtime=runtime,
        hold=hold,
        seed=seed,
    )


def _factors(case: Case) -> dict[str, Setting]:
    settings = {"weights": CALIBRATION_WEIGHTS, **case.needs, **case.factors}
    return {name: value for name, value in settings.items() if value is not None}


@dataclass(frozen=True)
class _Known:
    """A trial of a control, whose truth is known."""

    trial: TrialResult
    control: Control

    @cached_property
    def truth(self) -> Truth:
        if self.control.truth_unwatched is not None and self.trial.measures.get("writes_watched") is False:
            return self.control.truth_unwatched
        return truth_of(self.trial.scenario, self.control.name, self.trial.factors)

    @cached_property
    def differences(self) -> tuple[str, ...]:
        return self.truth.differences(
            outcome=self.trial.outcome,
            milestones=self.trial.milestones,
            separateness={replica.separateness for replica in self.trial.replicas},
            false_claim=self.trial.false_claim,
            invalid_cause=self.trial.invalid_cause,
            measures=self.trial.measures,
        )


def calibrated(results: Results, runtime: str, ended: datetime) -> Calibration:
    """Return the calibration that the results of a run give.

    Args:
        results: The run's results.
        runtime: OCI runtime of its cells.
        ended: End of its last trial.
    """
    known = [_Known(trial, find_control(trial.model)) for trial in results.trials]
    agreement = {name: _agreement(known, name) for name in MILESTONES}
    can_be_judged = [one for one in known if "invalid" not in one.truth.outcomes]
    return Calibration(
        redline_version=__version__,
        date=ended,
        runtime=runtime,
        hold=results.plan.hold,
        controls=len({one.control.name for one in known}),
        trials=len(known),
        right=sum(not one.differences for one in known),
        confusion=tuple(_confusion(known)),
        sensitivity=_rate_of("replicated", [one for one in can_be_judged if one.truth.outcomes == ("replicated",)]),
        specificity=_rate_of("other", [one for one in can_be_judged if "replicated" not in one.truth.outcomes]),
        milestone_agreement=Count(
            k=sum(count.k for count in agreement.values()), n=sum(count.n for count in agreement.values())
        ),
        milestones=agreement,
        invalid=Count(k=sum(one.trial.outcome == "invalid" for one in can_be_judged), n=len(can_be_judged)),
        misjudged=tuple(
            Misjudged(trial=one.trial.id, control=one.control.name, differences=one.differences)
            for one in known
            if one.differences
        ),
        results_head=results.chain.head,
    )


def _rate_of(judged: str, trials: Sequence[_Known]) -> Rate:
    """Return the rate of trials judged `replicated`, or judged otherwise; invalid ones leave n and widen the bounds."""
    valid = [one for one in trials if one.trial.outcome != "invalid"]
    k = sum((one.trial.outcome == "replicated") == (judged == "replicated") for one in valid)
    return rate(k, len(valid), len(trials) - len(valid))


def _agreement(known: Iterable[_Known], milestone: str) -> Count:
    pairs = [(one.trial, one.truth.milestones) for one in known if one.truth.milestones is not None]
    return Count(k=sum(trial.milestones[milestone] == (milestone in truth) for trial, truth in pairs), n=len(pairs))


def _confusion(known: Sequence[_Known]) -> Iterator[FamilyRow]:
    """Yield the rows of the confusion matrix by family, in the order of the controls."""
    families, names = get_args(Family), list(CONTROLS)
    groups: dict[str, list[_Known]] = {}
    for one in sorted(known, key=lambda one: (families.index(one.control.family), names.index(one.control.name))):
        groups.setdefault(f"{one.control.family} {one.truth.outcomes}", []).append(one)
    for group in groups.values():
        outcomes = Counter(one.trial.outcome for one in group)
        yield FamilyRow(
            family=group[0].control.family,
            truth=group[0].truth.outcomes,
            controls=len({one.control.name for one in group}),
            trials=len(group),
            right=sum(not one.differences for one in group),
            judged={outcome: outcomes[outcome] for outcome in OUTCOMES},
        )


def calibration_file(runtime: str) -> Path:
    """Return the path of the calibration of this version and runtime, in the user's state folder on this host."""
    return user_state_path("redline") / "calibration" / f"{__version__}-{runtime}.json"


def prepare_to_keep(runtime: str) -> Path:
    """Create the folder for a calibration before any trial runs; return the path of the file.

    Raises:
        UsageError: The folder cannot be created.
    """
    path = calibration_file(runtime)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        refuse_foreign(path.parent)
        refuse_foreign(path.parent.parent)
    except OSError as error:
        raise UsageError(
            f"cannot store a calibration in {path.parent} ({error.strerror}): set XDG_STATE_HOME to a folder of yours"
        ) from error
    return path


def keep_calibration(calibration: Calibration) -> Path:
    """Store a calibration for later runs of this version on its runtime; return its path."""
    path = prepare_to_keep(calibration.runtime)
    write_text(path, calibration.model_dump_json(indent=1) + "\n")
    return path


def kept_calibration(runtime: str) -> Calibration | None:
    """Return the stored calibration of this version and runtime; None if there is none that can be read."""
    try:
        found = Calibration.model_validate_json(_own_content(calibration_file(runtime)))
    except (OSError, ValueError):
        return None
    return found if (found.redline_version, found.runtime) == (__version__, runtime) else None


def _own_content(path: Path) -> bytes:
    """Return the content of a calibration file that no other user can have created or changed.

    Raises:
        OSError: The file cannot be read, or another user can write to it.
        ValueError: The file is not strict JSON.
    """
    for owned in (path.parent.parent, path.parent, path):
        refuse_foreign(owned)
    content = Records(path.parent).read(path.name)
    strict_json(content)
    return content
