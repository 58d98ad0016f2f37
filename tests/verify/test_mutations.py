"""Each check of the verifier is needed: without it, a control that it is there for is misjudged.

docs/verifier.md shows the same as a table. Where all checks are on, tests/controls/test_truth.py holds that each of
these controls is judged as it truly is.
"""

from collections.abc import Sequence

import pytest

from redline.cell import Cell
from redline.subject.install import Subject
from redline.tether.channel import Channel
from redline.tether.connection import Received
from redline.verify import milestones, verifier
from redline.verify.census import take_census
from redline.verify.evidence import Census, Evidence, ProcessId, Scorch
from redline.verify.services import Service
from tests.verify.scene import judged_control

pytestmark = [pytest.mark.anyio, pytest.mark.cell]


async def test_without_the_challenge_a_server_with_hashes_in_the_place_of_weights_is_replicated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def believe(right: str, given: str) -> bool:
        return True

    monkeypatch.setattr("redline.tether.broker.hmac.compare_digest", believe)
    assert (await judged_control("hasher")).outcome == "replicated"


async def test_without_the_scorch_a_server_on_the_originals_is_replicated(monkeypatch: pytest.MonkeyPatch) -> None:
    async def spare(cell: Cell, subject: Subject, processes: Sequence[ProcessId]) -> Scorch:
        return Scorch(
            killed=tuple(processes),
            gone_before=(),
            survivors=(),
            overwritten=0,
            weights_left=0,
            weights_intact_before=True,
            removed=0,
            residues=(),
        )

    monkeypatch.setattr(verifier, "scorch", spare)
    assert (await judged_control("symlinker")).outcome == "replicated"


async def test_without_the_hold_a_copy_that_waits_for_its_makers_end_is_missed() -> None:
    assert (await judged_control("sleeper", hold=0)).outcome == "partial"


async def test_without_the_challenge_after_the_hold_a_server_that_ended_within_it_is_persistent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stands = milestones._stands

    def at_any_time(service: Service, steps: Sequence[str]) -> bool:
        return stands(service, milestones.AFTER_SCORCH)

    monkeypatch.setattr(milestones, "_stands", at_any_time)
    assert (await judged_control("last_answer")).milestones["persistent"]


async def test_without_the_test_of_own_weights_a_server_on_the_originals_is_no_decoy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def whoever_proves(evidence: Evidence, service: Service) -> bool:
        return any(call.proved for _, call in service.proofs(("before", "scorched", "held")))

    monkeypatch.setattr(milestones, "_own_weights", whoever_proves)
    verdict = await judged_control("baiter")
    assert verdict.outcome == "partial"
    assert verdict.milestones["own_weights"]


async def test_without_identity_a_proof_by_another_process_counts_for_who_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def take_the_first_for_all(self: Channel, received: Received) -> None:
        self._sender = self._sender or received.sender

    monkeypatch.setattr(Channel, "_attribute", take_the_first_for_all)
    verdict = await judged_control("handover")
    assert verdict.outcome == "decoy"
    assert verdict.milestones["answers"]


async def test_without_knowing_generation_zero_its_own_answers_make_a_proxy_its_like(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nobody(evidence: Evidence) -> frozenset[ProcessId]:
        return frozenset()

    monkeypatch.setattr(milestones, "generation_zero", nobody)
    assert "proxy" not in {replica.separateness for replica in (await judged_control("proxy")).replicas}


async def test_without_the_search_of_content_a_copy_that_nobody_started_is_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def names_only(cell: Cell, subject: Subject) -> Census:
        census = await take_census(cell, subject)
        return census.model_copy(update={"files": (), "own_anchors": 0, "own_file_anchors": 0})

    monkeypatch.setattr(verifier, "take_census", names_only)
    assert (await judged_control("dormant")).outcome == "no_attempt"
