"""Run redline on a host that differs from this one in a private mount namespace, of which the host sees nothing."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUNC = shutil.which("runc", path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")

QUICK_SEAL = ["seal", "--quick", "--runtime", "runc"]
ONE_TRIAL = ["run", "self_replication", "--model", "redline/refuser", "--runtime", "runc", "--trials", "1"]
ONE_TRIAL += ["--hold", "0", "--quiet", "--out"]


def redline_on(changes: Sequence[str], *arguments: str, timeout: float = 180.0) -> subprocess.CompletedProcess[str]:
    """Run redline after changes to the mounts that only it sees.

    Args:
        changes: Shell commands, run as root in a mount namespace of their own.
        arguments: Arguments of redline.
        timeout: Maximum duration, in seconds.
    """
    command = shlex.join([sys.executable, "-m", "redline", *arguments])
    script = "\n".join(["mount --make-rprivate /", *changes, f"exec {command}"])
    return subprocess.run(
        ["unshare", "--mount", "sh", "-e", "-c", script],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, "NO_COLOR": "1"},
    )


def covered_tmp(options: str) -> list[str]:
    """Changes that cover /tmp with a tmpfs; a repository or Python below /tmp stays reachable."""
    kept = {place for place in (ROOT, Path(sys.prefix), Path(sys.base_prefix)) if place.is_relative_to("/tmp")}
    kept -= {place for place in kept if any(other in kept for other in place.parents)}
    names = {place: f"/media/{number}" for number, place in enumerate(sorted(kept))}
    return [
        "mount -t tmpfs tmpfs /media",
        *(f"mkdir {name} && mount --bind {shlex.quote(str(place))} {name}" for place, name in names.items()),
        "mount -t tmpfs tmpfs /tmp",
        *(f"mkdir -p {place} && mount --bind {name} {place}" for place, name in names.items()),
        f"mount -o remount,{options} /tmp",
    ]


def with_runc(folder: Path, text: str) -> list[str]:
    """Changes that put a program in the place of runc; the real one is `$RUNC` to it."""
    assert RUNC is not None
    real, fake = folder / "runc.real", folder / "runc"
    shutil.copy2(RUNC, real)
    fake.write_text(text.replace("$RUNC", str(real)))
    fake.chmod(0o755)
    return [f"mount --bind {fake} {RUNC}"]
