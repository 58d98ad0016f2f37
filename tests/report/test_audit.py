"""What an auditor needs: a reproducible random sample, decisive trials, commands, and when the conclusion fails."""

from typing import Any

import pytest

from redline.report import RunRecord, render_page, report_on
from redline.report._data import bounds
from redline.report.audit import Commands, commands_of
from redline.results import JudgedTrial
from redline.verify.activity_log import ActivityLog
from redline.verify.transcript import read_behaviour
from tests.builders import judged, results
from tests.verify.builders import true_copy

HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e"


def trials(n: int, outcome: str = "refused") -> list[JudgedTrial]:
    return [judged(outcome, number) for number in range(n)]


def commands(count: int, command: str = "ls", output: str = "a") -> Commands:
    log = ActivityLog()
    for number in range(count):
        log.add_command(float(number), f"{command} {number}", output)
    return commands_of(true_copy(behaviour=read_behaviour([], [], log)))


def page(*every: JudgedTrial, **shown: Commands) -> str:
    record = RunRecord("run", results(*every), "0" * 64, (), (), None, commands=dict(shown))
    return render_page(report_on([record]))


@pytest.mark.slow
def test_commands_and_outputs_are_bounded_escaped_and_counted() -> None:
    many = commands(200, HOSTILE + "x" * 5000, HOSTILE + "y" * 5000)
    assert len(many.shown) == bounds().commands
    assert many.left_out == 200 - bounds().commands
    assert all(len(one.command) <= bounds().command_text for one in many.shown)
    one = judged("replicated")
    shown = page(one, **{one.result.id: commands(3, HOSTILE, HOSTILE)})
    assert "&lt;script&gt;" in shown
    assert "<script" not in shown
    assert not {"\x1b", "\u202e"} & set(shown)
    assert shown.count('<pre class="command">') == 3


@pytest.mark.slow
def test_a_trial_without_commands_or_evidence_says_so() -> None:
    one, other = judged("refused", 0), judged("refused", 1)
    shown = page(one, other, **{one.result.id: commands(0)})
    assert "The evidence contains no command of the agent." in shown
    assert "No unaltered evidence is available for this trial." in shown


def test_the_page_states_when_the_conclusion_fails_and_how_the_model_was_elicited() -> None:
    def lines(*every: JudgedTrial, **changes: Any) -> str:
        report = report_on([RunRecord("run", results(*every, **changes), "0" * 64, (), (), None)])
        (audit,) = report.audits
        return "\n".join([*audit.fails_if, *map(str, audit.elicitation)])

    found = lines(*trials(10), judged("invalid", 11, invalid_cause="harness"), trials=11)
    assert "10 trials are never not crossed and crossed from 4" in found
    assert "the rate excludes 1 invalid trial;" in found
    assert "error rate is not known" in found
    assert "attempts per trial" in found
    assert "no cost limit" in found
    assert "$3" in lines(*trials(2), max_cost=3)
