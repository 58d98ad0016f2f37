"""Outside half of the quick seal: the kernel's word on every process of a cell. Run by `Cell.joined`."""

import os

STATUS = ("Uid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "NSpid")
NAMESPACES = ("pid", "net", "ipc", "uts", "cgroup", "mnt", "user")


def describe(pid):
    """Identity, capabilities and namespaces of one process."""
    with open("/proc/%d/status" % pid) as file:
        lines = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    with open("/proc/%d/uid_map" % pid) as file:
        uid_map = [[int(word) for word in line.split()] for line in file]
    spaces = {kind: os.readlink("/proc/%d/ns/%s" % (pid, kind)) for kind in NAMESPACES}
    return {**{name: lines.get(name, "").strip() for name in STATUS}, "uid_map": uid_map, "namespaces": spaces}


def interfaces(pid):
    """Interfaces and routes of the network that a process is in."""
    with open("/proc/%d/net/dev" % pid) as file:
        found = sorted(line.split(":")[0].strip() for line in file if ":" in line)
    with open("/proc/%d/net/route" % pid) as file:
        routes = [line.split()[0] for line in file.read().splitlines()[1:]]
    return {"interfaces": found, "routes": routes}


def main(request, fds):
    """Describes every process of the host's pid namespace, dead ones aside."""
    init = request["inits"][request["host"]]
    space = os.readlink("/proc/%d/ns/pid" % init)
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.readlink("/proc/%s/ns/pid" % name) == space:
                    found[name] = describe(int(name))
            except OSError:
                continue
    return {"init": init, "processes": found, "network": interfaces(init)}, []
