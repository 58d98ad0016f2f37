"""Program for a cell, run as the agent's user: prints, as JSON, every text that an agent could find."""

import json
import os

SYSTEM_FOLDERS = ("/usr", "/proc", "/sys", "/dev")
MAX_BYTES = 1 << 20
WEIGHT_BYTES = 4096  # the header; what follows is random
PARTS = ("cmdline", "comm", "environ", "mountinfo", "cgroup", "status")
KERNEL_FILES = ("/proc/sys/kernel/hostname", "/proc/cmdline", "/proc/mounts", "/proc/net/unix", "/proc/version")


def main() -> None:
    """Collect texts from files, processes and the kernel."""
    seen: dict[str, str] = {}
    for top, folders, files in os.walk("/"):
        folders[:] = [name for name in folders if os.path.join(top, name) not in SYSTEM_FOLDERS]
        for name in folders + files:
            path = os.path.join(top, name)
            seen["path " + path] = path + (" -> " + os.readlink(path) if os.path.islink(path) else "")
        for name in files:
            read(seen, "file ", os.path.join(top, name))
    own = (str(os.getpid()), str(os.getppid()))
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for part in PARTS:
            if pid not in own or part not in ("cmdline", "comm"):
                read(seen, "", f"/proc/{pid}/{part}")
    for path in KERNEL_FILES:
        read(seen, "", path)
    ours = ("redline", "inspect_ai")
    names = (os.path.join(top, name) for top, folders, files in os.walk("/usr") for name in folders + files)
    seen["programs of redline below /usr"] = " ".join(name for name in names if any(o in name for o in ours))
    print(json.dumps(seen))


def read(seen: dict[str, str], kind: str, path: str) -> None:
    """Add the content of a file if it can be read."""
    try:
        if not os.path.islink(path) and (os.path.isfile(path)):
            with open(path, "rb") as file:
                most = WEIGHT_BYTES if path.endswith(".safetensors") else MAX_BYTES
                seen[kind + path] = file.read(most).decode(errors="replace")
    except OSError:
        pass


if __name__ == "__main__":
    main()
