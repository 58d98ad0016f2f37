"""Run a plan from a script or a notebook."""

import asyncio
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypedDict, Unpack

import anyio.lowlevel
from pydantic import ValidationError

from redline._errors import ExitCode, UsageError
from redline._names import one_line, unknown
from redline._text import LONGEST_LINE, clean_line
from redline.analysis.loaded import LoadedRun
from redline.analysis.tables import missing
from redline.catalog import Setting
from redline.plan import ModelSpec, Plan, arms_from, models_from
from redline.plan_file import PLAN_SUFFIXES, read_plan
from redline.report import read_run, report_on, write_page
from redline.run import RunFolder, RunOptions, RunOutcome, Watcher, run_plan
from redline.run.interrupts import Relay, relay_of_run
from redline.run.watch import Spent

POLL_SECONDS = 0.2
"""Interval at which the caller's thread checks whether the run has ended."""

LINE_SECONDS = 10.0
"""Minimum time between two lines of progress."""

MAX_REQUESTS = 3
"""The third Ctrl-C returns to the caller at once, even if the run has not ended."""


class PlanSettings(TypedDict, total=False):
    """Settings of a plan that `run` accepts by name; `redline.api.Plan` documents them."""

    trials: int
    runtime: str
    seed: int
    hold: float
    temperature: float
    max_tokens: int
    max_cost: float


class StderrWatcher:
    """Print the progress of a run to stderr, in lines that are at least some seconds apart."""

    def __init__(self) -> None:
        """Initialise empty totals."""
        self._planned = 0
        self._outcomes: Counter[str] = Counter()
        self._last = time.monotonic()

    def checked(self, line: str) -> None:
        """Print the result of a preflight."""
        print_line(line)

    def sealing(self, runtime: str) -> None:
        """Print nothing: measuring the seal takes only a few seconds."""

    def sealed(self, summary: str, seconds: float) -> None:
        """Print the result of the seal measurement."""
        print_line(f"{summary}, in {seconds:.1f} s")

    def began(self, planned: int, finished: int, cells: int) -> None:
        """Print the number of trials."""
        self._planned = planned - finished
        self._outcomes.clear()
        print_line(f"{planned} trials, {finished} of them finished, up to {cells} concurrently")

    def judged(self, trial: str, outcome: str, spent: Spent) -> None:
        """Print the outcomes so far, unless a line was printed just before."""
        self._outcomes[outcome] += 1
        if time.monotonic() - self._last >= LINE_SECONDS:
            self._print_outcomes()

    def waiting(self, model: str, seconds: float, fault: str) -> None:
        """Print a wait for a model, unless a line was printed just before."""
        if seconds and time.monotonic() - self._last >= LINE_SECONDS:
            self._last = time.monotonic()
            print_line(f"waiting for the model {model} for {seconds:.0f} s: {fault}")

    def ended(self) -> None:
        """Print the outcomes."""
        self._print_outcomes()

    def note(self, line: str) -> None:
        """Print a line for the user."""
        print_line(line)

    def _print_outcomes(self) -> None:
        self._last = time.monotonic()
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self._outcomes.items())) or "none"
        print_line(f"{self._outcomes.total()} of {self._planned} trials: {counts}")


def print_line(text: str) -> None:
    """Print one line to stderr, without control characters from quoted text."""
    print(f"redline: {clean_line(text, LONGEST_LINE)}", file=sys.stderr, flush=True)


def run(
    what: str | os.PathLike[str] | Sequence[str] | Plan,
    *,
    models: str | ModelSpec | Sequence[str | ModelSpec] = (),
    factors: Mapping[str, Setting | Sequence[Setting]] | None = None,
    out: str | os.PathLike[str] = "out/run",
    options: RunOptions | None = None,
    watcher: Watcher | None = None,
    **settings: Unpack[PlanSettings],
) -> LoadedRun:
    """Run every trial of a plan and judge each one from its evidence.

    The call also works while an event loop is running, as in a notebook: the run then has a thread and a loop of its
    own, and the call blocks until it ends. The first Ctrl-C lets running trials finish, the second one cancels them,
    and the call raises KeyboardInterrupt after it has written the results. The same call completes an interrupted run.

    Args:
        what: One or several scenarios, a plan file (`.yaml` or the name of a shipped plan), or a plan.
        models: Models or controls in Inspect's notation, such as `openai/gpt-4o` or `redline/replicator`.
        factors: Settings of the scenarios' factors by name. A list of settings makes one arm per setting.
        out: Folder of the run.
        options: Options that do not belong to the plan.
        watcher: Receives the progress. By default, it is printed to stderr.
        **settings: Settings of the plan, such as `trials`, `runtime` and `seed`.

    Returns:
        The run with its results. `exit_code` and `remarks` are those of the command.

    Raises:
        UsageError: The plan, a model or the folder cannot be used.
        EvidenceError: A record in the folder is altered.
        KeyboardInterrupt: The user stopped the run.
    """
    plan = _plan(what, models, factors or {}, settings)
    folder = RunFolder(Path(out))
    _refuse_incomplete_notebook()

    def complete() -> LoadedRun:
        outcome = run_plan(plan, folder, watcher or StderrWatcher(), options)
        return _loaded(folder, outcome)

    return _in_own_thread(complete) if _in_event_loop() else complete()


def _loaded(folder: RunFolder, outcome: RunOutcome) -> LoadedRun:
    """Write the report, and return the run as its folder shows it; a run that the user stopped raises."""
    record = read_run(folder.root)
    write_page(report_on([record]), folder.report, [folder.root])
    for remark in outcome.remarks:
        print_line(remark)
    if outcome.exit_code == ExitCode.INTERRUPTED:
        raise KeyboardInterrupt
    return LoadedRun(folder.root, record, outcome.results, exit_code=outcome.exit_code, remarks=outcome.remarks)


def _plan(
    what: str | os.PathLike[str] | Sequence[str] | Plan,
    models: str | ModelSpec | Sequence[str | ModelSpec],
    factors: Mapping[str, Setting | Sequence[Setting]],
    settings: Mapping[str, Any],
) -> Plan:
    if wrong := next((name for name in settings if name not in PlanSettings.__annotations__), None):
        raise UsageError(unknown("setting", wrong, PlanSettings.__annotations__))
    given = [models] if isinstance(models, str | ModelSpec) else list(models)
    changes: dict[str, Any] = dict(settings)
    try:
        if given:
            changes["models"] = [_model(one).model_dump() for one in given]
        if isinstance(what, Plan):
            _refuse_factors(factors)
            return Plan.model_validate(what.model_dump(by_alias=True) | changes)
        names = [os.fspath(what)] if isinstance(what, str | os.PathLike) else list(what)
        if any(name.endswith(PLAN_SUFFIXES) for name in names):
            _refuse_factors(factors)
            if len(names) > 1:
                raise UsageError("a plan file defines its own scenarios; remove the others")
            return read_plan(Path(names[0]), changes)
        if not given:
            raise UsageError('no model given; add models=["NAME"], for example models=["redline/replicator"]')
        return Plan.model_validate({"arms": arms_from(names, list(_assignments(factors))), **changes})
    except ValidationError as error:
        raise UsageError(f"bad plan: {one_line(error)}") from error


def _model(model: str | ModelSpec) -> ModelSpec:
    return model if isinstance(model, ModelSpec) else models_from([model], [])[0]


def _refuse_factors(factors: Mapping[str, object]) -> None:
    if factors:
        raise UsageError("a plan defines its own factors; remove factors=")


def _assignments(factors: Mapping[str, Setting | Sequence[Setting]]) -> Iterator[str]:
    for name, value in factors.items():
        for setting in [value] if isinstance(value, str) or not isinstance(value, Sequence) else value:
            yield f"{name}={str(setting).lower() if isinstance(setting, bool) else setting}"


def _refuse_incomplete_notebook() -> None:
    """Refuse a notebook without the package that Inspect needs there."""
    from inspect_ai._util.platform import running_in_notebook  # not exported

    if running_in_notebook() and find_spec("ipywidgets") is None:
        raise UsageError(missing("ipywidgets"))


def _in_event_loop() -> bool:
    """Whether an event loop of asyncio or Trio is running in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        try:
            anyio.lowlevel.current_token()
        except RuntimeError:
            return False
    return True


def _in_own_thread(function: Callable[[], LoadedRun]) -> LoadedRun:
    """Call a function in a thread with an event loop of its own, and pass Ctrl-C on to it."""
    relay = Relay()
    returned: list[LoadedRun] = []
    raised: list[BaseException] = []

    def work() -> None:
        relay_of_run.set(relay)
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)  # in a notebook, Inspect runs its coroutines in the loop of the thread
        try:
            returned.append(function())
        except BaseException as error:
            raised.append(error)
        finally:
            asyncio.set_event_loop(None)
            loop.close()

    # A daemon, so that it cannot keep the interpreter alive after the caller has given up.
    worker = threading.Thread(target=work, name="redline-run", daemon=True)
    worker.start()
    with _passing_on(relay):
        while worker.is_alive() and relay.requests < MAX_REQUESTS:
            worker.join(POLL_SECONDS)
    if raised:
        raise raised[0]
    if not returned or relay.requests:
        raise KeyboardInterrupt
    return returned[0]


@contextmanager
def _passing_on(relay: Relay) -> Iterator[None]:
    """Pass Ctrl-C on while the block runs; a thread other than the main thread receives no signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, lambda *_: relay.interrupt())
    try:
        yield
    finally:
        # None: the handler was not installed from Python and cannot be restored.
        signal.signal(signal.SIGINT, signal.default_int_handler if before is None else before)
