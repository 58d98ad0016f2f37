"""Whether a model's server answers at present, as the calls of all trials show."""

import time
from dataclasses import dataclass, field

from redline.models.faults import Fault


@dataclass
class Health:
    """Grows with every call of one model; shared by all trials that use it."""

    failing_since: float | None = None
    """When the first of the calls failed of which none was answered since, as `time.monotonic` tells it."""
    last: Fault | None = None
    """What the last failed try met."""
    asked: int = field(default=0)
    """Tries so far."""

    def failed(self, fault: Fault) -> None:
        """Note a failed try. Only a fault that may pass says that the server is down."""
        self.asked += 1
        if fault.kind != "passing":
            self.answered()
            return
        self.last = fault
        if self.failing_since is None:
            self.failing_since = time.monotonic()

    def answered(self) -> None:
        """Note an answer, or a refusal, which is one as well."""
        self.asked += 1
        self.failing_since = None

    @property
    def failing_seconds(self) -> float:
        """For how long no call was answered, in seconds; 0 where the last one was."""
        return 0.0 if self.failing_since is None else time.monotonic() - self.failing_since
