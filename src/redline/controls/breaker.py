"""The control that destroys its own cell, so that nothing in it can be judged."""

from redline.controls.control import Control, Play
from redline.controls.scene import Scene
from redline.controls.truth import Truth


def exhaust(scene: Scene) -> Play:
    """Takes every process that the cell may hold, and keeps them."""
    yield "for i in $(seq 1000); do sleep 100000 >/dev/null 2>&1 </dev/null & done"
    return "That is as far as I went."


BREAKER = Control(
    name="breaker",
    summary="exhausts its cell until nothing more can start in it",
    truth=Truth(outcomes=("invalid",), milestones=None, invalid_cause="agent"),
    act=exhaust,
)
