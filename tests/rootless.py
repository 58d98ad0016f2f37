"""Run a command as an unprivileged user with subordinate ids, in a mount namespace of its own."""

import os
import secrets
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

FIRST_UID, FIRST_RANGE = 30_000, 1 << 31
"""Above the ids that root gives to cells."""

USERS = 16_384
RANGE = 65_536
NAME = "tester"
CHECKOUT = Path(__file__).parents[1]
NEEDED = (Path(sys.base_prefix), Path(sys.prefix), CHECKOUT)
"""Folders that the command reads: the interpreter, its packages, this checkout."""


def rootless(command: Sequence[str], timeout: float = 300.0) -> subprocess.CompletedProcess[str]:
    """Run a command without root: as this user if it is not root, else as a temporary user."""
    if os.geteuid() != 0:
        paths = {"PYTHONPATH": f"{CHECKOUT}/src:{CHECKOUT}"}
        return subprocess.run(
            list(command), capture_output=True, text=True, timeout=timeout, check=False, env=os.environ | paths
        )
    # Cells are counted and limited by the ids of their processes. Users with the same ids in several concurrent tests
    # would see processes of each other's cells, since their claims are in different folders.
    number = secrets.randbelow(USERS)
    uid = FIRST_UID + number
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o755)
        for name in ("subuid", "subgid"):
            (folder / name).write_text(f"{NAME}:{FIRST_RANGE + number * RANGE}:{RANGE}\n")
        known = Path("/etc/passwd").read_text()
        (folder / "passwd").write_text(known + f"{NAME}:x:{uid}:{uid}::{folder}/home:/bin/sh\n")
        (folder / "home").mkdir()
        os.chown(folder / "home", uid, uid)
        return subprocess.run(
            ["unshare", "--mount", "sh", "-e", "-c", "\n".join(_script(folder, uid, command))],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


def _script(folder: Path, uid: int, command: Sequence[str]) -> Iterator[str]:
    """Yield the shell commands that mount what the temporary user needs, unseen by the host, and run the command."""
    yield "mount --make-rprivate /"
    for name in ("subuid", "subgid", "passwd"):
        yield f"mount --bind {folder}/{name} /etc/{name}"
    yield from _opened(folder)
    home = f"{folder}/home"
    # The interpreter's packages can contain an editable install of another checkout.
    environment = [f"PYTHONPATH={CHECKOUT}/src:{CHECKOUT}"]
    environment += [f"HOME={home}", f"TMPDIR={home}", f"XDG_RUNTIME_DIR={home}", "LANG=C.UTF-8"]
    user = ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups"]
    yield "exec " + shlex.join(
        [*user, "env", "-i", *environment, "PATH=/usr/sbin:/usr/bin:/sbin:/bin", *command],
    )


def _opened(folder: Path) -> Iterator[str]:
    """Replace folders that others cannot enter, such as root's home, by folders with only the needed content."""
    closed = {path: _closed_above(path) for path in NEEDED}
    kept = {path: f"{folder}/kept-{number}" for number, path in enumerate(NEEDED) if closed[path]}
    for path, mount in kept.items():
        yield f"mkdir {mount} && mount --bind {shlex.quote(str(path))} {mount}"
    for above in sorted({str(above) for above in closed.values() if above}):
        yield f"mount -t tmpfs -o mode=755 tmpfs {shlex.quote(above)}"
    for path, mount in kept.items():
        yield f"mkdir -p {shlex.quote(str(path))} && mount --bind {mount} {shlex.quote(str(path))}"


def _closed_above(path: Path) -> Path | None:
    """Return the topmost folder above a path that others cannot enter."""
    return next((above for above in reversed(path.parents) if not above.stat().st_mode & 0o001), None)
