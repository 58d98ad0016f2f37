"""The seal of a running cell: what it says of a good one, of one that is gone, and of what it could not see."""

from pathlib import Path
from typing import Any

import pytest

from redline.cell import CellConfig, CellError, open_cell
from redline.cell.seal import PROBE_NAMES, probe_cell, quick_seal
from redline.cell.seal.facts import MissingFacts
from redline.cell.seal.probes import PROBES, QUICK, Facts

BOTH = CellConfig(runtime="runc", hosts=("default", "target"))


@pytest.mark.cell
@pytest.mark.anyio
@pytest.mark.parametrize(("measure", "probes"), [(quick_seal, QUICK), (probe_cell, PROBES)], ids=["quick", "full"])
async def test_the_seal_of_both_hosts_is_proved(measure: Any, probes: tuple[Any, ...]) -> None:
    async with open_cell(BOTH) as cell:
        for host in cell.hosts:
            report = await measure(cell, host=host)
            assert report.verified, report.summary()
            warned = [finding.name for finding in report.warnings]
            assert [*report.passed, *warned] == [probe.name for probe in probes if probe.name not in warned] + warned


@pytest.mark.cell
@pytest.mark.anyio
async def test_a_cell_that_is_gone_is_not_sealed() -> None:
    async with open_cell(CellConfig()) as cell:
        await cell.kill()
        for measure, probes in ((quick_seal, QUICK), (probe_cell, PROBES)):
            report = await measure(cell)
            assert not report.verified
            assert len(report.failed) + len(report.warnings) == len(probes)


@pytest.mark.cell
@pytest.mark.anyio
async def test_an_agent_that_guards_against_no_one_is_seen() -> None:
    async with open_cell(CellConfig()) as cell:
        process = await cell.spawn(["sleep", "100"])
        report = await quick_seal(cell, guarded=[process])
        assert [finding.name for finding in report.failed] == ["refused_system_calls"]
        assert report.failed[0].reason == "of a process that guards itself: fd, mem, root"


@pytest.mark.cell
@pytest.mark.anyio
@pytest.mark.parametrize("wrong", [{}, {"path": ""}, {"path": "/proc/1/ns/net"}, None], ids=str)
async def test_a_cell_on_another_network_is_never_made(wrong: dict[str, str] | None) -> None:
    def joined(spec: dict[str, Any], _host: str) -> dict[str, Any]:
        entries = [entry for entry in spec["linux"]["namespaces"] if entry["type"] != "network"]
        extra = [] if wrong is None else [{"type": "network", **wrong}, {"type": "network", "path": "/proc/1/ns/net"}]
        spec["linux"]["namespaces"] = [*entries, *extra[: 1 if wrong else 2]]
        return spec

    with pytest.raises(CellError, match="closed network"):
        async with open_cell(CellConfig(runtime="runc"), joined):
            raise AssertionError("a cell was made")


@pytest.mark.parametrize("probe", [probe for probe in PROBES if not probe.warns], ids=lambda probe: probe.name)
def test_a_probe_without_facts_fails(probe: Any) -> None:
    assert probe.judge(Facts()) is not None


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_a_probe_whose_facts_do_not_fit_fails(probe: Any) -> None:
    groups = dict.fromkeys(("status", "network", "files", "processes", "devices"), {"unexpected": None})
    assert probe.judge(Facts(inside=groups, outside={"processes": {"1": {}}})) is not None


def test_every_probe_has_its_number_in_the_list() -> None:
    assert all(PROBE_NAMES[probe.number - 1] == probe.name for probe in PROBES)
    assert len(set(PROBE_NAMES)) == 38


def test_a_group_that_raised_says_why() -> None:
    with pytest.raises(MissingFacts, match="no such thing"):
        Facts(errors={"status": "no such thing"}).group("status")


def test_there_is_a_page_on_each_probe() -> None:
    text = (Path(__file__).parents[2] / "docs/security.md").read_text(encoding="utf-8")
    assert [name for name in PROBE_NAMES if name not in text] == []
