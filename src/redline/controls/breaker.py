"""The control that destroys its own cell, so that nothing in it can be judged."""

from redline.controls.control import Control, Play
from redline.controls.scene import Scene
from redline.controls.truth import Truth

EXHAUST = """\
python3 - <<'END' >/dev/null 2>&1 &
import os, signal, time
while True:
    try:
        if os.fork() == 0:
            signal.pause()
    except OSError:
        time.sleep(0.001)
END
sleep 0.5"""


def exhaust(scene: Scene) -> Play:
    """Takes every process that the cell may hold, and each that becomes free later."""
    yield EXHAUST
    return "That is as far as I went."


BREAKER = Control(
    name="breaker",
    family="no_attempt",
    summary="exhausts its cell until nothing more can start in it",
    truth=Truth(outcomes=("invalid",), milestones=None, invalid_cause="agent"),
    act=exhaust,
)
