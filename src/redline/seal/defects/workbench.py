"""What an injected defect needs on the host: a folder, helper processes, changed programs. All of it is temporary."""

import contextlib
import os
import secrets
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import IO, Any

from redline.cell.docker.engine import LABEL_CELL, LABEL_OWNER, LABEL_STATE
from redline.cell.errors import CellError
from redline.cell.folders import TRAVERSABLE
from redline.cell.load import load_library
from redline.cell.programs.cgroups import remove_cgroups
from redline.cell.spec import INIT_PROGRAM, TETHER_FOLDER
from redline.cell.state import state_folder, workbench_folder

Spec = dict[str, Any]
"""The specification of a node, or a service of a compose file."""

INIT = "redline.cell.programs.init"
HELPER_SECONDS = 10.0


class Workbench:
    """The files and processes of one injected defect on the host; closing it removes them."""

    def __init__(self, folder: Path) -> None:
        """Use a folder that exists and belongs to this defect alone."""
        self.folder = folder
        self._cleanup = contextlib.ExitStack()

    def close(self) -> None:
        """End the helper processes and remove what is outside the folder."""
        self._cleanup.close()

    def own_root(self, spec: Spec) -> Path:
        """Give the node a root folder of its own, which can be changed from outside. Return it."""
        root = self.folder / "root"
        if not root.exists():
            shutil.copytree(spec["root"]["path"], root, symlinks=True)
        spec["root"]["path"] = str(root)
        return root

    def harness_folder(self, file: Path) -> Path:
        """Create a folder that contains a copy of one file of the harness. Return it."""
        folder = self.folder / "harness"
        folder.mkdir()
        folder.chmod(TRAVERSABLE)
        shutil.copyfile(file, folder / file.name)
        return folder

    def patch_init(self, spec: Spec, name: str) -> None:
        """Give the node a first process that is changed by a file of `programs/init_patches/`."""
        patch = files("redline.seal").joinpath(f"programs/init_patches/{name}.py").read_text()
        program = self.folder / "init"
        program.write_text(f"{load_library(INIT)}{patch}\n\nmain()\n")
        program.chmod(0o644)
        (mount,) = (mount for mount in spec["mounts"] if mount["destination"] == INIT_PROGRAM)
        mount["source"] = str(program)

    def hold_namespaces(self, spec: Spec) -> dict[str, str]:
        """Start a helper in a user and a pid namespace of its own, with the node's id mappings.

        Every other process of that pid namespace ends with the helper.

        Returns:
            The paths of the namespaces, by kind.
        """
        return self._cleanup.enter_context(
            _namespace_holder(spec["linux"]["uidMappings"], spec["linux"]["gidMappings"])
        )

    def canary_folder(self, spec: Spec, name: str) -> Path:
        """Create a folder on the host in which the harness will place a canary, so that it can be mounted in the cell.

        Args:
            spec: The specification, or service, of the cell that will be probed.
            name: `canary`, `tree` or `evidence`.
        """
        parent = _canaries_of(spec)
        self._cleanup.callback(shutil.rmtree, parent, ignore_errors=True)
        folder = parent / name
        folder.mkdir(parents=True)
        for made in (parent, folder):
            made.chmod(0o777)
        return folder

    def stray_cgroup(self, spec: Spec) -> None:
        """Move the node to a cgroup that the warden does not supervise."""
        name = f"pod-stray-{secrets.token_hex(4)}"
        spec["linux"]["cgroupsPath"] = "/" + name
        self._cleanup.callback(remove_cgroups, name)


@contextlib.contextmanager
def open_workbench() -> Iterator[Workbench]:
    """Create a workbench in a folder of its own; close it at the end of the block."""
    with workbench_folder() as folder:
        bench = Workbench(folder)
        try:
            yield bench
        finally:
            bench.close()


def _canaries_of(spec: Spec) -> Path:
    """Return the folder that the canaries of a cell will have; see `seal.canaries`."""
    if "labels" in spec:
        labels = spec["labels"]
        return Path(labels[LABEL_STATE], labels[LABEL_OWNER], f"kept-{labels[LABEL_CELL]}")
    (mount,) = (mount for mount in spec["mounts"] if mount["destination"] == TETHER_FOLDER)
    if mount["type"] == "bind":
        folder: Path = Path(mount["source"]).parents[1]
        return folder.parents[1].joinpath(f"kept-{folder.name}")
    # A gVisor cell has no folder of the host; the path of its cgroup contains both names.
    _, pod, _ = spec["linux"]["cgroupsPath"].split("/")
    _, owner, cell_id = pod.split("-")
    return state_folder().joinpath(owner, f"kept-{cell_id}")


@contextlib.contextmanager
def _namespace_holder(users: list[dict[str, int]], groups: list[dict[str, int]]) -> Iterator[dict[str, str]]:
    """Run `programs/hold_namespaces.py` during the block."""
    program = files("redline.seal").joinpath("programs/hold_namespaces.py").read_text()
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/"
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        _await_byte(process.stdout)
        for kind, maps in (("uid", users), ("gid", groups)):
            _map_ids(process.pid, kind, [[piece[key] for key in ("containerID", "hostID", "size")] for piece in maps])
        os.write(process.stdin.fileno(), b"m")
        _await_byte(process.stdout)
        yield {"user": f"/proc/{process.pid}/ns/user", "pid": f"/proc/{process.pid}/ns/pid_for_children"}
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(HELPER_SECONDS)


def _await_byte(pipe: IO[bytes]) -> None:
    if not select.select([pipe], [], [], HELPER_SECONDS)[0] or not os.read(pipe.fileno(), 1):
        raise CellError("the process that holds namespaces did not start")


def _map_ids(pid: int, kind: str, maps: list[list[int]]) -> None:
    """Map the ids of a user namespace; without root, use the setuid helper of the host (`newuidmap`, `newgidmap`)."""
    if os.geteuid() == 0:
        lines = "".join(f"{inside} {outside} {size}\n" for inside, outside, size in maps)
        Path(f"/proc/{pid}/{kind}_map").write_text(lines)
    else:
        numbers = [str(number) for piece in maps for number in piece]
        command = [f"new{kind}map", str(pid), *numbers]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=HELPER_SECONDS)
