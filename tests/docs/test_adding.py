"""The example probe and the example runtime of docs/adding.md, added to a copy of the package."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from redline.seal import PROBE_NAMES

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r'^    ```py title="(?P<path>[^"]+)"\n(?P<content>.*?)^    ```$', re.MULTILINE | re.DOTALL)
BLOCKS = {
    match["path"]: textwrap.dedent(match["content"])
    for match in BLOCK.finditer((ROOT / "docs/adding.md").read_text(encoding="utf-8"))
}
NUMBER = len(PROBE_NAMES) + 1


def insert(file: Path, before: str, text: str) -> None:
    """Insert a text before the only occurrence of another."""
    content = file.read_text(encoding="utf-8")
    assert content.count(before) == 1, (file, before)
    file.write_text(content.replace(before, text + before), encoding="utf-8")


def redline(package: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(package.parent), **variables}
    command = [sys.executable, "-m", "redline", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return shutil.copytree(ROOT / "src/redline", tmp_path / "src/redline", ignore=shutil.ignore_patterns("__pycache__"))


@pytest.mark.long
@pytest.mark.cell
def test_the_example_probe_detects_its_defect(package: Path) -> None:
    seal = package / "seal"
    probe = f'    Probe({NUMBER}, "no_login_message", "no file contains a login message", no_login_message),\n'
    insert(seal / "facts.py", ")  # fmt: skip", '    "no_login_message",\n')
    insert(seal / "programs/files.py", "GROUPS = (", BLOCKS["seal/programs/files.py"] + "\n\n")
    insert(seal / "programs/files.py", "    package_sources,\n)", "    login_message,\n")
    insert(seal / "filesystem.py", "FILESYSTEM = (", BLOCKS["seal/filesystem.py"] + "\n\n")
    insert(seal / "filesystem.py", '    Probe(34, "no_device_nodes"', probe)
    insert(seal / "defects/oci.py", "# --- limits ---", BLOCKS["seal/defects/oci.py"] + "\n\n")
    insert(seal / "defects/cells.py", ')\n"""Cells with one', f"    {BLOCKS['seal/defects/cells.py'].strip()},\n")
    done = redline(package, "seal", "--selftest", "--only", "no_login_message", "--runtime", "runc")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "F no_login_message" in done.stderr


def test_the_example_probe_has_the_next_number() -> None:
    assert f"Probe {NUMBER}:" in BLOCKS["seal/filesystem.py"]


@pytest.mark.long
@pytest.mark.cell
def test_the_example_runtime_is_sealed(package: Path, tmp_path: Path) -> None:
    (program,) = {path for path in [shutil.which("runc")] if path}
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/youki").symlink_to(program)
    cell = package / "cell"
    (cell / "youki").mkdir()
    (cell / "youki/__init__.py").write_text(BLOCKS["cell/youki/__init__.py"], encoding="utf-8")
    insert(cell / "data/runtimes.toml", '"docker"]', '"youki", ')
    insert(cell / "open.py", '"docker": Docker}', '"youki": Youki, ')
    insert(cell / "open.py", "_CLASSES: dict", "from redline.cell.youki import Youki\n\n")
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    done = redline(package, "seal", "--quick", "--runtime", "youki", PATH=path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "probes, youki)" in done.stdout
