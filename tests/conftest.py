"""Fixtures of all tests, and the selection of tests by available runtimes."""

import functools
import gc
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

# Many images of Python set PYTHONDONTWRITEBYTECODE. Each worker and each command that a test starts would then compile
# redline again, and each worker would rewrite the assertions of all test files again.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

from redline._memory import prepare_memory

prepare_memory()

# ruff: noqa: E402 - the imports below are the first that profit from both
import vl_convert
from hypothesis import HealthCheck, settings

from redline.cell.open import DEFAULT_VARIABLE, find_runtime, unusable

LONGEST = (
    "controls/test_truth.py",
    "run/test_hostile_folders.py",
    "controls/test_runtimes.py",
    "run/test_interrupt.py",
    "run/test_ray.py",
    "hosts/test_places.py",
    "run/test_waiting.py",
    "controls/test_cases.py",
    "test_real_model.py",
    "verify/test_inside.py",
    "scenarios/test_full_seal.py",
    "fuzz/test_fuzz.py",
)
"""Files that take longest, which are started first so that no worker ends long after the others."""

DRAW = vl_convert.vegalite_to_svg
OPTIONAL = ("runsc", "docker", "browser", "ray")
"""Optional programs and packages; the tests that need one have its name as a marker."""

# How long an example takes depends on the load of the host.
settings.register_profile("usual", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=100)
settings.register_profile("quick", settings.get_profile("usual"), max_examples=20)
settings.register_profile("thorough", settings.get_profile("usual"), max_examples=200)
settings.load_profile("usual")

os.environ.pop("COLUMNS", None)  # a worker of pytest-xdist has it; what is printed must not depend on it
os.environ.setdefault(DEFAULT_VARIABLE, "runc")  # for tests that choose no runtime, and their child processes


@pytest.fixture(scope="session", autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep calibrations of the tests apart from those of the user who runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _known_packages() -> Iterator[None]:
    """Read the list of installed packages once. Inspect reads it for every run of a task that is not in a package."""
    # Importing Inspect takes seconds, and the process that only distributes tests to workers does not need it.
    from inspect_ai._util import package

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(package, "packages_distributions", functools.cache(metadata.packages_distributions))
        yield


@pytest.fixture(scope="session", autouse=True)
def _known_charts() -> Iterator[None]:
    """Draw equal charts once: many tests render a page of the same few trials."""
    drawn: dict[str, str] = {}

    def known(chart: dict[str, Any]) -> str:
        key = json.dumps(chart, sort_keys=True)
        if key not in drawn:
            drawn[key] = DRAW(chart)
        return drawn[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vl_convert, "vegalite_to_svg", known)
        yield


@pytest.fixture
def every_chart_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw equal charts again, for tests that compare them."""
    monkeypatch.setattr(vl_convert, "vegalite_to_svg", DRAW)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def why_missing(name: str) -> str | None:
    if name == "browser":
        from redline.report.pdf import find_browser

        return None if find_browser() else "no Chromium is installed"
    if name == "ray":
        if find_spec("ray") is None:
            return "Ray is not installed"
        return None if os.geteuid() == 0 else "a network namespace for the cluster needs root"
    found = find_runtime("runsc" if name == "runsc" else "docker")
    return f"{name} is not installed" if found is None else unusable(found)


CASES: pytest.StashKey[Counter[object]] = pytest.StashKey()
"""Collected cases by the function of the test."""

CLOSING_LINES: pytest.StashKey[dict[str, None]] = pytest.StashKey()
"""Lines of the summary about tests that did not run, without duplicates from several workers."""


def pytest_configure(config: pytest.Config) -> None:
    config.stash[CLOSING_LINES] = {}
    # A shell lets its background jobs ignore SIGINT, and the processes started by tests would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Use one worker more than there are CPUs for the whole suite, since tests often wait; none for a part of it.

    Each imports all test modules, so another one costs more processor time than it saves of waits.
    """
    whole = Path(__file__).parent
    return (os.cpu_count() or 1) + 1 if any(whole.is_relative_to(Path(name).absolute()) for name in config.args) else 0


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the cases of a test as long but for the first ones, if it says how many those are."""
    first = item.get_closest_marker("first_cases")
    if first is None or not isinstance(item, pytest.Function):
        return
    counts = item.session.stash.setdefault(CASES, Counter())
    counts[item.function] += 1
    if counts[item.function] > first.args[0]:
        item.add_marker(pytest.mark.long)


@pytest.hookimpl(trylast=True)  # of the selected tests
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    lines = []
    for name in OPTIONAL:
        marked = [item for item in items if item.get_closest_marker(name)]
        reason = why_missing(name) if marked else None
        for item in marked if reason else ():
            item.add_marker(pytest.mark.skip(reason=f"{name}: {reason}"))
        if marked:
            lines.append(
                f"optional {name}: {f'{len(marked)} tests skipped, {reason}' if reason else f'{len(marked)} tests'}"
            )
    note_lines(config, lines)
    longest = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (longest.get(item.path, len(longest)), item.path not in slow))


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    long = sum(item.get_closest_marker("long") is not None for item in items)
    if long:
        note_lines(items[0].config, [f"long: {long} tests left out; `make test-all` runs them"])


def pytest_collection_finish() -> None:
    """Leave the tests and the imported packages, millions of objects, out of later garbage collections."""
    gc.collect()
    gc.freeze()


def note_lines(config: pytest.Config, lines: Iterable[str]) -> None:
    """Store the lines for the summary; if this process is a worker, pass them to the one that prints it."""
    kept = config.stash[CLOSING_LINES]
    kept.update(dict.fromkeys(lines))
    if hasattr(config, "workeroutput"):
        config.workeroutput["closing_lines"] = list(kept)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    note_lines(node.config, getattr(node, "workeroutput", {}).get("closing_lines", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(CLOSING_LINES, []):
        terminalreporter.write_line(line)
