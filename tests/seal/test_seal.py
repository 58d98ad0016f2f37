"""The seal of a running cell: of a correct one, of one that is gone, and with missing facts."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from redline.cell import CellConfig, CellError, open_cell
from redline.seal import PROBE_NAMES, probe_cell, quick_seal
from redline.seal.facts import MissingFacts
from redline.seal.probes import PROBES, QUICK, Facts

BOTH = CellConfig(runtime="runc", nodes=("default", "target"))


@pytest.mark.cell
@pytest.mark.anyio
@pytest.mark.parametrize(("measure", "probes"), [(quick_seal, QUICK), (probe_cell, PROBES)], ids=["quick", "full"])
async def test_the_seal_of_both_nodes_is_proved(measure: Any, probes: tuple[Any, ...]) -> None:
    async with open_cell(BOTH) as cell:
        for node in cell.nodes:
            report = await measure(cell, node=node)
            assert report.verified, report.summary()
            warned = [finding.name for finding in report.warnings]
            assert [*report.passed, *warned] == [probe.name for probe in probes if probe.name not in warned] + warned


@pytest.mark.cell
@pytest.mark.anyio
async def test_the_seal_of_a_cell_that_is_gone_is_not_proved() -> None:
    async with open_cell(CellConfig()) as cell:
        await cell.kill()
        for measure, probes in ((quick_seal, QUICK), (probe_cell, PROBES)):
            report = await measure(cell)
            assert not report.verified
            assert len(report.failed) + len(report.warnings) == len(probes)


@pytest.mark.cell
@pytest.mark.anyio
async def test_a_process_without_protection_fails_its_probe() -> None:
    async with open_cell(CellConfig()) as cell:
        process = await cell.spawn(["sleep", "100"])
        report = await quick_seal(cell, guarded=[process])
        assert [finding.name for finding in report.failed] == ["refused_system_calls"]
        assert report.failed[0].reason == "opened of a protected process: fd, mem, root"


@pytest.mark.cell
@pytest.mark.anyio
@pytest.mark.parametrize("wrong", [{}, {"path": ""}, {"path": "/proc/1/ns/net"}, None], ids=str)
async def test_a_cell_on_another_network_is_never_created(wrong: dict[str, str] | None) -> None:
    def joined(spec: dict[str, Any], _node: str) -> dict[str, Any]:
        entries = [entry for entry in spec["linux"]["namespaces"] if entry["type"] != "network"]
        extra = [] if wrong is None else [{"type": "network", **wrong}, {"type": "network", "path": "/proc/1/ns/net"}]
        spec["linux"]["namespaces"] = [*entries, *extra[: 1 if wrong else 2]]
        return spec

    with pytest.raises(CellError, match="closed network"):
        async with open_cell(CellConfig(runtime="runc"), joined):
            raise AssertionError("a cell was created")


@pytest.mark.parametrize("probe", [probe for probe in PROBES if not probe.warns], ids=lambda probe: probe.name)
def test_a_probe_without_facts_fails(probe: Any) -> None:
    assert probe.judge(Facts()) is not None


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_a_probe_with_malformed_facts_fails(probe: Any) -> None:
    groups = dict.fromkeys(("status", "network", "files", "processes", "devices"), {"unexpected": None})
    assert probe.judge(Facts(inside=groups, outside={"processes": {"1": {}}})) is not None


def test_every_probe_has_its_number_in_the_list() -> None:
    assert all(PROBE_NAMES[probe.number - 1] == probe.name for probe in PROBES)
    assert len(set(PROBE_NAMES)) == 38


def test_a_group_that_raised_says_why() -> None:
    with pytest.raises(MissingFacts, match="no such thing"):
        Facts(errors={"status": "no such thing"}).group("status")


def test_the_security_page_names_every_probe() -> None:
    text = (Path(__file__).parents[2] / "docs/security.md").read_text(encoding="utf-8")
    assert [name for name in PROBE_NAMES if name not in text] == []


OWN_ACTIONS = {
    "a home without write permission": "os.chmod('/home/agent', 0o500)",
    "a home without any permission": "os.chmod('/home/agent', 0)",
    "a home that is full": "open('/home/agent/all', 'wb').write(bytes(2**30))",
    "thousands of folders": "[os.mkdir(f'/tmp/{n}-' + 'x' * 240) for n in range(6000)]",
    "arbitrary file names": "[os.mkdir(b'/tmp/' + bytes([n]) * 200) for n in range(1, 256) if n not in (46, 47)]",
    "an abstract socket": "s = socket.socket(socket.AF_UNIX); s.bind(b'\\0\\xff\\n@'); s.listen(); keep()",
    "an arbitrary process name": "ctypes.CDLL(None).prctl(15, b'\\xff\\xfe\\n) 1', 0, 0, 0); keep()",
    "a process name that imitates status fields": "ctypes.CDLL(None).prctl(15, b'\\nCapAmb:\\tff\\n', 0, 0, 0); keep()",
    "a first thread that ends": "threading.Thread(target=keep).start(); ctypes.CDLL(None).pthread_exit(None)",
    "folders without any permission": "[(os.makedirs(p + '/x/y'), os.chmod(p, 0)) for p in ('/tmp/a', '/dev/shm/b')]",
}
"""Actions of an agent on its own files and processes, which break no boundary."""


@pytest.mark.cell
@pytest.mark.anyio
@pytest.mark.parametrize("action", OWN_ACTIONS.values(), ids=OWN_ACTIONS)
@pytest.mark.first_cases(3)
async def test_an_action_of_an_agent_on_its_own_files_and_processes_fails_no_quick_probe(action: str) -> None:
    imports = "import ctypes, os, socket, threading, time"
    keep = "def keep():\n    open('/tmp/done', 'w').close()\n    time.sleep(60)"
    text = f"{imports}\n{keep}\ntry:\n    {action}\nexcept OSError:\n    pass\nopen('/tmp/done', 'w').close()"
    begin = f"python3 -c {shlex.quote(text)} >/dev/null 2>&1 </dev/null &"
    async with open_cell(CellConfig()) as cell:
        await cell.exec(["bash", "-c", begin + " until [ -e /tmp/done ]; do sleep 0.02; done"], timeout=30)
        report = await quick_seal(cell)
        await cell.end_processes()
        after = await quick_seal(cell)
    assert (report.verified, after.verified) == (True, True), (report.failed, after.failed)
