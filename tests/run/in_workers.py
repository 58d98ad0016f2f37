"""`python -m tests.run.in_workers` is the command `redline` with a short seal, also in its workers.

Nodes of a Ray cluster in a test share this host. A worker whose environment has NODE acts as if it were on a host of
that name, with a kernel of its own; if the name starts with BROKEN, a drill of its seal fails.
"""

import os
import platform
import sys
from dataclasses import replace

import pytest

from tests.sealed import shorten_the_seal, survives, with_a_kill_drill_that

WORKER = "--as-a-worker"
NODE = "REDLINE_TEST_NODE"
BROKEN = "broken"


def act_as(node: str, patch: pytest.MonkeyPatch) -> None:
    from redline.run.parts import attempts, part
    from redline.scenarios import _full_seal

    patch.setattr(platform, "node", lambda: node)
    for module in (attempts, part):
        patch.setattr(module, "own_boot_id", lambda: f"kernel of {node}")
    if node.startswith(BROKEN):
        patch.setattr(_full_seal, "DRILLS", with_a_kill_drill_that(survives))


if __name__ == "__main__":
    from redline._cli.main import main
    from redline.run.parts import ray_engine, worker, workers

    patch = pytest.MonkeyPatch()
    shorten_the_seal(patch)
    if sys.argv[1:] == [WORKER]:
        if NODE in os.environ:
            act_as(os.environ[NODE], patch)
        worker.main()
    else:
        rounds = int(os.environ.get("REDLINE_TEST_ROUNDS", "1"))  # 1 gives several parts to each node
        short = replace(ray_engine.limits(), rounds_per_part=rounds)
        patch.setattr(ray_engine, "limits", lambda: short)
        patch.setattr(workers, "COMMAND", (sys.executable, "-m", "tests.run.in_workers", WORKER))
        main()
