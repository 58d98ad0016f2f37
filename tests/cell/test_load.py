"""Programs as one text: what they import from other programs of redline is put in front, once."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import MAGIC_NUMBER
from pathlib import Path

import pytest

from redline.cell.load import ProgramError, compiled_program, load_library, load_program
from redline.cell.programs import prelude

PROGRAMS = (
    "redline.cell.docker.programs.call",
    "redline.cell.docker.programs.first",
    "redline.cell.docker.programs.manager",
    "redline.cell.programs.attendant",
    "redline.cell.programs.connect_unix",
    "redline.cell.programs.end_frozen",
    "redline.cell.programs.find_process",
    "redline.cell.programs.init",
    "redline.cell.programs.warden",
)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Create a package for programs of the test."""
    folder = tmp_path / "sample" / "programs"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder.parent / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "sample"]:
        del sys.modules[name]
    load_program.cache_clear()


def program(package: Path, name: str, text: str) -> str:
    (package / f"{name}.py").write_text(text)
    return f"sample.programs.{name}"


@pytest.mark.slow
@pytest.mark.parametrize("module", PROGRAMS)
def test_a_loaded_program_needs_nothing_but_the_standard_library(module: str) -> None:
    text = load_program(module)
    compile(text, module, "exec")
    # Its functions are defined without an import of redline, in an interpreter that has no packages.
    run = f"__name__ = 'loaded'\n{text}".replace("from __future__ import annotations\n", "")
    command = [sys.executable, "-I", "-S", "-c", f"from __future__ import annotations\n{run}"]
    assert subprocess.run(command, timeout=30, check=False, capture_output=True).returncode == 0


def test_byte_code_runs_as_the_text_does_and_only_for_the_same_interpreter(package: Path, tmp_path: Path) -> None:
    text = 'import sys\nif __name__ == "__main__":\n    print(__name__, *sys.argv[1:])\n    sys.exit(7)\n'
    module = program(package, "says", text)
    for byte_code in (MAGIC_NUMBER, b"", bytes(4), MAGIC_NUMBER[:2]):
        content = compiled_program(module, byte_code)
        assert (content == load_program(module).encode()) is (byte_code != MAGIC_NUMBER)
        file = tmp_path / "says"  # without the suffix of byte code, as the first process of a node
        file.write_bytes(content)
        command = [sys.executable, "-I", "-S", str(file), "a", "b"]
        done = subprocess.run(command, timeout=30, check=False, capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (7, "__main__ a b\n", "")


def test_the_text_contains_the_prelude_once_even_if_several_parts_import_it() -> None:
    text = load_program("redline.cell.docker.programs.manager")
    assert text.count("def stat_fields(") == text.count("def cgroup_folders(") == 1
    assert text.index("def stat_fields(") < text.index("class CellManager") < text.index("class EngineManager")


def test_only_the_last_part_keeps_its_entry_point() -> None:
    text = load_program("redline.cell.docker.programs.manager")
    assert text.count('if __name__ == "__main__":') == 1
    assert text.rstrip().endswith("main(EngineManager)")
    assert '__name__ == "__main__"' not in load_library("redline.cell.programs.init")


def test_a_program_that_imports_from_the_rest_of_redline_is_refused(package: Path) -> None:
    for number, line in enumerate(
        [
            "from redline.cell.config import CellConfig",
            "from redline.cell.programs import prelude",
            "import redline.cell.programs.prelude",
            "from redline.cell.programs.prelude import libc as other",
            "from redline.cell.programs.prelude import *",
            "from . import other",
        ]
    ):
        with pytest.raises(ProgramError):
            load_program(program(package, f"wrong{number}", line))


def test_a_name_that_two_parts_define_is_refused(package: Path) -> None:
    module = program(
        package, "twice", "from redline.cell.programs.prelude import libc\n\n\ndef stat_fields() -> None: ...\n"
    )
    with pytest.raises(ProgramError, match="stat_fields"):
        load_program(module)


def test_a_name_that_is_imported_is_the_preludes(package: Path) -> None:
    module = program(
        package,
        "good",
        '"""A program."""\n\nfrom __future__ import annotations\n\nimport os\n\n'
        "from redline.cell.programs.prelude import (\n    is_alive,\n    stat_fields,\n)\n\n"
        "ALIVE = is_alive(stat_fields(os.getpid()))\n",
    )
    scope: dict[str, object] = {"__name__": "loaded"}
    exec(load_program(module), scope)
    assert scope["ALIVE"] is True
    assert scope["stat_fields"] is not prelude.stat_fields


def test_a_process_name_with_parentheses_does_not_shift_the_fields() -> None:
    name = b"a) S (b".decode()
    code = f"import ctypes; ctypes.CDLL(None).prctl(15, {name.encode()!r}); print('ready', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        fields = prelude.stat_fields(process.pid)
        assert int(fields[1]) > 0 and fields[0] in (b"S", b"R")
        assert prelude.is_running(process.pid, prelude.start_time(process.pid))
        assert not prelude.is_running(process.pid, 1)
        process.communicate(b"\n", timeout=20)
    assert prelude.stat_fields(process.pid) == []
    assert prelude.start_time(process.pid) is None


JOINED = (
    *(f"redline.verify.programs.{name}" for name in ("census", "originals", "restart", "scorch")),
    *(f"redline.cell.programs.{name}" for name in ("connect_unix", "end_frozen", "find_process")),
    *(f"redline.seal.programs.{name}" for name in ("outside", "tally", "defects")),
    "redline.agents.programs.stop",
    "redline.guardrails.programs.lock",
    "redline.subject.programs.install",
)
DEFINITIONS = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.FunctionDef, ast.ClassDef)


@pytest.mark.parametrize("module", JOINED)
def test_a_joined_program_only_defines_until_its_main_is_called(module: str) -> None:
    """The warden executes the definitions itself, before a fork of it enters the cell."""
    for node in ast.parse(load_program(module)).body:
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_for_type_checkers = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        assert isinstance(node, DEFINITIONS) or is_text or is_for_type_checkers, ast.unparse(node)
