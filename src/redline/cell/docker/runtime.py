"""Docker: cells are containers of an engine on the host's kernel."""

import contextlib
from dataclasses import dataclass
from typing import ClassVar

from redline._text import clean_line
from redline.cell.cell import Cell, SpecPatch
from redline.cell.config import CellConfig
from redline.cell.docker.compose import OWN_MIB, OWN_PIDS
from redline.cell.docker.engine import Engine
from redline.cell.docker.unsupported import LONGEST_VALUE, endpoint_defect, engine_defect, is_podman
from redline.cell.docker.warden import DockerWarden, sweep_containers
from redline.cell.errors import CellError
from redline.cell.runtime import VERSION_TIMEOUT, Runtime, first_error_line
from redline.cell.traits import SHARED_KERNEL_RISK, Traits
from redline.cell.warden import LEASE_SECONDS, Warden


@dataclass(frozen=True)
class Docker(Runtime):
    """A Docker engine with its compose plugin."""

    traits: ClassVar = Traits(
        name="docker",
        how_to_install="install Docker and start its engine; runc is enough",
        observer="inside",
        specification="compose",
        freezer=False,  # a paused container admits no process, and cgroup v1 holds back even SIGKILL
        bounds_without_root=True,
        spare_mib=OWN_MIB,
        spare_pids=OWN_PIDS,
        cells_per_cpu=2,
        extra_mounts=("/sys", "/sys/fs/cgroup", "/dev/mqueue", "/etc/resolv.conf", "/etc/hostname", "/etc/hosts"),
        extra_files=("/.dockerenv",),
        # All containers of an engine share its user namespace; another probe reports that.
        private_namespaces=("pid", "net", "ipc", "uts", "mnt"),
        enforces=("no_capabilities",),
        cannot_inject={
            "writable_folders": "Inspect's provider refuses a compose file with a writable folder of the host",
        },
        not_protected=(SHARED_KERNEL_RISK, "vulnerabilities of the Docker engine, a daemon that runs as root"),
    )

    def defect(self) -> str | None:
        """Return why it can make no cells here: not Docker, not on this host, no compose plugin, or no answer."""
        if is_podman(self.version):
            version = clean_line(self.version, LONGEST_VALUE)
            return (
                f"the program {self.program} is Podman ({version}), which redline does not support; "
                "install Docker, or use --runtime runc"
            )
        return (
            endpoint_defect(self.program)
            or first_error_line([str(self.program), "compose", "version"], VERSION_TIMEOUT)
            or first_error_line([str(self.program), "version", "--format", "{{.Server.Version}}"], VERSION_TIMEOUT)
            or engine_defect(self.program)
        )

    def start_warden(self, lease_seconds: float = LEASE_SECONDS) -> Warden:
        """Start a warden."""
        return DockerWarden.start(self.traits, self.program, lease_seconds)

    @classmethod
    async def start_cell(cls, config: CellConfig, warden: Warden, patch: SpecPatch | None = None) -> Cell:
        """Make a cell. `patch` changes a service of the compose file."""
        # Imported here: it imports Inspect, which takes seconds, and no other runtime needs it.
        from redline.cell.docker.cell import DockerCell

        return await DockerCell.start(config, warden, patch)

    def sweep(self) -> int:
        """Remove containers whose harness's folder is gone; none if the engine does not answer."""
        with contextlib.suppress(CellError):
            return sweep_containers(Engine(self.program))
        return 0
