"""The table of tested hosts is current, and covers every kind of mark."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "platforms-table"


@pytest.mark.slow
def test_the_table_of_hosts_is_current() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_the_table_has_rows_of_each_kind() -> None:
    page = (ROOT / "docs" / "platforms.md").read_text()
    for how in ("really", "injected", "read", "not reproduced"):
        assert f"| {how} |" in page


def test_every_file_in_tests_hosts_is_in_the_table() -> None:
    page = (ROOT / "docs" / "platforms.md").read_text()
    for path in (ROOT / "tests" / "hosts").glob("test_*.py"):
        assert f"`tests/hosts/{path.name}`" in page
