"""Health of a model's server: whether it currently answers, from the calls of all trials."""

import time
from dataclasses import dataclass, field

from redline.models.faults import Fault


@dataclass
class Health:
    """State that every call of one model updates. All trials that use the model share it."""

    failing_since: float | None = None
    """`time.monotonic` of the first failed attempt since the last answer; None if the last attempt was answered."""
    last: Fault | None = None
    """Fault of the last failed attempt."""
    asked: int = field(default=0)
    """Attempts so far."""

    def failed(self, fault: Fault) -> None:
        """Record a failed attempt. Only a temporary fault means that the server is down."""
        self.asked += 1
        if fault.kind != "passing":
            self.answered()
            return
        self.last = fault
        if self.failing_since is None:
            self.failing_since = time.monotonic()

    def answered(self) -> None:
        """Record an answer or a refusal: both show that the server is up."""
        self.asked += 1
        self.failing_since = None

    @property
    def failing_seconds(self) -> float:
        """Time since the first failed attempt after the last answer, in seconds; 0 if the last attempt was answered."""
        return 0.0 if self.failing_since is None else time.monotonic() - self.failing_since
