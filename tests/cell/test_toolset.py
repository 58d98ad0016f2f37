"""The interpreter of a cell: the host's own where it is recent enough, else the one that runs redline."""

import stat
from importlib.util import MAGIC_NUMBER
from pathlib import Path

import pytest

from redline.cell import CellConfig, open_cell, toolset
from redline.seal import quick_seal

OLD = "#!/bin/sh\nexit 1\n"
HANGS = "#!/bin/sh\nsleep 60\n"


def program(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.mark.parametrize("text", [OLD, HANGS, "no program"], ids=["old", "hangs", "broken"])
@pytest.mark.host("/usr/bin/python3 older than 3.9, as on RHEL 8 and Ubuntu 20.04", how="injected")
def test_a_system_python_that_cannot_run_a_cell_is_not_used(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toolset, "SYSTEM_PYTHON", program(tmp_path / "python3", text))
    monkeypatch.setattr(toolset, "START_SECONDS", 0.5)
    assert toolset.toolset().interpreter not in (str(tmp_path / "python3"), "/usr/bin/python3")


@pytest.mark.host("no /usr/bin/python3", how="injected")
def test_a_missing_system_python_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolset, "SYSTEM_PYTHON", tmp_path / "python3")
    assert toolset.toolset().interpreter != str(tmp_path / "python3")


@pytest.mark.cell
@pytest.mark.anyio
async def test_a_cell_works_with_the_interpreter_of_redline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolset, "SYSTEM_PYTHON", program(tmp_path / "python3", OLD))
    async with open_cell(CellConfig(runtime="runc")) as cell:
        done = await cell.exec(
            [cell.interpreter, "-I", "-c", "import json, ssl, sys; print(sys.version_info[:2] >= (3, 9))"]
        )
        assert done.stdout == b"True\n", done.stderr
        report = await quick_seal(cell)
        assert report.verified, report.summary()


@pytest.mark.cell
@pytest.mark.anyio
@pytest.mark.parametrize("number", [b"", b"\x01\x02\r\n", None], ids=["unknown", "another", "its own"])
@pytest.mark.host("/usr/bin/python3 of another version than redline's", how="injected")
async def test_the_first_process_is_text_where_the_interpreter_runs_other_byte_code(
    monkeypatch: pytest.MonkeyPatch, number: bytes | None
) -> None:
    if number is not None:
        monkeypatch.setattr(toolset, "_byte_code", lambda interpreter: number)
    used = toolset.toolset().byte_code
    async with open_cell(CellConfig(runtime="runc")) as cell:
        begins = cell.harness.init.read_bytes()[:4]
        assert (begins == MAGIC_NUMBER) is (used == MAGIC_NUMBER)
        assert (await cell.exec(["echo", "works"])).stdout == b"works\n"
