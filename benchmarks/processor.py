"""Processor time per trial, by program, and as a ratio to an earlier version measured in the same run."""

import compileall
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from benchmarks.accounting import Usage, measure
from benchmarks.controls import MODELS

BASELINE = "12d241e"
"""The commit before the processor time of a trial was reduced."""

MAX_RATIO = 0.55
ROUNDS = 3
TRIALS = 10
PROGRAM = Path(__file__).with_name("trials.py")
ROLES = {
    "engine.py ": "engine and copies",
    "agent.py ": "agent and copies",
    "/warden ": "warden",
    "/init ": "first process",
    "-I -S - ": "seal probes",
}
"""Part of a command line that identifies a program."""

FORKS = {
    "harness": "harness's forks",
    "warden": "warden's forks",
    "first process": "first process's forks",
}
"""Name of a process that a role forked and that runs no other program."""


def role_of(command: list[str]) -> str:
    """Return the role of a program of a trial."""
    words = " ".join(command)
    name = os.path.basename(command[0]) if command else ""
    if name in ("runc", "runsc", "crun") or command[1:2] == ["init"]:
        return "runtime"
    found = next((role for part, role in ROLES.items() if part in words + " "), None)
    return found or "other programs: " + (name or "ended at once")


def forked(role: str) -> str:
    """Return the role of a process that a process of some role forked."""
    return FORKS.get(role, role)


def run_trials(source: Path) -> Usage:
    """Run the trials with the source of some version and return their processor time."""
    environment = {**os.environ, "PYTHONPATH": str(source / "src")}
    return measure([sys.executable, str(PROGRAM), str(TRIALS), *MODELS], role_of, forked, environment)


def profile() -> None:
    """Print where the processor time of a trial goes, by program."""
    _print_profile(run_trials(Path.cwd()))


def processor() -> None:
    """Print the processor time of a trial as a ratio to that of the baseline, over alternating rounds."""
    with _baseline() as earlier:
        if earlier is None:
            print(f"processor time per trial: skipped, the history of this folder does not contain {BASELINE}")
            return
        rounds = [(run_trials(Path.cwd()), run_trials(earlier)) for _ in range(ROUNDS)]
    trials = TRIALS * len(MODELS)
    now, before = (sorted(usage.total / trials for usage in side) for side in zip(*rounds, strict=True))
    ratios = sorted(one.total / other.total for one, other in rounds)
    middle = ROUNDS // 2
    print(f"processor time per trial, {trials} trials a round, median of {ROUNDS} rounds:", end=" ")
    print(f"{now[middle]:.2f} s; at commit {BASELINE} {before[middle]:.2f} s")
    print(f"  ratio {ratios[middle]:.2f} (rounds {ratios[0]:.2f} to {ratios[-1]:.2f}); maximum {MAX_RATIO}")


def _print_profile(usage: Usage) -> None:
    trials = TRIALS * len(MODELS)
    print(f"processor time per trial, {trials} trials of {', '.join(MODELS)}: {1000 * usage.total / trials:.0f} ms")
    print(f"  {'program':<28} {'ms':>7} {'share':>6} {'processes':>10} {'starts':>7}")
    for role, seconds in sorted(usage.seconds.items(), key=lambda one: -one[1]):
        print(
            f"  {role:<28} {1000 * seconds / trials:>7.1f} {seconds / usage.total:>6.0%} "
            f"{usage.processes[role] / trials:>10.1f} {usage.starts[role] / trials:>7.1f}"
        )


@contextmanager
def _baseline() -> Iterator[Path | None]:
    """Yield a folder with the source of the baseline; None without its history."""
    git = shutil.which("git")
    packed = git and subprocess.run([git, "archive", BASELINE], capture_output=True, check=False)
    if not packed or packed.returncode != 0:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=BytesIO(packed.stdout)) as archive:
            archive.extractall(folder, filter="data")
        compileall.compile_dir(folder, quiet=2)
        yield Path(folder)
