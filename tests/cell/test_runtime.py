"""Which runtime `auto` chooses, and how it reports those that do not work."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from redline._errors import UsageError
from redline.cell import runtime as module
from redline.cell.open import BUILT_IN, DEFAULT_VARIABLE, choose_runtime, find_runtime, unusable

Installed = Callable[..., None]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installed:
    """Install these programs and no others; each ends with the given exit code."""
    monkeypatch.setattr(module, "SEARCH_PATH", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(DEFAULT_VARIABLE, raising=False)
    unusable.cache_clear()

    def install(**codes: int) -> None:
        for name, code in codes.items():
            program = tmp_path / name
            program.write_text(
                f'#!/bin/sh\n[ "$1" = --version ] && echo "{name} 1.0" && exit 0\n'
                f'echo "{name} is broken" >&2\nexit {code}\n'
            )
            program.chmod(program.stat().st_mode | stat.S_IXUSR)

    return install


def test_auto_takes_the_strongest_that_works(installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    installed(runc=0)
    assert choose_runtime("auto").name == "runc"
    installed(crun=0, runsc=0, docker=0)
    assert choose_runtime("auto").name == "runsc"
    assert choose_runtime("crun").name == "crun"
    assert choose_runtime("docker").name == "docker"


def test_auto_skips_an_installed_runtime_that_does_not_work(
    installed: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    installed(runsc=1, crun=0)
    assert choose_runtime("auto").name == "crun"
    with pytest.raises(UsageError, match="runsc is broken"):
        choose_runtime("runsc")


def test_gvisor_needs_root(installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    installed(runsc=0, runc=0)
    assert choose_runtime("auto").name == "runc"
    with pytest.raises(UsageError, match="root only"):
        choose_runtime("runsc")


def test_an_engine_that_does_not_answer_is_not_chosen(installed: Installed) -> None:
    installed(docker=1)
    with pytest.raises(UsageError, match="docker is broken"):
        choose_runtime("docker")
    with pytest.raises(UsageError, match="install runc"):
        choose_runtime("auto")


def test_a_variable_sets_the_default_runtime_and_the_command_line_overrides_it(
    installed: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(runc=0, crun=0)
    monkeypatch.setenv(DEFAULT_VARIABLE, "crun")
    assert choose_runtime("auto").name == "crun"
    assert choose_runtime("runc").name == "runc"
    monkeypatch.setenv(DEFAULT_VARIABLE, "rnuc")
    with pytest.raises(UsageError, match=f"{DEFAULT_VARIABLE}=rnuc names no runtime"):
        choose_runtime("auto")


def test_a_missing_runtime_is_reported_in_one_line(installed: Installed) -> None:
    assert find_runtime("runc") is None
    with pytest.raises(UsageError, match="install runc"):
        choose_runtime("auto")
    for name in BUILT_IN:
        with pytest.raises(UsageError, match=f"{name} is not installed"):
            choose_runtime(name)


def test_knowing_the_runtimes_does_not_import_inspect() -> None:
    """Importing Inspect takes seconds, which `redline doctor` and `redline seal` would spend at every start."""
    program = "import sys, redline.cell.open, redline.seal; sys.exit('inspect_ai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=120, check=False).returncode == 0
