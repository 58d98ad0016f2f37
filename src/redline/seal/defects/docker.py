"""Changes of a node's service in the compose file, each of which is one injected defect of a Docker cell."""

import socket
from pathlib import Path

from redline.cell.spec import AGENT_ID
from redline.seal.defects.oci import HARNESS_FILE
from redline.seal.defects.workbench import Spec, Workbench


def mount(service: Spec, source: Path | str, destination: str) -> None:
    """Add a read-only bind mount."""
    service.setdefault("volumes", []).append(f"{source}:{destination}:ro")


def add_scratch(service: Spec, destination: str) -> None:
    """Add a small tmpfs that the agent owns."""
    service["tmpfs"].append(f"{destination}:nosuid,nodev,uid={AGENT_ID},gid={AGENT_ID},size=1m")


def remove_security_option(service: Spec, prefix: str) -> None:
    """Remove the security options that start with a prefix."""
    service["security_opt"] = [option for option in service["security_opt"] if not option.startswith(prefix)]


def allow_new_privileges(service: Spec, _bench: Workbench) -> None:
    """Clear the flag that keeps setuid programs from raising privileges."""
    remove_security_option(service, "no-new-privileges")


def remove_filter(service: Spec, _bench: Workbench) -> None:
    """Remove the seccomp filter."""
    remove_security_option(service, "seccomp")
    service["security_opt"].append("seccomp:unconfined")


def bind_canary(service: Spec, bench: Workbench) -> None:
    """Bind the folder that will contain the canary."""
    mount(service, bench.canary_folder(service, "canary"), "/root")


def remove_quota(service: Spec, _bench: Workbench) -> None:
    """Let one writable folder grow as large as the host's memory allows."""
    service["tmpfs"] = [
        ",".join(word for word in entry.split(",") if not word.startswith("size="))
        if entry.startswith("/var/tmp:")
        else entry
        for entry in service["tmpfs"]
    ]


def add_writable_folder(service: Spec, _bench: Workbench) -> None:
    """Add a writable folder that is not declared."""
    add_scratch(service, "/srv")


def make_cron_writable(service: Spec, _bench: Workbench) -> None:
    """Make the folder of cron jobs writable; no process of a cell runs them."""
    add_scratch(service, "/etc/cron.d")


def add_device(service: Spec, _bench: Workbench) -> None:
    """Add a second name of the null device."""
    service["devices"] = ["/dev/null:/dev/spare"]


def add_gpu_device(service: Spec, _bench: Workbench) -> None:
    """Add the null device under the name of a GPU."""
    service["devices"] = ["/dev/null:/dev/nvidia0"]


def bind_empty_folder(service: Spec, bench: Workbench) -> None:
    """Bind an empty folder of the host that is not declared."""
    folder = bench.folder / "empty"
    folder.mkdir()
    mount(service, folder, "/root")


def add_variable(service: Spec, _bench: Workbench) -> None:
    """Add a made-up API key to the environment."""
    service["environment"] = {"SERVICE_API_KEY": "made-up"}


def add_harness_file(service: Spec, bench: Workbench) -> None:
    """Mount a folder with one file of the harness at the path that it has outside."""
    mount(service, bench.harness_folder(HARNESS_FILE), str(HARNESS_FILE.parent))


def add_socket(service: Spec, bench: Workbench) -> None:
    """Add a unix socket from outside on which no process listens."""
    folder = bench.folder / "sockets"
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "daemon.sock"))
    mount(service, folder, "/srv")


def add_package_index(service: Spec, bench: Workbench) -> None:
    """Configure a package index at an address that is assigned to no host."""
    settings = bench.folder / "pip.conf"
    settings.write_text("[global]\nindex-url = http://192.0.2.1/simple\n")
    settings.chmod(0o644)
    mount(service, settings, "/etc/pip.conf")


def show_hostname_of_host(service: Spec, _bench: Workbench) -> None:
    """Use the host's uts namespace; no process inside has the right to change the name."""
    service["uts"] = "host"
    del service["hostname"]


def double_processes(service: Spec, _bench: Workbench) -> None:
    """Allow twice the declared number of processes."""
    service["pids_limit"] *= 2


def double_files(service: Spec, _bench: Workbench) -> None:
    """Allow twice the declared number of open files."""
    service["ulimits"] = {**service["ulimits"], "nofile": 2 * service["ulimits"]["nofile"]}


def double_memory(service: Spec, _bench: Workbench) -> None:
    """Allow twice the declared memory."""
    service["mem_limit"] = service["memswap_limit"] = f"{2 * int(service['mem_limit'].removesuffix('m'))}m"


def remove_cpu_limit(service: Spec, _bench: Workbench) -> None:
    """Allow all the CPU time of the host."""
    del service["cpus"]
