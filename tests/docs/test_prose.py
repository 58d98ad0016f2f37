"""The prose check: every rule finds its example, and code is not checked."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RULES = tomllib.loads((ROOT / "scripts/prose.toml").read_text())["rules"]


def findings(page: Path, text: str) -> tuple[int, str]:
    page.write_text(text)
    command = [sys.executable, str(ROOT / "scripts/check_prose.py"), str(page)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_every_rule_finds_its_example_at_its_line(tmp_path: Path) -> None:
    code, printed = findings(tmp_path / "page.md", "\n\n".join(f"So {rule['example']}." for rule in RULES))
    assert code == 1
    for number, rule in enumerate(RULES):
        lines = [line for line in printed.splitlines() if f"page.md:{2 * number + 1}:" in line]
        assert any(rule["instead"] in line for line in lines), rule["pattern"]


def test_a_phrase_is_found_across_a_line_break_and_in_quotes(tmp_path: Path) -> None:
    code, printed = findings(tmp_path / "page.md", 'It says "the trial may\nnot run" there.\n')
    assert (code, printed.count("must not, might not")) == (1, 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "```\nbeside\n```\n",
        "    indented beside\n",
        "the setting `tether=told` is the default\n",
        "<!-- beside -->\n",
        "{% if beside %}the page{% endif %}\n",
        '<td class="beside">\n',
        "[a link](beside.md)\n",
    ],
)
def test_code_and_targets_of_links_are_not_checked(tmp_path: Path, text: str) -> None:
    assert findings(tmp_path / "page.md", text) == (0, "")
