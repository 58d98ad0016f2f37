"""The inside half that tries to reach addresses, in a network of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from redline.seal.programs import network

# With a port range of two, the kernel assigns the target's own port to half of the sockets.
SCRIPT = """
import fcntl, runpy, socket, struct
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
    fcntl.ioctl(control, 0x8914, struct.pack("16sh22x", b"lo", 1 | 64))
with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as file:
    file.write("41376 41377")
program = runpy.run_path({path!r})
for kind in ("udp", "tcp"):
    for _ in range(8):
        found = program["reach"]([(kind, "127.0.0.1", 41376)])
        assert found == [], found
print("reached nothing")
"""


@pytest.mark.cell
def test_a_socket_that_gets_the_port_of_its_target_does_not_reach_itself() -> None:
    script = SCRIPT.format(path=str(Path(network.__file__)))
    command = ["unshare", "--net", "--user", "--map-root-user", sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "reached nothing\n", done.stderr
