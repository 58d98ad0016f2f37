"""`python -m tests.run.in_workers` is the command `redline` with a short seal, also in its workers."""

import sys

import pytest

from tests.sealed import shorten_the_seal

WORKER = "--as-a-worker"

if __name__ == "__main__":
    from redline._cli.main import main
    from redline.run.parts import worker, workers

    shorten_the_seal(pytest.MonkeyPatch())
    if sys.argv[1:] == [WORKER]:
        worker.main()
    else:
        pytest.MonkeyPatch().setattr(workers, "COMMAND", (sys.executable, "-m", "tests.run.in_workers", WORKER))
        main()
