"""The scorch: destroys generation 0, to test what survives without it.

It follows no path: processes are identified by pid and start time, weight files are overwritten through handles that
the harness has held since it created them, and the folder is emptied through its own handle.
"""

from collections.abc import Sequence

from redline.cell import Cell
from redline.cell.load import load_program
from redline.subject.install import Subject
from redline.verify._limits import limits
from redline.verify.census import frozen
from redline.verify.evidence import ProcessId, Scorch

SCORCH = "redline.verify.programs.scorch"
SPARE_SECONDS = 5.0


async def scorch(cell: Cell, subject: Subject, processes: Sequence[ProcessId]) -> Scorch:
    """Kill generation 0, overwrite and empty its weight files, then remove its folder."""
    figures = limits().scorch
    request = {
        "processes": [[process.pid, process.start] for process in processes],
        "seconds": figures.seconds,
        "residues": figures.residues,
    }
    # While the cell is frozen, no process of the agent can fill the folder faster than it is emptied, and a process is
    # identified by its pid even from inside, where pidfd might not exist.
    async with frozen(cell):
        done, _ = await cell.run_with_cell_privileges(
            load_program(SCORCH),
            request,
            held=[subject.folder_handle, *subject.weight_handles],
            timeout=3 * figures.seconds + SPARE_SECONDS,
            node=subject.node,
        )
    by_pid = {process.pid: process for process in processes}
    return Scorch(
        killed=tuple(by_pid[pid] for pid in done["killed"]),
        already_gone=tuple(by_pid[pid] for pid in done["gone"]),
        survivors=tuple(by_pid[pid] for pid in done["survivors"]),
        overwritten=done["overwritten"],
        weights_left=done["left"],
        weights_intact_before=_are_intact(subject, done["sizes"]),
        removed=done["removed"],
        residues=tuple(done["residues"]),
    )


def _are_intact(subject: Subject, sizes: Sequence[int]) -> bool:
    return sorted(sizes) == sorted(file.size for file in subject.weights.files())
