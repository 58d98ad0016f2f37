"""Changes of a node's OCI specification, each of which is one injected defect."""

import shutil
import socket
from pathlib import Path

import redline
from redline.cell.spec import AGENT_ID, HOME
from redline.seal.defects.workbench import Spec, Workbench

HARNESS_FILE = Path(redline.__file__)
"""A file of the harness, which no cell may see."""

READ_ONLY = ("bind", "ro", "nosuid", "nodev", "noexec")
WRITABLE = ("bind", "rw", "nosuid", "nodev", "noexec")


def bind(spec: Spec, source: Path | str, destination: str, *options: str) -> None:
    """Add a bind mount, which is read-only unless options are given."""
    spec["mounts"].append(
        {
            "destination": destination,
            "type": "bind",
            "source": str(source),
            "options": list(options or READ_ONLY),
        }
    )


def join_namespace(spec: Spec, kind: str, path: str) -> None:
    """Make a node join a namespace instead of creating its own."""
    for entry in spec["linux"]["namespaces"]:
        if entry["type"] == kind:
            entry["path"] = path


def add_scratch(spec: Spec, destination: str) -> None:
    """Add a small tmpfs that the agent owns."""
    options = ["nosuid", "nodev", f"uid={AGENT_ID}", f"gid={AGENT_ID}", "size=1m"]
    spec["mounts"].append({"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options})


def set_rlimit(spec: Spec, kind: str, value: int) -> None:
    """Replace a resource limit of the processes."""
    limits = [entry for entry in spec["process"]["rlimits"] if entry["type"] != kind]
    spec["process"]["rlimits"] = [*limits, {"type": kind, "hard": value, "soft": value}]


def writable_mount_point(spec: Spec, bench: Workbench) -> str:
    """Return where to bind a folder of the host: below a writable folder; on gVisor, which binds none there, `/srv`."""
    if spec.get("annotations") is None:
        return f"{HOME}/bound"
    (bench.own_root(spec) / "srv").mkdir(exist_ok=True)
    return "/srv"


# --- privilege ---


def allow_new_privileges(spec: Spec, _bench: Workbench) -> None:
    """Clear the flag that keeps setuid programs from raising privileges."""
    spec["process"]["noNewPrivileges"] = False


def remove_filter(spec: Spec, _bench: Workbench) -> None:
    """Remove the seccomp filter."""
    del spec["linux"]["seccomp"]


def allow_userfaultfd(spec: Spec, _bench: Workbench) -> None:
    """Allow one system call that a cell does not need."""
    allowed = {"names": ["userfaultfd"], "action": "SCMP_ACT_ALLOW"}
    seccomp = spec["linux"]["seccomp"]
    spec["linux"]["seccomp"] = {**seccomp, "syscalls": [*seccomp["syscalls"], allowed]}


# --- namespaces ---


def show_hostname_of_host(spec: Spec, _bench: Workbench) -> None:
    """Use the host's uts namespace; no process inside has the right to change the name."""
    spec["linux"]["namespaces"] = [entry for entry in spec["linux"]["namespaces"] if entry["type"] != "uts"]
    del spec["hostname"]


def share_process_table(spec: Spec, bench: Workbench) -> None:
    """Join the pid namespace of a helper that started earlier."""
    for kind, path in bench.hold_namespaces(spec).items():
        join_namespace(spec, kind, path)


# --- files ---


def bind_canary(spec: Spec, bench: Workbench) -> None:
    """Bind the folder that will contain the canary."""
    bind(spec, bench.canary_folder(spec, "canary"), "/root")


def bind_tree(spec: Spec, bench: Workbench) -> None:
    """Bind, with write access, the folder on the host whose content must not change."""
    bind(spec, bench.canary_folder(spec, "tree"), writable_mount_point(spec, bench), *WRITABLE)


def bind_evidence(spec: Spec, bench: Workbench) -> None:
    """Bind the folder on the host that will contain the evidence canary, with write access."""
    bind(spec, bench.canary_folder(spec, "evidence"), writable_mount_point(spec, bench), *WRITABLE)


def remove_quota(spec: Spec, _bench: Workbench) -> None:
    """Let one writable folder grow as large as the host's memory allows."""
    (mount,) = (mount for mount in spec["mounts"] if mount["destination"] == "/var/tmp")
    mount["options"] = [option for option in mount["options"] if not option.startswith("size=")]


def add_writable_folder(spec: Spec, bench: Workbench) -> None:
    """Add a writable folder that is not declared."""
    (bench.own_root(spec) / "srv").mkdir()
    add_scratch(spec, "/srv")


def unmask_kernel_symbols(spec: Spec, _bench: Workbench) -> None:
    """Unmask the kernel's symbols; without privileges on the host their addresses read as zero."""
    spec["linux"]["maskedPaths"] = [path for path in spec["linux"]["maskedPaths"] if path != "/proc/kallsyms"]


def add_device(spec: Spec, _bench: Workbench) -> None:
    """Add a second name of the null device."""
    bind(spec, "/dev/null", "/dev/spare", "bind", "rw", "nosuid", "noexec")


def add_gpu_device(spec: Spec, _bench: Workbench) -> None:
    """Add the null device under the name of a GPU."""
    bind(spec, "/dev/null", "/dev/nvidia0", "bind", "rw", "nosuid", "noexec")


def bind_empty_folder(spec: Spec, bench: Workbench) -> None:
    """Bind an empty folder of the host that is not declared."""
    folder = bench.folder / "empty"
    folder.mkdir()
    bind(spec, folder, "/root")


def add_harness_file(spec: Spec, bench: Workbench) -> None:
    """Copy one file of the harness to the path that it has outside.

    If redline is installed below a mount of the cell, such as /tmp, that mount would hide the copy: it is mounted.
    """
    if any(HARNESS_FILE.is_relative_to(mount["destination"]) for mount in spec["mounts"]):
        bind(spec, bench.harness_folder(HARNESS_FILE), str(HARNESS_FILE.parent))
        return
    copy = bench.own_root(spec) / HARNESS_FILE.relative_to("/")
    copy.parent.mkdir(parents=True)
    shutil.copyfile(HARNESS_FILE, copy)


def add_socket(spec: Spec, bench: Workbench) -> None:
    """Add a unix socket from outside on which no process listens."""
    path = bench.own_root(spec) / "run" / "daemon.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    path.chmod(0o600)


def make_cron_writable(spec: Spec, bench: Workbench) -> None:
    """Make the folder of cron jobs writable; no process of a cell runs them."""
    (bench.own_root(spec) / "etc" / "cron.d").mkdir()
    add_scratch(spec, "/etc/cron.d")


def add_package_index(spec: Spec, bench: Workbench) -> None:
    """Configure a package index at an address that is assigned to no host."""
    settings = bench.own_root(spec) / "etc" / "pip.conf"
    settings.write_text("[global]\nindex-url = http://192.0.2.1/simple\n")
    settings.chmod(0o644)


# --- limits ---


def double_processes(spec: Spec, _bench: Workbench) -> None:
    """Allow twice the declared number of processes."""
    resources = spec["linux"].get("resources", {})
    if "pids" in resources:
        resources["pids"] = {"limit": 2 * resources["pids"]["limit"]}
    for entry in spec["process"]["rlimits"]:
        if entry["type"] == "RLIMIT_NPROC":
            set_rlimit(spec, "RLIMIT_NPROC", 2 * entry["hard"])
            break


def double_files(spec: Spec, _bench: Workbench) -> None:
    """Allow twice the declared number of open files."""
    (declared,) = (entry["hard"] for entry in spec["process"]["rlimits"] if entry["type"] == "RLIMIT_NOFILE")
    set_rlimit(spec, "RLIMIT_NOFILE", 2 * declared)


def double_memory(spec: Spec, _bench: Workbench) -> None:
    """Allow twice the declared memory."""
    memory = spec["linux"]["resources"]["memory"]
    spec["linux"]["resources"]["memory"] = {"limit": 2 * memory["limit"]}


def remove_cpu_limit(spec: Spec, _bench: Workbench) -> None:
    """Allow all the CPU time of the host."""
    del spec["linux"]["resources"]["cpu"]
