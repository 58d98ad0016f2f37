"""The harness's side of the warden of Docker cells."""

import contextlib
import os
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from redline.cell.docker.compose import write_seccomp_file
from redline.cell.docker.engine import LABEL_STATE, Engine
from redline.cell.docker.image import Image, cell_image
from redline.cell.errors import CellError
from redline.cell.machine import Toolset
from redline.cell.runtime import Runtime, find_runtime
from redline.cell.state import has_living_warden, state_folder
from redline.cell.warden import LEASE_SECONDS, HarnessContext, Warden, claim_owner, start_program

PATH = "/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin"


@dataclass(frozen=True)
class DockerHarnessContext:
    """What all Docker cells of a harness share, beside their folder."""

    engine: Engine
    image: Image
    seccomp: Path
    remaps_users: bool
    lease_seconds: float


class DockerWarden(Warden):
    """A running warden of Docker cells and the lease on it."""

    docker: DockerHarnessContext

    @classmethod
    def begin(cls, runtime: Runtime, lease_seconds: float = LEASE_SECONDS) -> "DockerWarden":
        """Sweeps what dead harnesses left, makes the image of cells if need be and starts the warden.

        Raises:
            UsageError: The engine has no image to make cells from.
            CellError: The engine or the warden did not come up.
        """
        engine = Engine(runtime.program)
        sweep_containers(engine)
        image = cell_image(engine)
        remaps_users = engine.remaps_users()
        owner = claim_owner(runtime)
        command = [str(runtime.program)]
        (owner / "runtime").write_text("\0".join(command))
        seccomp = write_seccomp_file(owner)
        program = Path(str(files("redline.cell.docker").joinpath("programs/warden.py")))
        control, process = start_program(program, owner, command, lease_seconds)
        tools = Toolset(interpreter=image.interpreter, bound=(), masked=(), hollow=(), links=(), path=PATH)
        warden = cls(runtime, HarnessContext(owner, owner, tools), control, process, lease_seconds)
        warden.docker = DockerHarnessContext(engine, image, seccomp, remaps_users, lease_seconds)
        return warden


def sweep_containers(engine: Engine | None = None) -> int:
    """Removes the containers of this user's harnesses that are no more, whatever became of their folders.

    Containers outlive a restart of the machine, and the folders by which a sweep knows a harness do not.

    Returns:
        How many containers were removed.
    """
    if engine is None:
        runtime = find_runtime("docker")
        if runtime is None:
            return 0
        engine = Engine(runtime.program)
    state = state_folder()
    found = engine.containers([(LABEL_STATE, str(state))])
    dead = [identifier for identifier, owner, _ in found if not has_living_warden(state / os.path.basename(owner))]
    with contextlib.suppress(CellError):  # another harness's sweep may be at it
        engine.remove(dead)
    return len(dead)
