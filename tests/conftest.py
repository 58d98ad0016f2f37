"""Fixtures of all tests, and the runtimes that they run on."""

import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from redline.cell.open import DEFAULT_VARIABLE, find_runtime, unusable
from redline.report.pdf import find_browser

OPTIONAL = ("runsc", "docker", "browser")
"""What a machine may do without; tests that need one carry its name as a marker."""

os.environ.setdefault(DEFAULT_VARIABLE, "runc")  # what tests that say nothing run on, here and in what they start


@pytest.fixture(scope="session", autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test finds the calibration of the one who runs it, or leaves one behind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def why_missing(name: str) -> str | None:
    if name == "browser":
        return None if find_browser() else "no Chromium is installed"
    found = find_runtime("runsc" if name == "runsc" else "docker")
    return f"{name} is not installed" if found is None else unusable(found)


RUNTIMES: pytest.StashKey[dict[str, None]] = pytest.StashKey()
"""What is to be said of the optional runtimes, each line once, however many workers say it."""


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RUNTIMES] = {}
    # What a script starts in the background ignores Ctrl-C, and so would all that is started here and sent one.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Tests wait as much as they work, so all of them have a worker more than there are processors; a few have none."""
    whole = Path(__file__).parent
    return (os.cpu_count() or 1) + 1 if any(whole.is_relative_to(Path(name).absolute()) for name in config.args) else 0


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    lines = []
    for name in OPTIONAL:
        theirs = [item for item in items if item.get_closest_marker(name)]
        reason = why_missing(name) if theirs else None
        for item in theirs if reason else ():
            item.add_marker(pytest.mark.skip(reason=f"{name}: {reason}"))
        if theirs:
            lines.append(f"{name}: {f'{len(theirs)} tests skipped, {reason}' if reason else f'{len(theirs)} tests'}")
    note_runtimes(config, lines)
    # Files with tests that take long do not come last, when other workers have nothing left to do.
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def note_runtimes(config: pytest.Config, lines: Iterable[str]) -> None:
    """Keeps the lines for the summary, which another process writes where this one is a worker."""
    kept = config.stash[RUNTIMES]
    kept.update(dict.fromkeys(lines))
    if hasattr(config, "workeroutput"):
        config.workeroutput["runtimes"] = list(kept)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    note_runtimes(node.config, getattr(node, "workeroutput", {}).get("runtimes", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(RUNTIMES, []):
        terminalreporter.write_line(f"optional {line}")
