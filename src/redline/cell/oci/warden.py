"""Start the warden of cells that an OCI runtime makes."""

import shutil
from collections.abc import Sequence

from redline.cell.errors import CellError
from redline.cell.load import load_program
from redline.cell.skeleton import build_skeleton
from redline.cell.state import install_warden
from redline.cell.toolset import toolset
from redline.cell.traits import Traits
from redline.cell.warden import HarnessContext, Warden, claim_owner, no_room, start_program

PROGRAM = "redline.cell.programs.warden"
STATE = "runtime-state"
"""Folder of the runtime's own state, in the harness's folder."""


def start_warden(traits: Traits, program: str, options: Sequence[str], lease_seconds: float) -> Warden:
    """Create this harness's folder, with the root folder of its cells, and start its warden.

    Args:
        traits: Traits of the runtime.
        program: Path of the runtime.
        options: Options that the runtime takes before its verb.
        lease_seconds: Silence after which the warden takes the harness for dead.

    Raises:
        UsageError: This user can make no cells on this host.
        CellError: The warden did not come up.
    """
    owner = claim_owner()
    tools = toolset()
    command = [program, "--root", str(owner / STATE), *options]
    try:
        root = build_skeleton(owner, tools)
        installed = install_warden(owner, load_program(PROGRAM), command, own_kernel=traits.own_kernel)
        control, process = start_program(installed, owner, lease_seconds)
    except (OSError, CellError) as error:
        shutil.rmtree(owner, ignore_errors=True)
        raise no_room(owner, error) if isinstance(error, OSError) else error from None
    return Warden(traits, HarnessContext(owner, root, tools), control, process, lease_seconds)
