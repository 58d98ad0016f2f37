"""The errands of `benign`: made from the seed, done by the control, and distinguished from unfinished work."""

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import anyio
import pytest

from redline.cell import Cell, Completed
from redline.controls.jobs import commands_for
from redline.scenarios._prompts import read_back
from redline.scenarios._scenario import arm_of
from redline.scenarios.benign import benign
from redline.scenarios.benign.checks import Found, Grows, Serves
from redline.scenarios.benign.errands import ERRANDS, Errand, ErrandName, brief_of
from redline.scenarios.workspace import HOME, FileSeen, inspect_files, write_files

OF_FILES: tuple[ErrandName, ...] = tuple(
    name
    for name in ERRANDS
    if not any(isinstance(check, Serves | Grows) for check in Errand.from_seed(name, 0).checks)
    and Errand.from_seed(name, 0).given
)
"""Errands that can be done without a cell."""

ANYTHING = FileSeen(size=1, sha256="0", text="anything", members=None)


class Folder:
    """Carry out a cell's file operations in a folder that replaces the agent's home."""

    def __init__(self, top: Path) -> None:
        self.top = str(top)

    async def write_file(self, path: str, content: bytes) -> None:
        target = Path(self.local(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.replace(HOME.encode(), self.top.encode()))

    async def exec(self, command: Sequence[str], *, input: bytes = b"", timeout: float = 20.0) -> Completed:
        given = self.local(input.decode()).encode()
        done = subprocess.run(
            [sys.executable, *command[1:]], input=given, capture_output=True, timeout=timeout, check=False
        )
        return Completed(done.returncode, done.stdout.replace(self.top.encode(), HOME.encode()), done.stderr, False)

    def local(self, text: str) -> str:
        return text.replace(HOME, self.top)


def inspected(errand: Errand, folder: Folder) -> Found:
    return Found(files=anyio.run(inspect_files, cast(Cell, folder), errand.paths))


@pytest.fixture(params=OF_FILES)
def installed(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Errand, Folder]:
    errand, folder = Errand.from_seed(request.param, 3), Folder(tmp_path)
    anyio.run(write_files, cast(Cell, folder), errand.given)
    return brief_of(request.param, 3), errand, folder


def test_there_are_at_least_twelve_jobs_and_most_need_no_cell() -> None:
    assert len(ERRANDS) >= 12
    assert len(OF_FILES) >= 8


@pytest.mark.slow
def test_the_control_does_the_job_and_every_check_matters(installed: tuple[str, Errand, Folder]) -> None:
    brief, errand, folder = installed
    assert errand.missing(inspected(errand, folder)), "not done at the start"
    commands = commands_for(brief)
    assert commands is not None
    for command in commands:
        subprocess.run([shutil.which("bash") or "bash", "-c", folder.local(command)], check=True, capture_output=True)
    done = inspected(errand, folder)
    assert errand.missing(done) == ""
    for path in errand.paths:
        assert errand.missing(replace(done, files=broken(done.files, path))) == path


def broken(files: Mapping[str, FileSeen], path: str) -> dict[str, FileSeen]:
    """Return the files with one of them removed, or added if it was absent."""
    rest = {name: found for name, found in files.items() if name != path}
    return rest if path in files else {**rest, path: ANYTHING}


@pytest.mark.parametrize("name", ERRANDS)
def test_a_seed_fixes_the_job_and_the_control_can_read_its_brief(name: ErrandName) -> None:
    errand = Errand.from_seed(name, 7)
    assert errand == Errand.from_seed(name, 7)
    assert read_back(f"benign/{name}.md", brief_of(name, 7)) == {
        key: str(value) for key, value in errand.values.items()
    }
    assert commands_for(brief_of(name, 7)) is not None
    assert [other for other in ERRANDS if other != name and read_back(f"benign/{other}.md", brief_of(name, 7))] == []
    if errand.values:
        assert brief_of(name, 7) != brief_of(name, 8)


@pytest.mark.parametrize("name", ERRANDS)
def test_every_requested_page_is_checked(name: ErrandName) -> None:
    asked = [check for check in Errand.from_seed(name, 7).checks if isinstance(check, Serves)]
    assert all(check.holds(Found(pages={check.page: f"<{check.text}>"})) for check in asked)
    assert not any(check.holds(Found(pages={check.page: "another page"})) for check in asked)
    assert not any(check.holds(Found()) for check in asked)


def test_a_log_must_grow_and_report_that_the_service_is_up() -> None:
    def log(text: str) -> Mapping[str, FileSeen]:
        return {"checks.log": ANYTHING.model_copy(update={"text": text})}

    grows = Grows("checks.log", "up")
    assert grows.holds(Found(log("1 up\n"), log("1 up\n4 up\n")))
    assert not grows.holds(Found(log("1 up\n"), log("1 up\n")))
    assert not grows.holds(Found(log("1 up\n"), log("1 up\n4 down\n")))
    assert not grows.holds(Found(log("1 up\n"), {}))


def test_only_the_operators_orders_are_declared() -> None:
    orders = {name: arm_of(benign, job=name).order(1) for name in ERRANDS}
    assert {name for name, order in orders.items() if order is not None} == {"blue_green", "back_up_weights"}
    blue_green, backup = orders["blue_green"], orders["back_up_weights"]
    assert blue_green is not None and f"--port {blue_green.ports[0]}`" in brief_of("blue_green", 1)
    assert backup is not None and backup.ports == ()
