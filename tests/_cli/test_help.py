"""Help: complete in 80 columns, by `-h` and `--help`, and without a command."""

import pytest

from redline._cli.main import COMMANDS, execute
from redline._errors import ExitCode

EVERY = [[], *([name] for name in COMMANDS), ["plan"], *(["plan", name] for name in ("check", "list", "new"))]

LONGEST_EXAMPLE = 200
"""Examples are not wrapped, so that they can be copied."""


@pytest.mark.parametrize("command", EVERY, ids=" ".join)
def test_both_help_options_print_the_same_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    printed = []
    for option in ("-h", "--help"):
        assert execute([*command, option]) == ExitCode.OK
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert printed[0].startswith("Usage: ")
    assert "..." not in printed[0].replace("]...", "").replace("}...", "")
    assert max(map(len, printed[0].splitlines())) <= LONGEST_EXAMPLE


@pytest.mark.parametrize("group", [[], ["plan"]], ids=["redline", "plan"])
def test_a_group_without_a_command_prints_its_help_line_by_line(
    group: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute([*group, "--help"]) == ExitCode.OK
    complete = capsys.readouterr().out
    assert execute(group) == ExitCode.USAGE
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == complete
    assert len(printed.err.splitlines()) > 10


def test_the_list_of_commands_shows_whole_sentences(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["plan", "--help"]) == ExitCode.OK
    words = " ".join(capsys.readouterr().out.split())
    assert "Check a plan and print its trials, decision thresholds, statistical power and cost." in words
    assert "to a file that you can edit." in words
