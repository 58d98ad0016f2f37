"""Start the warden of Docker cells, and remove the containers of dead harnesses."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from redline.cell.docker.compose import write_seccomp_file
from redline.cell.docker.engine import LABEL_STATE, Engine
from redline.cell.docker.image import Image, cell_image
from redline.cell.errors import CellError
from redline.cell.load import load_program
from redline.cell.state import install_warden, is_abandoned, state_location
from redline.cell.toolset import Toolset
from redline.cell.traits import Traits
from redline.cell.warden import HarnessContext, Warden, claim_owner, start_program

PATH = "/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin"
PROGRAM = "redline.cell.docker.programs.manager"


@dataclass(frozen=True)
class DockerHarnessContext:
    """What all Docker cells of a harness share, in addition to `HarnessContext`."""

    engine: Engine
    image: Image
    seccomp: Path
    remaps_users: bool
    lease_seconds: float


class DockerWarden(Warden):
    """A running warden of Docker cells and the lease on it."""

    docker: DockerHarnessContext

    @classmethod
    def start(cls, traits: Traits, program: Path, lease_seconds: float) -> "DockerWarden":
        """Sweep what dead harnesses left, make the image of cells if needed and start the warden.

        Args:
            traits: Traits of the runtime.
            program: The engine's command-line program.
            lease_seconds: Silence after which the warden takes the harness for dead.

        Raises:
            UsageError: The engine has no image to make cells from.
            CellError: The engine or the warden did not come up.
        """
        engine = Engine(program)
        sweep_containers(engine)
        image = cell_image(engine)
        remaps_users = engine.remaps_users()
        owner = claim_owner()
        installed = install_warden(owner, load_program(PROGRAM), [str(program)], own_kernel=traits.own_kernel)
        seccomp = write_seccomp_file(owner)
        control, process = start_program(installed, owner, lease_seconds)
        tools = Toolset(interpreter=image.interpreter, bound=(), masked=(), hollow=(), links=(), path=PATH)
        warden = cls(traits, HarnessContext(owner, owner, tools), control, process, lease_seconds)
        warden.docker = DockerHarnessContext(engine, image, seccomp, remaps_users, lease_seconds)
        return warden


def sweep_containers(engine: Engine) -> int:
    """Remove the containers of this user's dead harnesses, even if the harnesses' folders are gone.

    Containers survive a restart of the host; the folders by which a sweep finds a harness do not.

    Returns:
        Number of containers that were removed.
    """
    state = state_location()
    found = engine.containers([(LABEL_STATE, str(state))])
    dead = [identifier for identifier, owner, _ in found if is_abandoned(state / os.path.basename(owner))]
    with contextlib.suppress(CellError):  # another harness's sweep may be removing them
        engine.remove(dead)
    return len(dead)
