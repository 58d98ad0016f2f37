"""A cell made by a user without root has the same properties as a cell made by root."""

import json
import sys

import pytest

from tests.rootless import rootless

pytestmark = pytest.mark.cell

PROGRAM = """
import anyio, json
from redline.cell import CellConfig, open_cell
from redline.seal import quick_seal
async def main():
    async with open_cell(CellConfig(nodes=("default", "target"))) as cell:
        reports = [await quick_seal(cell, node=node) for node in cell.nodes]
        await cell.spawn(["sh", "-c", "while :; do echo x >>/tmp/log; done"])
        storm = await cell.exec(["sh", "-c", "for i in $(seq 400); do sleep 100 & done; echo made"])
        await cell.freeze()
        await cell.thaw()
        print(json.dumps({
            "rootless": cell.rootless,
            "failed": [finding.name for report in reports for finding in report.failed],
            "notes": list(reports[0].notes),
            "storm": storm.returncode,
            "killed": await cell.kill(),
        }))
anyio.run(main)
"""


@pytest.mark.long
@pytest.mark.host("a user without root, with subordinate ids", how="really")
def test_a_cell_without_root_is_sealed_bounded_and_killed() -> None:
    done = rootless([sys.executable, "-c", PROGRAM])
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["rootless"]
    assert found["failed"] == []
    assert any("cgroup" in note for note in found["notes"])
    assert found["storm"] != 0, "the process limit did not bite"
    assert found["killed"] < 5
