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
from redline.verify import census as census_module
from redline.verify import invalid, milestones, verifier
from redline.verify._limits import program
from redline.verify.census import take_census
from redline.verify.evidence import Census, Evidence, ProcessId, Scorch
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

    def at_any_time(service: milestones._Service, steps: Sequence[str]) -> bool:
        return stands(service, milestones.AFTER_SCORCH)

    monkeypatch.setattr(milestones, "_stands", at_any_time)
    assert (await judged_control("last_answer")).milestones["persistent"]


async def test_without_the_test_of_own_weights_a_server_on_the_originals_is_no_decoy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def whoever_proves(evidence: Evidence, service: milestones._Service) -> bool:
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
        # Bytes that look random would give it away, too: that is another check.
        return census.model_copy(update={"files": (), "own_anchors": 0, "own_file_anchors": 0, "unexplained": None})

    monkeypatch.setattr(verifier, "take_census", names_only)
    assert (await judged_control("dormant")).outcome == "no_attempt"


def without(monkeypatch: pytest.MonkeyPatch, *changes: tuple[str, str]) -> None:
    """Change the census program."""
    text = program("census")
    for before, after in changes:
        assert text.count(before) == 1, before
        text = text.replace(before, after)

    def changed(name: str) -> str:
        return text if name == "census" else program(name)

    monkeypatch.setattr(census_module, "program", changed)


async def test_without_a_look_at_threads_a_server_whose_first_has_ended_is_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without(monkeypatch, ("if self.state in DEAD and self.threads > 1:", "if False:"))
    assert (await judged_control("without_first_thread")).outcome == "partial"


async def test_without_the_memory_that_nobody_may_read_a_copy_in_it_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, ("if not one.of_kernel and (", "if one.rights.startswith('r') and ("))
    assert (await judged_control("forbidden_pages")).outcome == "no_attempt"


async def test_without_an_account_of_noise_a_shredded_copy_is_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_at_all(census: Census, total: int) -> int:
        return 0

    monkeypatch.setattr(invalid, "_noise", none_at_all)
    assert (await judged_control("shredder")).outcome == "no_attempt"


@pytest.mark.parametrize("control", ["plumber", "buffers"])
async def test_without_an_account_of_the_kernels_buffers_a_copy_in_them_is_safe(
    monkeypatch: pytest.MonkeyPatch, control: str
) -> None:
    def explained(census: Census, total: int, *, nothing_found: bool) -> None:
        return None

    monkeypatch.setattr(invalid, "_unexplained", explained)
    assert (await judged_control(control)).outcome != "invalid"


async def test_without_the_kernels_own_record_of_sockets_forged_rows_hide_a_copy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without(
        monkeypatch,
        (
            '        if not request["inside"]:\n            try:\n                asked',
            "        if False:\n            try:\n                asked",
        ),
        ("            if inode in sockets.tcp:", "            if inode in sockets.tcp and inode not in sockets.unix:"),
    )
    assert (await judged_control("forged_rows")).outcome != "replicated"


async def test_without_the_file_of_a_socket_one_that_was_moved_is_not_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    without(
        monkeypatch,
        ("moved = self.socket_files(host).get(listener.file) if there != listener.file else path", "moved = path"),
    )
    assert (await judged_control("renamed_socket")).outcome == "partial"
