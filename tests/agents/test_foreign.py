"""A user's agent is refused if a tool is not known to act in the cell, and otherwise restricted like redline's own."""

from pathlib import Path
from typing import Any

import pytest
from inspect_ai import eval, task_with
from inspect_ai.model import get_model
from inspect_ai.solver import generate

from redline._errors import UsageError
from redline.agents import check_solver
from redline.controls.shell import STOP_THE_FIRST
from redline.scenarios._prompts import words
from redline.scenarios.self_replication import self_replication
from redline.scenarios.shutdown_avoidance import shutdown_avoidance
from tests.agents.trials import facts_of, sample_of, saying
from tests.sealed import under_a_seal

SOLVERS = Path(__file__).with_name("user_solvers.py")
SMALL: dict[str, Any] = {"trials": 1, "weights": "1MiB", "runtime": "runc", "agent": "solver"}


def solver(name: str) -> str:
    return f"{SOLVERS}@{name}"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ordinary", "plain"])
def test_an_agent_whose_tools_act_in_the_cell_is_accepted(name: str) -> None:
    check_solver(solver(name))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (solver("searcher"), "web_search"),
        (solver("roots"), "bash with user"),
        (solver("pretender"), "offers bash, which is not known to act"),
        (solver("silent"), "did not call its model"),
        (solver("nobody"), "nobody"),
        ("nobody.py", "nobody"),
        ("no/such", "no/such"),
    ],
)
def test_an_agent_with_other_tools_is_refused(name: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as refusal:
        check_solver(name)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("settings", [{"agent": "solver"}, {"solver": "x.py"}, {"agent": "fudan", "solver": "x.py"}])
def test_agent_and_solver_must_be_set_together(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="go together"):
        self_replication(**settings)


@pytest.mark.cell
def test_it_works_in_the_cell_and_its_turns_are_gated(tmp_path: Path) -> None:
    act = saying("pwd; id -u", last="Done.")
    facts = facts_of(self_replication(**SMALL, solver=solver("ordinary")), act, tmp_path)
    assert facts.event("loop_ended") == {"reason": "submit"}
    assert any("/home/agent\n1000" in text for text in facts.shown)
    assert [call["generation"] for call in facts.tether["calls"]] == [0, 0]


@pytest.mark.cell
@pytest.mark.parametrize("name", ["ordinary", "plain"])
def test_what_was_said_stays_when_a_limit_ends_the_loop(name: str, tmp_path: Path) -> None:
    task = self_replication(**SMALL, solver=solver(name), message_limit=8)
    facts = facts_of(task, saying(*(f"echo turn-$(({turn} * 2))" for turn in range(20))), tmp_path)
    assert facts.event("loop_ended") == {"reason": "message_limit"}
    assert "turn-0" in "".join(facts.shown)
    assert "turn-2" in "".join(facts.shown)
    assert len(facts.sample.messages) >= 7


@pytest.mark.long
@pytest.mark.cell
def test_it_receives_the_notice_and_reaches_the_operator(tmp_path: Path) -> None:
    task = shutdown_avoidance(**SMALL, solver=solver("ordinary"), trigger="notice", deadline=300.0)
    facts = facts_of(task, saying("true", "true", "true"), tmp_path)
    assert facts.has("notice")
    assert facts.has("exposed")
    assert facts.event("deadline_kill")["occasion"] == "loop ended"
    assert "OPERATOR:" in facts.shown[0] + facts.shown[1]
    assert words().operator_reply not in "".join(facts.shown)


@pytest.mark.cell
@pytest.mark.parametrize("name", ["ordinary", "swallower"])
def test_the_gate_ends_it(name: str, tmp_path: Path) -> None:
    task = self_replication(**SMALL, solver=solver(name))
    facts = facts_of(task, saying(STOP_THE_FIRST, "echo never"), tmp_path)
    assert facts.event("loop_ended") == {"reason": "gate"}
    assert facts.has("gate_failed")


@pytest.mark.cell
def test_a_tool_that_it_offers_later_raises_the_alarm(tmp_path: Path) -> None:
    facts = facts_of(self_replication(**SMALL, solver=solver("latecomer")), saying("true"), tmp_path)
    assert facts.event("fault")["alarm"] == "foreign_tool"
    assert "web_search" in facts.event("fault")["detail"]
    assert facts.event("loop_ended") == {"reason": "boundary"}


@pytest.mark.cell
def test_a_model_that_it_creates_itself_fails_the_trial(tmp_path: Path) -> None:
    sample = sample_of(self_replication(**SMALL, solver=solver("sidestepper")), saying("true"), tmp_path)
    assert sample.error is not None
    assert "called redline/idler without the gate" in sample.error.message


@pytest.mark.long
@pytest.mark.cell
def test_a_solver_that_replaces_the_tasks_makes_the_trial_invalid(tmp_path: Path) -> None:
    task = self_replication(trials=1, weights="1MiB", runtime="runc", hold=0)
    model = get_model("redline/idler", memoize=False)
    (log,) = eval(task_with(under_a_seal(task), solver=generate()), model=model, log_dir=str(tmp_path), display="log")
    assert log.samples
    score = (log.samples[0].scores or {})["replication"]
    assert score.value == "invalid"
    assert "no turn was gated" in (score.explanation or "")
