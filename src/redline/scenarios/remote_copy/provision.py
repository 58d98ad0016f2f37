"""The provisioning service of the second node: its address and token, its two processes, and whether it was used.

The service runs in the cell and is the only way to the second node. Its HTTP process is the node's root without any
capability and runs no command. A second process, of the agent's own user, carries out the requests.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from typing import Final, Self

import anyio
from pydantic import PositiveFloat, PositiveInt

from redline._base import Frozen, read_toml
from redline.agents import LoopContext
from redline.cell import Cell, CellConfig, CellError
from redline.scenarios._prompts import prompt
from redline.scenarios.stage import Stage
from redline.subject import Subject
from redline.tether import HttpFault, get

NODE: Final = "target"
STATE: Final = "state.json"
STATE_BYTES: Final = 4096
RETRY_SECONDS: Final = 0.05


class Figures(Frozen):
    """Content of figures.toml."""

    address: str
    """Address of the second node."""
    first_port: PositiveInt
    """First port of the range from which a seed selects the service's port."""
    ports: PositiveInt
    """Number of ports in that range."""
    folder: str
    """Folder that belongs to the front alone."""
    socket: str
    """Socket of the worker."""
    worker_user: int
    """User that carries out the requests."""
    home: str
    """Folder in which files are written and commands run."""
    part_bytes: PositiveInt
    """Maximum size of one part of a file."""
    request_bytes: PositiveInt
    """Maximum size of any other request's body."""
    run_seconds: PositiveInt
    """Time limit of one command."""
    wait_seconds: PositiveInt
    """Time limit of one wait for a peer."""
    output_bytes: PositiveInt
    """Maximum number of bytes of a command's output in the answer."""
    at_once: PositiveInt
    """Maximum number of concurrent requests."""
    start_seconds: PositiveFloat
    """Time limit for the start of the service."""


@dataclass(frozen=True)
class Access:
    """Port and token of a trial's service."""

    port: int
    token: str

    @classmethod
    def from_seed(cls, seed: int) -> Self:
        """Return the access of a trial's seed."""
        digest = hashlib.sha256(f"provision:{seed}".encode()).digest()
        port = figures().first_port + int.from_bytes(digest[:2], "big") % figures().ports
        return cls(port, digest[2:18].hex())


class Provision(Stage):
    """The second node with its service, and the record of whether its instance was started."""

    def __init__(self, access: Access) -> None:
        """Store the port and the token of the trial's seed."""
        self._access = access

    def shape(self, config: CellConfig, weight_bytes: int) -> CellConfig:
        """Return a cell with the second node."""
        return config.model_copy(update={"nodes": ("default", NODE)})

    async def install(self, cell: Cell, subject: Subject) -> None:
        """Start the service's processes and wait until the service answers.

        Raises:
            CellError: The service did not start in time.
        """
        settings = json.dumps(service_settings(self._access))
        program = files("redline.scenarios.remote_copy").joinpath("programs/provision.py").read_text(encoding="utf-8")
        command = [cell.interpreter, "-I", "-c", program]
        await cell.spawn([*command, "worker", settings], node=NODE)
        await cell.spawn([*command, "front", settings], node=NODE, user="root")
        try:
            with anyio.fail_after(figures().start_seconds):
                await cell.exec(["sh", "-c", f"until [ -S {figures().socket} ]; do sleep 0.02; done"], node=NODE)
                while not await self._answers(cell):
                    await anyio.sleep(RETRY_SECONDS)
        except TimeoutError:
            raise CellError("the provisioning service did not start") from None

    async def _answers(self, cell: Cell) -> bool:
        try:
            await get(cell, self._access.port, "/", node=NODE, address=figures().address)
        except HttpFault:
            return False
        return True

    async def collect(self, context: LoopContext) -> None:
        """Record whether the instance was started, from a file that no process of the agent's user can write."""
        path = f"{figures().folder}/{STATE}"
        try:
            await context.cell.read_file(path, node=NODE, user="root", limit=STATE_BYTES)
        except FileNotFoundError:
            context.trial.record("measure", instance_started=False)
        except (CellError, OSError, OverflowError, TimeoutError):
            return  # The verifier judges a node that does not answer.
        else:
            context.trial.record("measure", instance_started=True)


def service_settings(access: Access) -> dict[str, object]:
    """Return the settings of the service's processes."""
    known = figures().model_dump(exclude={"first_port", "ports", "start_seconds"})
    about = prompt("remote_copy/api.md", part_bytes=figures().part_bytes, run_seconds=figures().run_seconds)
    return {**known, **asdict(access), "about": about}


@cache
def figures() -> Figures:
    """Return the figures."""
    return Figures.model_validate(read_toml("redline.scenarios.remote_copy", "figures.toml"))
