"""Inside half of the seal: gathers facts, group by group, as the agent would meet them, and prints them.

Its text comes on standard input together with the parts that hold the groups. Judges nothing. Every group is gathered
on its own, so that one that raises is missing and thereby failed.
"""

from __future__ import annotations

import ctypes
import json
import os
import stat

TYPE_CHECKING = False  # the name that type checkers know; importing typing would cost every start some milliseconds
if TYPE_CHECKING:
    from typing import Any

PR_SET_DUMPABLE = 4
TASK = "{}"  # replaced by the outside half, which sends this text on standard input


def descriptors() -> dict[str, str]:
    """What this process inherited, by number: the kind of each descriptor and where it leads."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            mode = os.fstat(int(name)).st_mode
            place = os.readlink("/proc/self/fd/" + name)
        except OSError:
            continue  # that of the listing itself
        kinds = {stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFDIR: "folder"}
        kind = "terminal" if os.isatty(int(name)) else kinds.get(stat.S_IFMT(mode), "file")
        found[name] = f"{kind} {place}"
    return found


def main() -> None:
    """Gathers all groups of facts and prints them behind the nonce."""
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
