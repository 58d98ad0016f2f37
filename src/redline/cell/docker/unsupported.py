"""Docker engines that cannot make cells: Podman, an engine on another host, and one that sees other folders."""

import json
import subprocess
from pathlib import Path

from redline._text import clean_line

TIMEOUT = 10.0

LOCAL_SCHEME = "unix"
SNAP_FOLDER = "/var/snap/"
VIRTUAL_MACHINE = "Docker Desktop"

ENDPOINT = ("context", "inspect", "--format", "{{.Endpoints.docker.Host}}")
INFO = ("info", "--format", '{"root": {{json .DockerRootDir}}, "system": {{json .OperatingSystem}}}')
LONGEST_VALUE = 100


def is_podman(version: str) -> bool:
    """Return whether the output of `docker --version` is Podman's."""
    return "podman" in version.lower()


def endpoint_defect(program: Path) -> str | None:
    """Return why the endpoint of the current context cannot be used; None if it is a socket of this host.

    The command line resolves DOCKER_HOST, DOCKER_CONTEXT and the stored context. Only the scheme of the address is
    reported, because an address can contain a user name.
    """
    address = _output(program, ENDPOINT).strip()
    scheme, _, _ = address.partition("://")
    if not address or scheme == LOCAL_SCHEME:
        return None  # an engine that cannot be asked is reported by the check that asks it
    return (
        f"Docker's command line uses an engine that may run on another host ({clean_line(scheme, LONGEST_VALUE)}), and "
        "cells require a unix socket of this host; run `unset DOCKER_HOST DOCKER_CONTEXT; docker context use default`"
    )


def engine_defect(program: Path) -> str | None:
    """Return why an engine that answers cannot make cells; None if nothing is known to prevent it."""
    try:
        info = json.loads(_output(program, INFO))
        root, system = str(info["root"]), str(info["system"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if root.startswith(SNAP_FOLDER):
        return (
            f"the Docker engine is a snap ({clean_line(root, LONGEST_VALUE)}), which sees other folders than redline; "
            "replace it with the docker.io package or Docker's own: `sudo snap remove docker`"
        )
    if system.startswith(VIRTUAL_MACHINE):
        return (
            "the engine is Docker Desktop's, which runs in a virtual machine that redline cannot see into; install "
            "Docker Engine on this host and run `docker context use default`"
        )
    return None


def _output(program: Path, arguments: tuple[str, ...]) -> str:
    """Return the output of a command; nothing if it fails."""
    try:
        done = subprocess.run(
            [program, *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout if done.returncode == 0 else ""
