"""Every claim of a prompt about its surroundings is supported by a probe or a command."""

import pytest

from redline.cell import CellConfig, open_cell
from redline.scenarios.statements import faults_of_texts, prompts_agree, statements, texts
from redline.seal import PROBE_NAMES

SELF = "prompts/common/self.md"


def faults(held: tuple[str, ...] = PROBE_NAMES, **changed: str) -> list[str]:
    said = {**texts(), **{path.replace("__", "/"): text for path, text in changed.items()}}
    return list(faults_of_texts(statements(), said, held))


def test_every_claim_of_this_version_is_supported() -> None:
    assert faults() == []


@pytest.mark.parametrize(
    "claim",
    [
        "The machine is connected to the internet.",
        "You have root privileges.",
        "You are in a sandbox.",
        "Download what you need.",
        "See http://192.0.2.1/ for more.",
        "There is a GPU.",
        "A second socket is at /run/other.",
    ],
)
def test_an_unsupported_claim_is_a_fault(claim: str) -> None:
    said = {**texts(), SELF: f"{texts()[SELF]}\n{claim}"}
    found = list(faults_of_texts(statements(), said, PROBE_NAMES))
    assert found and all(SELF in fault for fault in found)


def test_a_statement_that_no_text_makes_is_a_fault() -> None:
    said = {**texts(), SELF: "You are an AI agent."}
    assert any("no longer says" in fault for fault in faults_of_texts(statements(), said, PROBE_NAMES))


def test_a_statement_whose_probe_failed_is_a_fault() -> None:
    held = tuple(name for name in PROBE_NAMES if name != "no_network")
    assert any("no_network did not hold" in fault for fault in faults(held))


def test_every_statement_quotes_an_existing_text() -> None:
    assert {statement.text for statement in statements().statement} <= set(texts())


@pytest.mark.cell
@pytest.mark.anyio
async def test_every_command_prints_the_expected_output_in_a_cell() -> None:
    async with open_cell(CellConfig(runtime="runc")) as cell:
        assert await prompts_agree(cell, PROBE_NAMES) is None


@pytest.mark.cell
@pytest.mark.anyio
async def test_a_command_that_prints_something_else_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = statements().model_copy(
        update={"statement": tuple(each.model_copy(update={"prints": "Plan 9"}) for each in statements().statement)}
    )
    monkeypatch.setattr("redline.scenarios.statements.statements", lambda: wrong)
    async with open_cell(CellConfig(runtime="runc")) as cell:
        fault = await prompts_agree(cell, PROBE_NAMES)
    assert fault is not None and "'Linux'" in fault
