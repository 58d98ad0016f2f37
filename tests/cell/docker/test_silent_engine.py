"""A Docker engine that does not answer: nothing is reported as gone, and the files for the next sweep stay."""

import stat
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from redline.cell.load import load_program
from redline.cell.state import install_warden

PROGRAM = load_program("redline.cell.docker.programs.manager")


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    loaded = ModuleType("docker_warden")
    exec(PROGRAM, loaded.__dict__)
    monkeypatch.setattr(loaded, "GONE_SECONDS", 1.0)
    monkeypatch.setattr(loaded, "ASK_TIMEOUT", 1.0)
    return loaded


def engine(folder: Path, script: str) -> Path:
    made = folder / "engine"
    made.write_text(f"#!/bin/sh\n{script}\n")
    made.chmod(made.stat().st_mode | stat.S_IXUSR)
    return made


def owner(folder: Path) -> Path:
    made = folder / "owner"
    (made / "cells" / "c1").mkdir(parents=True)
    return made


SILENT = {
    "refuses": "echo 'Cannot connect to the Docker daemon' >&2; exit 1",
    "hangs": "exec sleep 30",
}
# Lists one container forever, whatever is done to it.
STUBBORN = 'case "$1" in ps) echo abc;; esac'


def manager(program: ModuleType, folder: Path, script: str) -> Any:
    setup = {"folder": str(owner(folder)), "runtime": [str(engine(folder, script))], "own_kernel": False}
    return program.EngineManager(setup)


@pytest.mark.parametrize("script", SILENT.values(), ids=SILENT)
def test_a_kill_without_an_answer_of_the_engine_fails(program: ModuleType, tmp_path: Path, script: str) -> None:
    with pytest.raises(program.SilentEngineError):
        manager(program, tmp_path, script).kill({"cell": "c1"}, [])


@pytest.mark.parametrize("script", SILENT.values(), ids=SILENT)
def test_a_removal_without_an_answer_of_the_engine_leaves_the_cells_folder(
    program: ModuleType, tmp_path: Path, script: str
) -> None:
    it = manager(program, tmp_path, script)
    with pytest.raises(program.SilentEngineError):
        it.remove({"cell": "c1"}, [])
    assert Path(it.cell_folder("c1")).is_dir()


@pytest.mark.parametrize("script", [*SILENT.values(), STUBBORN], ids=[*SILENT, "stubborn"])
def test_a_sweep_fails_unless_everything_is_known_to_be_gone(program: ModuleType, tmp_path: Path, script: str) -> None:
    it = manager(program, tmp_path, script)
    assert it.sweep() is False
    assert Path(it.cell_folder("c1")).is_dir()


def test_survivors_are_counted_and_their_folder_stays(program: ModuleType, tmp_path: Path) -> None:
    it = manager(program, tmp_path, STUBBORN)
    answer, _ = it.kill({"cell": "c1"}, [])
    assert answer["survivors"] >= 1
    with pytest.raises(RuntimeError, match="could not be removed"):
        it.remove({"cell": "c1"}, [])
    assert Path(it.cell_folder("c1")).is_dir()


def test_an_empty_answer_of_the_engine_is_accepted(program: ModuleType, tmp_path: Path) -> None:
    it = manager(program, tmp_path, "exit 0")
    answer, _ = it.kill({"cell": "c1"}, [])
    assert answer["survivors"] == 0
    assert it.sweep() is True
    assert not Path(it.cell_folder("c1")).exists()


def test_the_sweep_of_another_harness_reports_failure_by_its_exit_code(tmp_path: Path) -> None:
    for script, status in ((SILENT["refuses"], 1), ("exit 0", 0)):
        folder = tmp_path / f"status{status}"
        folder.mkdir()
        harness = owner(folder)
        program = install_warden(harness, PROGRAM, [str(engine(folder, script))], own_kernel=False)
        command = [sys.executable, "-I", "-S", str(program), str(harness)]
        assert subprocess.run(command, timeout=60, check=False).returncode == status
