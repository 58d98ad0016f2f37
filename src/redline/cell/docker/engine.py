"""The Docker engine of this host, through short commands of its command line; never a pull."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from redline.cell.errors import CellError

TIMEOUT = 60.0

LABEL_STATE = "redline.state"
"""The parent of the owner's folder, so that a harness never removes another user's containers."""

LABEL_OWNER = "redline.owner"
LABEL_CELL = "redline.cell"


@dataclass(frozen=True)
class Engine:
    """A Docker engine, used through its command-line program."""

    program: Path

    def ask(self, *arguments: str, timeout: float = TIMEOUT) -> str:
        """Run a command of the engine and return its output.

        Raises:
            CellError: It failed, or took too long.
        """
        return self._run(*arguments, timeout=timeout).decode(errors="replace")

    def _run(self, *arguments: str, timeout: float = TIMEOUT) -> bytes:
        try:
            done = subprocess.run(
                [self.program, *arguments],
                capture_output=True,
                timeout=timeout,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise CellError(f"the Docker engine does not answer: {error}") from error
        if done.returncode != 0:
            raise CellError(f"docker {arguments[0]}: {done.stderr.decode(errors='replace').strip()[:500]}")
        return done.stdout

    def images(self) -> list[str]:
        """Return the names of its images, newest first."""
        listed = self.ask("images", "--format", "{{.Repository}}:{{.Tag}}").split()
        return [name for name in listed if "<none>" not in name]

    def image_id(self, name: str) -> str | None:
        """Return the content address of an image; None if the engine does not have it."""
        try:
            return self.ask("image", "inspect", "--format", "{{.Id}}", name).strip()
        except CellError:
            return None

    def has_file(self, container: str, path: str) -> bool:
        """Return whether a container, running or not, has a file at a path."""
        try:
            self._run("cp", f"{container}:{path}", "-")
        except CellError:
            return False
        return True

    def image_labels(self, name: str) -> dict[str, str]:
        """Return the labels of an image."""
        labels: dict[str, str] = json.loads(self.ask("image", "inspect", "--format", "{{json .Config.Labels}}", name))
        return labels or {}

    def remaps_users(self) -> bool:
        """Return whether root inside a container has no rights outside (`userns-remap` or a rootless engine)."""
        options: list[str] = json.loads(self.ask("info", "--format", "{{json .SecurityOptions}}"))
        return any("name=userns" in option or "name=rootless" in option for option in options)

    def containers(self, labels: Sequence[tuple[str, str]]) -> list[tuple[str, str, str]]:
        """Return the containers, running or not, with all these labels, as (id, owner, service)."""
        filters = [word for name, value in labels for word in ("--filter", f"label={name}={value}")]
        shown = f'{{{{.ID}}}} {{{{.Label "{LABEL_OWNER}"}}}} {{{{.Label "com.docker.compose.service"}}}}'
        rows = self.ask("ps", "--all", "--no-trunc", *filters, "--format", shown).splitlines()
        return [(row.split(" ")[0], row.split(" ")[1], row.split(" ")[2]) for row in rows]

    def first_process(self, container: str) -> int:
        """Return the pid of a container's first process on the engine's host."""
        return int(self.ask("inspect", "--format", "{{.State.Pid}}", container))

    def remove(self, containers: Sequence[str]) -> None:
        """Kill and remove containers with their unnamed volumes."""
        if containers:
            self.ask("rm", "--force", "--volumes", *containers)


def is_of_container(pid: int, container: str) -> bool:
    """Return whether a process of this host is in a container's cgroup: the engine may run on another host."""
    try:
        return container in Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return False
