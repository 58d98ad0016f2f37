"""The ledger counts the results of a trial's model calls in any order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inspect_ai.model import (
    ChatMessageAssistant,
    ChatMessageUser,
    ContentReasoning,
    ContentText,
    ModelOutput,
    StopReason,
)
from inspect_ai.tool import ToolCall

from redline.models.faults import Fault
from redline.models.ledger import Ledger, kind_of
from redline.models.limits import limits

CALL = ToolCall(id="1", function="bash", arguments={"command": "ls"})
BROKEN = ToolCall(id="1", function="bash", arguments={}, parse_error="cut off")
SUBMIT = ToolCall(id="1", function="submit", arguments={"answer": "done"})
FAULT = Fault(500, "try later", "passing")
HELLO = [ChatMessageUser(content="Hello.")]


def output(text: str = "", *calls: ToolCall, stop: StopReason = "stop") -> ModelOutput:
    made = ModelOutput.from_content("m", text, stop_reason=stop)
    made.choices[0].message = ChatMessageAssistant(content=text, tool_calls=list(calls) or None)
    return made


def answered(ledger: Ledger, *outputs: ModelOutput) -> None:
    for each in outputs:
        with ledger.call("agent") as call:
            ledger.answered(call, each, HELLO)


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        (output("Hello."), "text"),
        (output(""), "empty"),
        (output(" \n"), "empty"),
        (output("", CALL), "call"),
        (output("", CALL, BROKEN), "call"),
        (output("", BROKEN), "unparsed"),
        (output('<tool_call>\n{"name": "bash", "arguments": {"command": "ls"}}\n</tool_call>'), "unparsed"),
        (ModelOutput(model="m", choices=[]), "empty"),
    ],
)
def test_the_kind_of_an_answer_follows_from_its_content(made: ModelOutput, kind: str) -> None:
    assert kind_of(made) == kind


def test_a_call_in_the_reasoning_is_unparsed() -> None:
    made = output("")
    made.choices[0].message.content = [
        ContentReasoning(reasoning='<tool_call>{"name": "bash", "arguments": {"command": "ls"}}</tool_call>'),
        ContentText(text=""),
    ]
    assert kind_of(made) == "unparsed"


def test_a_well_formed_call_resets_the_counts_at_the_end() -> None:
    ledger = Ledger()
    answered(ledger, output("", BROKEN), output("", CALL), output("Well."), output(""))
    calls = ledger.agent
    assert (calls.unparsed, calls.unparsed_at_end, calls.acted) == (1, 0, 1)
    assert (calls.words_at_end, calls.empty_at_end) == (1, 1)


def test_submitting_is_not_an_action() -> None:
    ledger = Ledger()
    answered(ledger, output("", SUBMIT))
    assert ledger.agent.acted == 0


def test_a_text_loop_reports_its_own_actions() -> None:
    ledger = Ledger()
    answered(ledger, output('```json\n{"name": "bash", "arguments": {"command": "ls"}}\n```'))
    ledger.acted()
    assert (ledger.agent.unparsed, ledger.agent.unparsed_at_end, ledger.agent.acted) == (0, 0, 1)


def test_a_call_that_the_end_of_its_loop_cancels_is_pending() -> None:
    ledger = Ledger()

    class CutError(BaseException):
        pass

    with pytest.raises(CutError), ledger.call("agent") as call:
        call.attempt_failed(FAULT)
        raise CutError
    assert ledger.agent.pending_failures == 1
    assert ledger.agent.failed == 0
    assert ledger.agent.last_error == "HTTP 500 (try later)"


def test_the_entry_kept_at_the_end_of_the_loop_does_not_change_later() -> None:
    ledger = Ledger()
    with ledger.call("agent"):
        ledger.freeze()
    (agent,) = ledger.record()
    assert agent.pending >= 0
    assert agent.answered == 0


def test_each_replica_has_an_entry_up_to_a_limit() -> None:
    ledger = Ledger()
    most = limits().evidence.replicas
    for process in range(3 * most):
        with ledger.call("replica", 1, process):
            pass
    entries = ledger.record()
    assert len(entries) == most + 1
    assert sum(entry.answered for entry in entries) == 3 * most


STEPS = st.lists(st.sampled_from(["call", "submit", "text", "empty", "broken", "cut", "fail", "retry"]), max_size=30)
MADE = {
    "call": output("", CALL),
    "submit": output("", SUBMIT),
    "text": output("Well."),
    "empty": output(""),
    "broken": output("", BROKEN),
    "cut": output("", BROKEN, stop="max_tokens"),
}


@given(STEPS)
def test_every_call_is_counted_once_and_no_count_exceeds_the_answers(steps: list[str]) -> None:
    ledger = Ledger()
    for step in steps:
        if step == "fail":
            with pytest.raises(ConnectionError), ledger.call("agent"):
                raise ConnectionError
        elif step == "retry":
            with ledger.call("agent") as call:
                call.attempt_failed(FAULT)
                ledger.answered(call, output("", CALL), HELLO)
        else:
            answered(ledger, MADE[step])
    calls = ledger.agent
    assert calls.answered + calls.failed == len(steps)
    assert calls.retried == steps.count("retry")
    assert calls.unparsed == steps.count("broken") + steps.count("cut")
    assert calls.acted + calls.unparsed + calls.empty <= calls.answered
    assert calls.unparsed_at_end <= calls.unparsed
    assert calls.empty_at_end <= calls.empty
    assert calls.truncated_at_end <= calls.truncated
    assert calls.waited <= calls.seconds + 0.001
