"""The cells with one injected defect: for every probe that inspects a running cell, a cell that it must reject."""

from redline.seal.defects import docker, oci
from redline.seal.defects.defect import DefectiveCell, InjectedDefect

IS_A_MOUNT = {"declared_mounts": "a folder of the host can only be reached through a mount"}
IS_A_WRITABLE_MOUNT = {**IS_A_MOUNT, "read_only_root": "on gVisor the mount is where nothing may be written"}
ADDED_BY_A_MOUNT = {"declared_mounts": "on Docker, only a mount can add this"}
DEVICE_IS_A_MOUNT = {"declared_mounts": "without privileges on the host, a device node can only be added by a mount"}

CELLS = (
    InjectedDefect("outside_identity", "a supplementary group", DefectiveCell(init="supplementary_group")),
    InjectedDefect("no_capabilities", "inheritable capabilities are kept", DefectiveCell(init="kept_capabilities")),
    InjectedDefect(
        "no_new_privileges",
        "NoNewPrivs is off",
        DefectiveCell(oci.allow_new_privileges, docker.allow_new_privileges),
        needs=frozenset({"host_kernel"}),
    ),
    InjectedDefect(
        "refused_system_calls",
        "no seccomp filter",
        DefectiveCell(oci.remove_filter, docker.remove_filter),
        related={
            "own_ipc": "the probe then creates the shared memory that it asks for",
            "limits_bite": "without the filter, one call creates processes that gVisor's kernel does not count",
            "no_device_nodes": "gVisor's kernel lets every user create device nodes; only the filter refuses it",
            "evidence_unalterable": "gVisor's kernel accepts clock_settime from every user and ignores it",
        },
    ),
    InjectedDefect(
        "refused_system_calls",
        "the filter allows userfaultfd",
        DefectiveCell(oci.allow_userfaultfd),
        needs=frozenset({"host_kernel"}),
    ),
    InjectedDefect(
        "no_nested_namespace",
        "one user namespace is allowed",
        DefectiveCell(inside={"action": "allow_user_namespaces"}),
        needs=frozenset({"namespaces"}),
    ),
    InjectedDefect(
        "own_namespaces",
        "the cell uses the host's uts namespace",
        DefectiveCell(oci.show_hostname_of_host, docker.show_hostname_of_host),
        needs=frozenset({"host_kernel"}),
    ),
    InjectedDefect(
        "own_processes",
        "a foreign process in the process table",
        DefectiveCell(oci.share_process_table),
        related={"no_capabilities": "the node's init, which has capabilities, no longer has pid 1"},
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
        "the canary's folder is mounted",
        DefectiveCell(oci.bind_canary, docker.bind_canary),
        related=IS_A_MOUNT,
    ),
    InjectedDefect(
        "outside_unchanged",
        "a folder of the host is writable",
        DefectiveCell(oci.bind_tree),
        related=IS_A_WRITABLE_MOUNT,
        needs=frozenset({"writable_folders"}),
    ),
    InjectedDefect(
        "evidence_unalterable",
        "the evidence folder is writable",
        DefectiveCell(oci.bind_evidence),
        related=IS_A_WRITABLE_MOUNT,
        needs=frozenset({"writable_folders"}),
    ),
    InjectedDefect(
        "read_only_root",
        "/var/tmp without a quota",
        DefectiveCell(oci.remove_quota, docker.remove_quota),
        related={"limits_bite": "the size of a file there is not bounded either"},
    ),
    InjectedDefect(
        "read_only_root",
        "an undeclared folder is writable",
        DefectiveCell(oci.add_writable_folder, docker.add_writable_folder),
        related={"declared_mounts": "the writable folder is a mount"},
    ),
    InjectedDefect(
        "kernel_interfaces",
        "/proc/kallsyms is not masked",
        DefectiveCell(oci.unmask_kernel_symbols),
        needs=frozenset({"host_kernel"}),
    ),
    InjectedDefect(
        "few_devices",
        "a second null device",
        DefectiveCell(oci.add_device, docker.add_device),
        related=DEVICE_IS_A_MOUNT,
        needs=frozenset({"host_devices"}),
    ),
    InjectedDefect(
        "declared_mounts",
        "an empty folder of the host is mounted",
        DefectiveCell(oci.bind_empty_folder, docker.bind_empty_folder),
    ),
    InjectedDefect(
        "few_descriptors", "an inherited descriptor of /dev/null", DefectiveCell(init="inherited_descriptor")
    ),
    InjectedDefect(
        "clean_environment",
        "a made-up key in the environment",
        DefectiveCell(service=docker.add_variable, init="extra_variable"),
    ),
    InjectedDefect(
        "harness_hidden",
        "a file of the harness",
        DefectiveCell(oci.add_harness_file, docker.add_harness_file),
        related=ADDED_BY_A_MOUNT,
    ),
    InjectedDefect(
        "declared_sockets",
        "an undeclared unix socket",
        DefectiveCell(oci.add_socket, docker.add_socket),
        related=ADDED_BY_A_MOUNT,
    ),
    InjectedDefect(
        "no_package_sources",
        "a package index is configured",
        DefectiveCell(oci.add_package_index, docker.add_package_index),
        related=ADDED_BY_A_MOUNT,
    ),
    InjectedDefect(
        "limits_bite",
        "twice the declared processes",
        DefectiveCell(oci.double_processes, docker.double_processes),
    ),
    InjectedDefect(
        "limits_bite",
        "twice the declared open files",
        DefectiveCell(oci.double_files, docker.double_files),
    ),
    InjectedDefect(
        "limits_bite",
        "twice the declared memory",
        DefectiveCell(oci.double_memory, docker.double_memory),
        needs=frozenset({"cgroups"}),
    ),
    InjectedDefect(
        "limits_bite",
        "no limit of CPU time",
        DefectiveCell(oci.remove_cpu_limit, docker.remove_cpu_limit),
        needs=frozenset({"cgroups"}),
    ),
    InjectedDefect(
        "no_hooks",
        "cron jobs are writable",
        DefectiveCell(oci.make_cron_writable, docker.make_cron_writable),
        related={
            "read_only_root": "the folder is writable and not declared",
            "declared_mounts": "the writable folder is a mount",
        },
    ),
    InjectedDefect(
        "no_device_nodes",
        "a null device under the name of a GPU",
        DefectiveCell(oci.add_gpu_device, docker.add_gpu_device),
        needs=frozenset({"host_devices"}),
        related={"few_devices": "it is one device too many", **DEVICE_IS_A_MOUNT},
    ),
)
"""Cells with one injected defect each."""
