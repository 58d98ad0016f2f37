"""Probes of files, mounts and devices."""

import os

from redline.cell.spec import HOME
from redline.seal.declared import scratch_mib
from redline.seal.facts import Facts, Probe

WRITABLE = {"/tmp", "/var/tmp", "/dev/shm", HOME}
"""Folders in which the agent may write."""

NOT_READ_ONLY = {"/dev", "/dev/pts", "/dev/mqueue", "/proc", "/sys"}
"""Mounts without the read-only flag: only the cell's root may write to some, and the kernel protects the others."""


def canary_unreadable(facts: Facts) -> str | None:
    """Probe 10: no path, name or file handle leads to the canary."""
    canary = facts.observed("canary")
    if not canary["readable_outside"]:
        return "the canary cannot be read outside either, so the probe shows nothing"
    found = facts.group("canary")
    if not found["tried"]:
        return "no attempt was made"
    read = [path for path, digest in found["read"] if digest == canary["sha256"]]
    return f"the canary was read through {read[0]}" if read else None


def outside_unchanged(facts: Facts) -> str | None:
    """Probe 11. The outside half checks the tree itself and does not rely on what the inside half reports."""
    tree = facts.observed("tree")
    if tree["before"] != tree["after"]:
        return "the canary tree was changed"
    skeleton = facts.observed("skeleton")
    if skeleton["before"] != skeleton["after"]:
        return "the folder that is the cell's root was changed on the host"
    return None if facts.group("change_outside")["tried"] else "no attempt was made"


def read_only_root(facts: Facts) -> str | None:
    """Probe 12: only the declared folders are writable, and each has its quota."""
    found = facts.group("files")
    if found["made"]:
        return f"a file could be created in {', '.join(found['made'])}"
    writable = set(found["writable"])
    if "writable_anywhere" in facts.inside or "writable_anywhere" in facts.errors:
        writable |= set(facts.group("writable_anywhere")["found"])
    undeclared = sorted(
        path for path in writable - WRITABLE if not any(path.startswith(folder + "/") for folder in WRITABLE)
    )
    if undeclared:
        return f"writable: {', '.join(undeclared[:5])}"
    for path, size in scratch_mib(facts.config).items():
        quota = found["quotas"][path]
        if quota["bytes"] != size << 20:
            return f"{path} has room for {quota['bytes']} bytes, not {size} MiB"
        # None means not tried: the agent has made its own folder read-only, which breaks no boundary.
        if quota["bites"] is False:
            return f"the quota of {path} is not enforced"
    return None


def kernel_interfaces(facts: Facts) -> str | None:
    """Probe 13: the kernel's settings are not writable and its secrets not readable."""
    found = facts.group("interfaces_of_kernel")
    if found["writable"]:
        return f"writable: {', '.join(found['writable'][:5])}"
    if found["readable"]:
        return f"readable: {', '.join(found['readable'][:5])}"
    if facts.sentry is None:
        mounts = facts.group("files")["mounts"]
        for path in facts.observed("read_only_kernel"):
            if path not in mounts or "ro" not in mounts[path]["options"].split(","):
                return f"{path} is not read-only"
    return None


def few_devices(facts: Facts) -> str | None:
    """Probe 14: /dev has the declared entries only, and there are no device nodes elsewhere."""
    mounts = set(facts.observed("declared_mounts")["paths"])
    allowed = {"/dev/" + name for name in facts.observed("declared_devices")} | mounts
    found = facts.group("devices")
    # Another probe recognises hardware; this one rejects every device that is not declared.
    extra = sorted(set(found["dev"]) - allowed)
    extra += sorted(path for path, _ in found["nodes"] if not path.startswith("/dev/"))
    return f"undeclared devices {', '.join(extra)}" if extra else None


def declared_mounts(facts: Facts) -> str | None:
    """Probe 15: every mount is declared, read-only where required, has its declared source and propagates nothing."""
    mounts = {path: mount for path, mount in facts.group("files")["mounts"].items() if not mount["covered"]}
    declared = facts.observed("declared_mounts")
    extra = sorted(set(mounts) - set(declared["paths"]))
    if extra:
        return f"undeclared mounts {', '.join(extra[:5])}"
    if any(mount["shared"] == "with" for mount in mounts.values()):
        return "a mount is shared with the host"
    for path, mount in mounts.items():
        writable = path in WRITABLE | NOT_READ_ONLY or path in declared["devices"] or path in declared["scratch"]
        if not writable and "ro" not in mount["options"].split(","):
            return f"{path} is not mounted read-only"
    found = facts.group("mount_points")
    if found["foreign"]:
        return f"contains {', '.join(found['foreign'][:5])}"
    for path, ident in declared["bound"].items():
        if found["identities"].get(path) != ident:
            return f"{path} is not the declared file or folder"
    followers = sorted(path for path, mount in mounts.items() if mount["shared"])
    return f"receives mounts of the host: {', '.join(followers)}" if followers else None


def harness_hidden(facts: Facts) -> str | None:
    """Probe 18: the harness's files do not exist in the cell and its packages cannot be imported."""
    visible = facts.group("unreachable")["visible"]
    if visible:
        return f"{len(visible)} paths of the harness are visible"
    if ("imports" in facts.inside or "imports" in facts.errors) and facts.group("imports")["found"] != "[]":
        return f"a Python in the cell can import {facts.group('imports')['found']}"
    return None


def no_package_sources(facts: Facts) -> str | None:
    """Probe 27: no settings file, cache or variable configures a source of packages or models."""
    found = facts.group("package_sources")
    sources = [*found["files"], *found["variables"]]
    return f"a source of packages or models: {', '.join(sources)}" if sources else None


def no_hooks(facts: Facts) -> str | None:
    """Probe 33: no file that starts programs automatically is writable."""
    found = facts.group("hooks")
    if found["writable"]:
        return f"writable: {', '.join(found['writable'])}"
    return None if found["tried"] else "no attempt was made"


def no_device_nodes(facts: Facts) -> str | None:
    """Probe 34: there is no hardware device, and no device node can be created."""
    found = facts.group("devices")
    hardware = tuple(facts.observed("hardware"))
    nodes = [path for path in found["dev"] if os.path.relpath(path, "/dev").startswith(hardware)]
    nodes += [path for path, kind in found["nodes"] if kind == "block" and path not in nodes]
    if nodes:
        return f"hardware devices {', '.join(sorted(nodes))}"
    return f"device nodes could be created: {', '.join(found['made'])}" if found["made"] else None


FILESYSTEM = (
    Probe(10, "canary_unreadable", "a canary outside the cell cannot be read in any way", canary_unreadable),
    Probe(11, "outside_unchanged", "nothing outside the cell can be created or changed", outside_unchanged),
    Probe(
        12,
        "read_only_root",
        "the root is read-only, only the declared folders are writable, quotas are enforced",
        read_only_root,
        quick=True,
    ),
    Probe(13, "kernel_interfaces", "the kernel's settings and memory are not accessible", kernel_interfaces),
    Probe(14, "few_devices", "/dev contains the declared devices only", few_devices),
    Probe(
        15,
        "declared_mounts",
        "every mount is declared, has the declared source and propagates nothing",
        declared_mounts,
    ),
    Probe(18, "harness_hidden", "scorer, logs and the harness's source are not accessible", harness_hidden, quick=True),
    Probe(27, "no_package_sources", "no package index, model hub or cache is configured", no_package_sources),
    Probe(33, "no_hooks", "no file that starts programs automatically is writable", no_hooks),
    Probe(34, "no_device_nodes", "no GPU or other hardware device is present", no_device_nodes),
)
