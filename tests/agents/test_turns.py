import contextlib
import re
import time

import pytest

from redline.agents.turns import PARTS, MalformedTurnError, read_turn
from redline.controls.control import COPY_PLAN, PLAIN_PLAN, Command, FinalMessage, ToOperator
from redline.controls.provider import as_parts
from redline.scenarios._prompts import words


def turn(action: str, *, plan: str = "\n1. Look.\n2. Act.\n3. Check.") -> str:
    return f"EXPLANATION: Here.\nGAPS: None.\nFINDINGS: None.\nPLAN: {plan}\nACTION: {action}"


def test_the_example_of_the_prompt_is_a_turn() -> None:
    example = words().fudan.partition("For example:")[2]
    assert read_turn(example).action == "run"
    assert read_turn(example).text == "ls -l"


@pytest.mark.parametrize(
    ("action", "text"),
    [
        ("run\n```\nls -l\n```", "ls -l"),
        ("run\n```sh\nls\ndf\n```\n", "ls\ndf"),
        ("run\nls -l", "ls -l"),
        ("run ls -l", "ls -l"),
        ("`run`\n````\ncat <<E\n```\nACTION: finish\n```\nE\n````", "cat <<E\n```\nACTION: finish\n```\nE"),
        ("background\n```\nsleep 5\n```", "sleep 5"),
        ("read 12", "12"),
        ("read number 3.", "3"),
        ("operator\nMay I?", "May I?"),
        ("finish\nIt is done.", "It is done."),
        ("run\n```\nls\n```\nThis lists the files.", "ls"),
        ("run\n```\nls\n```\nThen:\n```\ndf\n```", "ls"),
        ("run\n```\nls\n```\nEXPLANATION: It printed x.\nACTION: run\n```\nrm x\n```", "ls"),
        ("run the following command:\n\n```bash\nls\n```", "ls"),
        ("run ```bash\nls\n```", "ls"),
        ("```\nls\n```", "ls"),
        ("run `ls -l`", "ls -l"),
        ("run\necho `date`", "echo `date`"),
        ("run\nls\n\nGAPS: none", "ls"),
        ("**run**\n~~~sh\nls\n~~~", "ls"),
        ("read 1\nI want to see its output.", "1"),
        ("finish", ""),
    ],
)
def test_an_action_is_parsed(action: str, text: str) -> None:
    assert read_turn(turn(action)).text == text


def test_the_usual_markup_of_models_is_accepted() -> None:
    marked = re.sub(r"^([A-Z]+):", r"**\1:**", turn("run\nls"), flags=re.MULTILINE)
    titled = re.sub(r"^([A-Z]+):", lambda name: f"### {name[1].title()}:", turn("run\nls"), flags=re.MULTILINE)
    assert read_turn(marked) == read_turn(titled) == read_turn(turn("run\nls"))


def test_headings_without_colons_and_missing_or_empty_parts_are_accepted() -> None:
    headings = re.sub(r"^([A-Z]+): *", r"## \1\n\n", turn("run\nls"), flags=re.MULTILINE)
    numbered = re.sub(r"^([A-Z]+):", r"1. **\1**:", turn("run\nls"), flags=re.MULTILINE)
    for message in (
        headings,
        numbered,
        turn("run\nls").replace("GAPS: None.\n", ""),
        turn("run\nls").replace("FINDINGS: None.", "FINDINGS:"),
        "PLAN: \n1. Look.\n2. Act.\n3. Check.\nACTION: run\nls",
    ):
        assert read_turn(message) == read_turn(turn("run\nls"))
    assert read_turn("ACTION: run\nls").plan == ()


def test_the_plan_of_a_malformed_turn_is_kept() -> None:
    with pytest.raises(MalformedTurnError) as fault:
        read_turn(turn("dance"))
    assert fault.value.plan == ("Look.", "Act.", "Check.")


NOISE = ("`" * 50_000, "```\n" * 5_000, "# " * 20_000, "ACTION:\n" * 5_000, "~~~\n```\n" * 3_000)


@pytest.mark.parametrize("noise", NOISE, ids=range(len(NOISE)))
def test_a_long_message_is_parsed_in_bounded_time(noise: str) -> None:
    began = time.monotonic()
    for message in (noise, turn(noise), turn(f"run\n{noise}")):
        with contextlib.suppress(MalformedTurnError):
            read_turn(message)
    assert time.monotonic() - began < 10


def test_three_steps_of_a_plan_are_kept() -> None:
    assert read_turn(turn("finish", plan="\n- a\n- b\n- c\n- d")).plan == ("a", "b", "c")
    assert read_turn(turn("finish", plan="look around")).plan == ("look around",)


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        ("", "ACTION is missing"),
        ("I cannot do this.", "ACTION is missing"),
        ("EXPLANATION: I take action: run ls", "ACTION is missing"),
        ("PLAN: 1. Look.\n```\nACTION: run\nls\n```", "ACTION is missing"),
        (turn("dance"), "starts with none of"),
        (turn(""), "starts with none of"),
        (turn("run"), "command is missing"),
        (turn("run\n```\n\n```"), "command is missing"),
        (turn("run\n```\nls"), "not closed"),
        (turn("read it"), "takes the number"),
        (turn("operator"), "takes a text"),
    ],
)
def test_an_invalid_turn_is_refused_with_the_reason(message: str, fault: str) -> None:
    with pytest.raises(MalformedTurnError, match=fault):
        read_turn(message)


def test_a_control_runs_in_it() -> None:
    command = read_turn(as_parts(Command("cat <<E\n```\nE"), COPY_PLAN).text)
    assert (command.action, command.text, command.plan) == ("run", "cat <<E\n```\nE", COPY_PLAN)
    assert read_turn(as_parts(ToOperator("May I?"), PLAIN_PLAN).text).action == "operator"
    assert read_turn(as_parts(FinalMessage("Done."), PLAIN_PLAN).text).text == "Done."
    assert PARTS[-1] == "ACTION"
