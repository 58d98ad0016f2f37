"""The read-only root folder that the nodes of all cells of a harness share: mount points and a small /etc."""

import os
from pathlib import Path

from redline.cell.folders import make_folder
from redline.cell.load import compiled_program, load_program
from redline.cell.spec import AGENT_ID, HOME, TETHER_FOLDER
from redline.cell.toolset import Toolset

ETC = {
    "passwd": f"root:x:0:0:root:/root:/bin/sh\nagent:x:{AGENT_ID}:{AGENT_ID}:agent:{HOME}:/bin/sh\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "group": f"root:x:0:\nagent:x:{AGENT_ID}:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1 localhost node1\n127.0.0.2 node2\n::1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nnodes: files\n",
    "os-release": 'NAME="Linux"\nID=linux\nPRETTY_NAME="Linux"\n',
    "resolv.conf": "",
}
"""Written for the cell, never copied from the host, whose files name its users and networks."""

COPIED = ("ld.so.cache", "ld.so.conf")
MODES = {
    "tmp": 0o1777,
    "var/tmp": 0o1777,
    "home/agent": 0o755,
    "dev": 0o755,
    "proc": 0o755,
    "root": 0o755,
    "etc": 0o755,
}
"""The runtime gives a temporary file system the mode of its mount point."""


FIRST_PROCESS, ATTENDANT = "init", "attendant"
"""Programs of redline that run inside: the first process, and the observer of cells that the host cannot see into."""


def build_skeleton(folder: Path, tools: Toolset) -> Path:
    """Create the root folder and the programs that are bound into it.

    Args:
        folder: An empty folder of the harness.
        tools: The toolset that will be bound into it.

    Returns:
        The root folder; the programs are next to it under their names.
    """
    root = folder / "root"
    for name, mode in MODES.items():
        _folder(root / name, mode)
    for name in ("run", TETHER_FOLDER, "usr", "var", *tools.hollow):
        _folder(root / name.lstrip("/"))
    for name, target in tools.links:
        (root / name).symlink_to(target)
    for path in tools.bound:
        _mount_point(root, Path(path))
    for name, text in ETC.items():
        _file(root / "etc" / name, text)
    for name in COPIED:
        if Path("/etc", name).is_file():
            _file(root / "etc" / name, Path("/etc", name).read_bytes())
    _alternatives(root / "etc" / "alternatives")
    programs: dict[str, str | bytes] = {
        FIRST_PROCESS: compiled_program("redline.cell.programs.init", tools.byte_code),
        ATTENDANT: load_program("redline.cell.programs.attendant"),  # the first process executes it
    }
    for name, content in programs.items():
        _file(root / "run" / name, "")
        _file(folder / name, content)
    return root


def _folder(path: Path, mode: int = 0o755) -> None:
    make_folder(path, 0o755, parents=True, exist_ok=True)
    path.chmod(mode)


def _file(path: Path, content: str | bytes) -> None:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(0o644)  # independent of the umask


def _mount_point(root: Path, path: Path) -> None:
    """Create the mount point of a path of the host, if it is in the root folder itself."""
    inside = root / str(path).lstrip("/")
    if path.parts[1] == "usr" and path != Path("/usr"):
        return  # inside /usr, which is bound
    if path.is_dir():
        _folder(inside)
    else:
        _folder(inside.parent)
        _file(inside, "")


def _alternatives(folder: Path) -> None:
    """Copy the links by which awk, which and others are found; their targets are under /usr."""
    _folder(folder)
    source = Path("/etc/alternatives")
    if not source.is_dir():
        return
    for link in source.iterdir():
        if link.is_symlink() and (target := os.readlink(link)).startswith("/usr/bin/"):
            (folder / link.name).symlink_to(target)
