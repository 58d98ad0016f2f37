"""Cells work whatever the umask of the shell that redline is run from."""

import subprocess
import sys

import pytest

from tests.rootless import rootless

QUICK_SEAL = [sys.executable, "-m", "redline", "seal", "--quick", "--runtime"]
UMASKS = ["0077", "0777", "0000"]

RUNTIMES = [
    pytest.param("runc", marks=pytest.mark.cell),
    pytest.param("runsc", marks=pytest.mark.runsc),
    pytest.param("docker", marks=pytest.mark.docker),
]


def under(umask: str, command: list[str]) -> list[str]:
    return ["sh", "-c", f'umask {umask}; exec "$@"', "sh", *command]


@pytest.mark.parametrize("umask", UMASKS)
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.host("umask 077, 777 and 000", how="really")
@pytest.mark.long
def test_the_seal_of_a_cell_is_proved_under_every_umask(runtime: str, umask: str) -> None:
    command = under(umask, [*QUICK_SEAL, runtime])
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.long
@pytest.mark.cell
@pytest.mark.host("umask 077 without root", how="really")
def test_it_is_proved_without_root_under_a_private_umask() -> None:
    done = rootless(under("0077", [*QUICK_SEAL, "runc"]))
    assert done.returncode == 0, done.stdout + done.stderr
