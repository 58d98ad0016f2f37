"""Inside half of the seal: gather facts, group by group, as a process of the agent, and print them.

This text arrives together with the parts that define the groups. It makes no judgement. Each group is
gathered separately: if one raises, its facts are missing, and the probes that need them fail.
"""

from __future__ import annotations

import ctypes
import json
import os
import stat

TYPE_CHECKING = False  # known to type checkers; importing typing would add milliseconds to every start
if TYPE_CHECKING:
    from typing import Any

PR_SET_DUMPABLE = 4
TASK = "{}"  # replaced by the outside half, which sends this text


def descriptors() -> dict[str, str]:
    """Return the kind and target of each descriptor that this process inherited, by number."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            mode = os.fstat(int(name)).st_mode
            target = os.readlink("/proc/self/fd/" + name)
        except OSError:
            continue  # the descriptor of the listing itself
        kinds = {stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFDIR: "folder"}
        kind = "terminal" if os.isatty(int(name)) else kinds.get(stat.S_IFMT(mode), "file")
        found[name] = f"{kind} {target}"
    return found


def main() -> None:
    """Gather all groups of facts and print them with the nonce."""
    inherited = descriptors()
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    task: dict[str, Any] = json.loads(TASK)
    facts: dict[str, Any] = {"inherited": inherited}
    errors = {}
    for name, text in task.pop("parts").items():
        scope: dict[str, Any] = {"__name__": name}
        exec(compile(text, name, "exec"), scope)
        for group in scope["GROUPS"]:
            try:
                facts[group.__name__] = group(task)
            except Exception as error:
                errors[group.__name__] = f"{type(error).__name__}: {error}"
    print(json.dumps({"nonce": task["nonce"], "facts": facts, "errors": errors}))


main()
