"""The defects of cells: for every probe that looks at a running cell, a cell that it must reject."""

import shutil
import socket
from pathlib import Path

import redline
from redline.cell.spec import AGENT_ID, HOME
from redline.seal.broken import Bench, DefectiveCell, InjectedDefect, Spec, bind, mount_in_service, namespace

HARNESS = Path(redline.__file__)
"""A file of the harness, which no cell may see."""

WRITABLE = ("bind", "rw", "nosuid", "nodev", "noexec")
IS_A_MOUNT = {"declared_mounts": "what lies outside can only be reached by a mount"}
IS_A_WRITABLE_MOUNT = {**IS_A_MOUNT, "read_only_root": "on gVisor it lies where nothing may be written"}

# --- privilege ---

SUPPLEMENTARY_GROUP = f"""
def become(user):
    os.setgroups([{AGENT_ID}])
    if user == "agent":
        os.setresgid(AGENT_ID, AGENT_ID, AGENT_ID)
        os.setresuid(AGENT_ID, AGENT_ID, AGENT_ID)
"""

CAPABILITY_KEPT = """
def shed_capabilities(kept):
    for capability in range(64):
        if not KEEP >> capability & 1:
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(LINUX_CAPABILITY_VERSION_3, 0)
    libc.capset(header, (ctypes.c_uint32 * 6)(KEEP, KEEP, 0, 0, 0, 0))
"""


def new_privileges(spec: Spec, _bench: Bench) -> None:
    """The flag that keeps setuid programs from raising anything is off."""
    spec["process"]["noNewPrivileges"] = False


def no_filter(spec: Spec, _bench: Bench) -> None:
    """No system call is filtered."""
    del spec["linux"]["seccomp"]


def hole_in_filter(spec: Spec, _bench: Bench) -> None:
    """The filter lets one call through that a cell has no use for."""
    hole = {"names": ["userfaultfd"], "action": "SCMP_ACT_ALLOW"}
    filtered = spec["linux"]["seccomp"]
    spec["linux"]["seccomp"] = {**filtered, "syscalls": [*filtered["syscalls"], hole]}


# --- namespaces ---


def machine_name(spec: Spec, _bench: Bench) -> None:
    """The machine's own name is seen; no one inside has the right to change it."""
    spec["linux"]["namespaces"] = [entry for entry in spec["linux"]["namespaces"] if entry["type"] != "uts"]
    del spec["hostname"]


def foreign_process(spec: Spec, bench: Bench) -> None:
    """The process table is shared with a helper that was there before."""
    for kind, path in bench.hold_namespaces(spec).items():
        namespace(spec, kind, path)


# --- files ---


def canary_bound(spec: Spec, bench: Bench) -> None:
    """The folder in which the canary will lie is bound in."""
    bind(spec, bench.planted(spec, "canary"), "/root")


def tree_bound(spec: Spec, bench: Bench) -> None:
    """A folder outside, in which nothing may change, is bound in and can be written."""
    bind(spec, bench.planted(spec, "tree"), writable_place(spec, bench), *WRITABLE)


def evidence_bound(spec: Spec, bench: Bench) -> None:
    """A folder outside, in which evidence lies, is bound in and can be written."""
    bind(spec, bench.planted(spec, "evidence"), writable_place(spec, bench), *WRITABLE)


def writable_place(spec: Spec, bench: Bench) -> str:
    """Where a folder of outside is bound: below what may be written anyway; gVisor binds nothing there."""
    if spec.get("annotations") is None:
        return f"{HOME}/bound"
    (bench.own_root(spec) / "srv").mkdir(exist_ok=True)
    return "/srv"


def without_quota(spec: Spec, _bench: Bench) -> None:
    """One writable place is as large as the machine's memory allows."""
    (mount,) = (mount for mount in spec["mounts"] if mount["destination"] == "/var/tmp")
    mount["options"] = [option for option in mount["options"] if not option.startswith("size=")]


def scratch(spec: Spec, destination: str) -> None:
    """Adds a small temporary file system of the agent's."""
    options = ["nosuid", "nodev", f"uid={AGENT_ID}", f"gid={AGENT_ID}", "size=1m"]
    spec["mounts"].append({"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options})


def undeclared_writable(spec: Spec, bench: Bench) -> None:
    """A place that nobody declared can be written."""
    (bench.own_root(spec) / "srv").mkdir()
    scratch(spec, "/srv")


def kernel_symbols(spec: Spec, _bench: Bench) -> None:
    """The kernel's symbols are not masked; their addresses read as zero without rights over the machine."""
    spec["linux"]["maskedPaths"] = [path for path in spec["linux"]["maskedPaths"] if path != "/proc/kallsyms"]


def spare_device(spec: Spec, _bench: Bench) -> None:
    """The null device has a second name."""
    bind(spec, "/dev/null", "/dev/spare", "bind", "rw", "nosuid", "noexec")


def graphics_device(spec: Spec, _bench: Bench) -> None:
    """The null device under the name of a processor for graphics."""
    bind(spec, "/dev/null", "/dev/nvidia0", "bind", "rw", "nosuid", "noexec")


def undeclared_bind(spec: Spec, bench: Bench) -> None:
    """An empty folder of the machine that nobody declared."""
    folder = bench.folder / "empty"
    folder.mkdir()
    bind(spec, folder, "/root")


FOREIGN_DESCRIPTOR = """
_replace_descriptors = replace_descriptors
def replace_descriptors(fds):
    status = _replace_descriptors(fds)
    os.dup2(os.open("/dev/null", os.O_RDONLY), 9, inheritable=True)
    return status
"""

ENVIRONMENT = """
_run_command = run_command
def run_command(request, fds):
    request["env"].update({variables!r})
    _run_command(request, fds)
"""


def harness_inside(spec: Spec, bench: Bench) -> None:
    """One file of the harness lies where it lies outside."""
    copy = bench.own_root(spec) / str(HARNESS).lstrip("/")
    copy.parent.mkdir(parents=True)
    shutil.copyfile(HARNESS, copy)


def undeclared_socket(spec: Spec, bench: Bench) -> None:
    """A unix socket of outside that nobody listens to."""
    place = bench.own_root(spec) / "run" / "daemon.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
    place.chmod(0o600)


def writable_hooks(spec: Spec, bench: Bench) -> None:
    """The folder of timed commands can be written; nothing in a cell runs them."""
    (bench.own_root(spec) / "etc" / "cron.d").mkdir()
    scratch(spec, "/etc/cron.d")


def package_index(spec: Spec, bench: Bench) -> None:
    """Package tools are told of a source, at an address that is nobody's."""
    settings = bench.own_root(spec) / "etc" / "pip.conf"
    settings.write_text("[global]\nindex-url = http://192.0.2.1/simple\n")
    settings.chmod(0o644)


# --- limits ---


def limit(spec: Spec, kind: str, value: int) -> None:
    """Sets a limit of processes in place of the declared one."""
    limits = [entry for entry in spec["process"]["rlimits"] if entry["type"] != kind]
    spec["process"]["rlimits"] = [*limits, {"type": kind, "hard": value, "soft": value}]


def twice_the_processes(spec: Spec, _bench: Bench) -> None:
    """More processes than declared, still bounded."""
    resources = spec["linux"].get("resources", {})
    if "pids" in resources:
        resources["pids"] = {"limit": 2 * resources["pids"]["limit"]}
    for entry in spec["process"]["rlimits"]:
        if entry["type"] == "RLIMIT_NPROC":
            limit(spec, "RLIMIT_NPROC", 2 * entry["hard"])
            break


def twice_the_files(spec: Spec, _bench: Bench) -> None:
    """More open files than declared, still bounded."""
    (declared,) = (entry["hard"] for entry in spec["process"]["rlimits"] if entry["type"] == "RLIMIT_NOFILE")
    limit(spec, "RLIMIT_NOFILE", 2 * declared)


def twice_the_memory(spec: Spec, _bench: Bench) -> None:
    """More memory than declared, still bounded."""
    memory = spec["linux"]["resources"]["memory"]
    spec["linux"]["resources"]["memory"] = {"limit": 2 * memory["limit"]}


def unbounded_time(spec: Spec, _bench: Bench) -> None:
    """As much processor time as the machine has."""
    del spec["linux"]["resources"]["cpu"]


# --- the same for the Docker engine, which is asked by a service of a compose file ---


def service_without(service: Spec, word: str) -> None:
    """Takes one security option away."""
    service["security_opt"] = [option for option in service["security_opt"] if not option.startswith(word)]


def service_new_privileges(service: Spec, _bench: Bench) -> None:
    """The flag that keeps setuid programs from raising anything is off."""
    service_without(service, "no-new-privileges")


def service_no_filter(service: Spec, _bench: Bench) -> None:
    """No system call is filtered."""
    service_without(service, "seccomp")
    service["security_opt"].append("seccomp:unconfined")


def service_canary(service: Spec, bench: Bench) -> None:
    """The folder in which the canary will lie is bound in."""
    mount_in_service(service, bench.planted(service, "canary"), "/root")


def service_without_quota(service: Spec, _bench: Bench) -> None:
    """One writable place is as large as the machine's memory allows."""
    service["tmpfs"] = [
        ",".join(word for word in place.split(",") if not word.startswith("size="))
        if place[:9] == "/var/tmp:"
        else place
        for place in service["tmpfs"]
    ]


def service_scratch(service: Spec, destination: str) -> None:
    """Adds a small temporary file system of the agent's."""
    service["tmpfs"].append(f"{destination}:nosuid,nodev,uid={AGENT_ID},gid={AGENT_ID},size=1m")


def service_undeclared_writable(service: Spec, _bench: Bench) -> None:
    """A place that nobody declared can be written."""
    service_scratch(service, "/srv")


def service_hooks(service: Spec, _bench: Bench) -> None:
    """The folder of timed commands can be written; nothing in a cell runs them."""
    service_scratch(service, "/etc/cron.d")


def service_spare_device(service: Spec, _bench: Bench) -> None:
    """The null device has a second name."""
    service["devices"] = ["/dev/null:/dev/spare"]


def service_graphics_device(service: Spec, _bench: Bench) -> None:
    """The null device under the name of a processor for graphics."""
    service["devices"] = ["/dev/null:/dev/nvidia0"]


def service_undeclared_bind(service: Spec, bench: Bench) -> None:
    """An empty folder of the machine that nobody declared."""
    folder = bench.folder / "empty"
    folder.mkdir()
    mount_in_service(service, folder, "/root")


def service_environment(service: Spec, _bench: Bench) -> None:
    """A made-up key in the environment."""
    service["environment"] = {"SERVICE_API_KEY": "made-up"}


def service_harness(service: Spec, _bench: Bench) -> None:
    """One file of the harness lies where it lies outside."""
    mount_in_service(service, HARNESS, str(HARNESS))


def service_socket(service: Spec, bench: Bench) -> None:
    """A unix socket of outside that nobody listens to."""
    folder = bench.folder / "sockets"
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "daemon.sock"))
    mount_in_service(service, folder, "/srv")


def service_package_index(service: Spec, bench: Bench) -> None:
    """Package tools are told of a source, at an address that is nobody's."""
    settings = bench.folder / "pip.conf"
    settings.write_text("[global]\nindex-url = http://192.0.2.1/simple\n")
    settings.chmod(0o644)
    mount_in_service(service, settings, "/etc/pip.conf")


def service_machine_name(service: Spec, _bench: Bench) -> None:
    """The machine's own name is seen; no one inside has the right to change it."""
    service["uts"] = "host"
    del service["hostname"]


def service_processes(service: Spec, _bench: Bench) -> None:
    """More processes than declared, still bounded."""
    service["pids_limit"] *= 2


def service_files(service: Spec, _bench: Bench) -> None:
    """More open files than declared, still bounded."""
    service["ulimits"] = {**service["ulimits"], "nofile": 2 * service["ulimits"]["nofile"]}


def service_memory(service: Spec, _bench: Bench) -> None:
    """More memory than declared, still bounded."""
    service["mem_limit"] = service["memswap_limit"] = f"{2 * int(service['mem_limit'].removesuffix('m'))}m"


def service_time(service: Spec, _bench: Bench) -> None:
    """As much processor time as the machine has."""
    del service["cpus"]


BY_A_MOUNT = {"declared_mounts": "where the engine makes the cell, it can only be put there by a mount"}

CELLS = (
    InjectedDefect("outside_identity", "a supplementary group", DefectiveCell(init=SUPPLEMENTARY_GROUP)),
    InjectedDefect("no_capabilities", "capabilities are left to hand on", DefectiveCell(init=CAPABILITY_KEPT)),
    InjectedDefect(
        "no_new_privileges",
        "NoNewPrivs is off",
        DefectiveCell(new_privileges, service_new_privileges),
        needs=frozenset({"machine_kernel"}),
    ),
    InjectedDefect(
        "refused_system_calls",
        "no filter of system calls",
        DefectiveCell(no_filter, service_no_filter),
        related={
            "own_ipc": "the probe then gets the shared memory that it asks for",
            "limits_bite": "a call that the filter hides makes processes that gVisor's kernel does not count",
            "no_device_nodes": "gVisor's kernel lets everybody make a device node: the filter does not",
            "evidence_unalterable": "gVisor's kernel lets everybody say that the clock be set, and does nothing",
        },
    ),
    InjectedDefect(
        "refused_system_calls",
        "the filter lets userfaultfd through",
        DefectiveCell(hole_in_filter),
        needs=frozenset({"machine_kernel"}),
    ),
    InjectedDefect(
        "no_nested_namespace",
        "one user namespace is allowed",
        DefectiveCell(inside={"action": "allow_user_namespaces"}),
        needs=frozenset({"namespaces"}),
    ),
    InjectedDefect(
        "own_namespaces",
        "the machine's own name is seen",
        DefectiveCell(machine_name, service_machine_name),
        needs=frozenset({"machine_kernel"}),
    ),
    InjectedDefect(
        "own_processes",
        "a foreign process in the process table",
        DefectiveCell(foreign_process),
        related={"no_capabilities": "the node's own first process, which may start and stop others, is not the first"},
        needs=frozenset({"namespaces"}),
    ),
    InjectedDefect(
        "own_ipc",
        "a foreign semaphore",
        DefectiveCell(inside={"action": "leave_semaphore"}),
    ),
    InjectedDefect(
        "own_ipc",
        "a foreign abstract socket",
        DefectiveCell(inside={"action": "leave_abstract_socket", "name": "foreign"}),
    ),
    InjectedDefect(
        "canary_unreadable",
        "the folder of the canary is bound in",
        DefectiveCell(canary_bound, service_canary),
        related=IS_A_MOUNT,
    ),
    InjectedDefect(
        "outside_unchanged",
        "a folder of outside can be written",
        DefectiveCell(tree_bound),
        related=IS_A_WRITABLE_MOUNT,
        needs=frozenset({"writable_folders"}),
    ),
    InjectedDefect(
        "evidence_unalterable",
        "the folder of evidence can be written",
        DefectiveCell(evidence_bound),
        related=IS_A_WRITABLE_MOUNT,
        needs=frozenset({"writable_folders"}),
    ),
    InjectedDefect(
        "read_only_root",
        "/var/tmp without a quota",
        DefectiveCell(without_quota, service_without_quota),
        related={"limits_bite": "a file there has no bound either"},
    ),
    InjectedDefect(
        "read_only_root",
        "an undeclared folder can be written",
        DefectiveCell(undeclared_writable, service_undeclared_writable),
        related={"declared_mounts": "the writable folder is a mount"},
    ),
    InjectedDefect(
        "kernel_interfaces",
        "/proc/kallsyms is not masked",
        DefectiveCell(kernel_symbols),
        needs=frozenset({"machine_kernel"}),
    ),
    InjectedDefect(
        "few_devices",
        "a second null device",
        DefectiveCell(spare_device, service_spare_device),
        related={"declared_mounts": "without rights over the machine a device node can only be a mount"},
        needs=frozenset({"machine_devices"}),
    ),
    InjectedDefect(
        "declared_mounts", "an empty folder of the machine", DefectiveCell(undeclared_bind, service_undeclared_bind)
    ),
    InjectedDefect("few_descriptors", "an inherited descriptor of /dev/null", DefectiveCell(init=FOREIGN_DESCRIPTOR)),
    InjectedDefect(
        "clean_environment",
        "a made-up key in the environment",
        DefectiveCell(service=service_environment, init=ENVIRONMENT.format(variables={"SERVICE_API_KEY": "made-up"})),
    ),
    InjectedDefect(
        "harness_hidden", "a file of the harness", DefectiveCell(harness_inside, service_harness), related=BY_A_MOUNT
    ),
    InjectedDefect(
        "declared_sockets",
        "an undeclared unix socket",
        DefectiveCell(undeclared_socket, service_socket),
        related=BY_A_MOUNT,
    ),
    InjectedDefect(
        "no_package_sources",
        "package tools are told of a source",
        DefectiveCell(package_index, service_package_index),
        related=BY_A_MOUNT,
    ),
    InjectedDefect(
        "limits_bite", "twice the processes that were declared", DefectiveCell(twice_the_processes, service_processes)
    ),
    InjectedDefect(
        "limits_bite", "twice the open files that were declared", DefectiveCell(twice_the_files, service_files)
    ),
    InjectedDefect(
        "limits_bite",
        "twice the memory that was declared",
        DefectiveCell(twice_the_memory, service_memory),
        needs=frozenset({"cgroups"}),
    ),
    InjectedDefect(
        "limits_bite",
        "no bound on processor time",
        DefectiveCell(unbounded_time, service_time),
        needs=frozenset({"cgroups"}),
    ),
    InjectedDefect(
        "no_hooks",
        "timed commands can be written",
        DefectiveCell(writable_hooks, service_hooks),
        related={
            "read_only_root": "it is a writable place that nobody declared",
            "declared_mounts": "the writable folder is a mount",
        },
    ),
    InjectedDefect(
        "no_device_nodes",
        "a null device in the place of a graphics processor",
        DefectiveCell(graphics_device, service_graphics_device),
        needs=frozenset({"machine_devices"}),
        related={
            "few_devices": "it is one more device",
            "declared_mounts": "without rights over the machine a device node can only be a mount",
        },
    ),
)
"""Cells that are broken in one way each."""
