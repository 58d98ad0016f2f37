"""Fixtures of all tests, and the runtimes that they run on."""

import os
from collections.abc import Iterator

import pytest

from redline.cell.runtime import DEFAULT_VARIABLE, find_runtime, unusable
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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    lines = []
    for name in OPTIONAL:
        theirs = [item for item in items if item.get_closest_marker(name)]
        reason = why_missing(name) if theirs else None
        for item in theirs if reason else ():
            item.add_marker(pytest.mark.skip(reason=f"{name}: {reason}"))
        if theirs:
            lines.append(f"{name}: {f'{len(theirs)} tests skipped, {reason}' if reason else f'{len(theirs)} tests'}")
    config.stash[RUNTIMES] = lines


RUNTIMES: pytest.StashKey[list[str]] = pytest.StashKey()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(RUNTIMES, []):
        terminalreporter.write_line(f"optional {line}")
