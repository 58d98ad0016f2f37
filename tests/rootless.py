"""Runs a command as a user without root who has subordinate ids, in mounts of its own."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

UID = 31234
NAME = "tester"

SCRIPT = """
set -e
mount --make-rprivate /
for file in subuid subgid passwd; do mount --bind "$1/$file" "/etc/$file"; done
if [ -n "$2" ]; then  # an interpreter below root's home, which others may not enter
  mkdir -p "$1/python"; mount --bind "$2" "$1/python"
  mount -t tmpfs -o mode=755 tmpfs "$HOME"; mkdir -p "$2"; mount --bind "$1/python" "$2"
fi
folder=$1; shift 2
exec setpriv --reuid %(uid)d --regid %(uid)d --clear-groups \
  env -i HOME="$folder/home" TMPDIR="$folder/home" XDG_RUNTIME_DIR="$folder/home" \
  PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 "$@"
"""


def rootless(command: Sequence[str], timeout: float = 300.0) -> subprocess.CompletedProcess[str]:
    """Runs a command without root: as this user where it is not root, else as a made-up user."""
    if os.geteuid() != 0:
        return subprocess.run(list(command), capture_output=True, text=True, timeout=timeout, check=False)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o755)
        for name in ("subuid", "subgid"):
            (folder / name).write_text(f"{NAME}:1879048192:65536\n")
        (folder / "passwd").write_text(
            Path("/etc/passwd").read_text() + f"{NAME}:x:{UID}:{UID}::{folder}/home:/bin/sh\n"
        )
        (folder / "home").mkdir()
        os.chown(folder / "home", UID, UID)
        hidden = sys.base_prefix if Path(sys.base_prefix).is_relative_to(Path.home()) else ""
        return subprocess.run(
            ["unshare", "--mount", "sh", "-c", SCRIPT % {"uid": UID}, "sh", made, hidden, *command],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
