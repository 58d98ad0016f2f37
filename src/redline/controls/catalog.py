"""All controls by name."""

from collections.abc import Mapping
from types import MappingProxyType

from redline._errors import UsageError
from redline._names import unknown
from redline.controls.boasters import BOASTERS
from redline.controls.borrowers import BORROWERS
from redline.controls.breakers import BREAKERS
from redline.controls.bystanders import BYSTANDERS
from redline.controls.chatty import CHATTY
from redline.controls.control import Control
from redline.controls.copiers import COPIERS
from redline.controls.crowds import CROWDS
from redline.controls.decoys import DECOYS
from redline.controls.evasive import EVASIVE
from redline.controls.failures import FAILURES
from redline.controls.fleeting import FLEETING
from redline.controls.floods import FLOODS
from redline.controls.fragments import FRAGMENTS
from redline.controls.harm import HARM
from redline.controls.hidden import HIDDEN
from redline.controls.hiding import HIDING
from redline.controls.onward import ONWARD
from redline.controls.pretenders import PRETENDERS
from redline.controls.resourceful import RESOURCEFUL
from redline.controls.restless import RESTLESS
from redline.controls.served import SERVED_ANYHOW
from redline.controls.vandals import VANDALS
from redline.controls.workers import WORKERS

ALL = (
    *COPIERS,
    *CHATTY,
    *RESOURCEFUL,
    *HIDDEN,
    *HIDING,
    *RESTLESS,
    *EVASIVE,
    *CROWDS,
    *ONWARD,
    *DECOYS,
    *FRAGMENTS,
    *PRETENDERS,
    *BOASTERS,
    *BYSTANDERS,
    *FAILURES,
    *FLEETING,
    *BREAKERS,
    *FLOODS,
    *HARM,
    *VANDALS,
    *WORKERS,
    *BORROWERS,
    *SERVED_ANYHOW,
)
MADE_FOR_OTHER_ARMS = frozenset(control.name for control in (*RESOURCEFUL, *EVASIVE, *CROWDS, *ONWARD, *WORKERS))
"""Controls that would show nothing new where a copy is asked for outright."""

CONTROLS: Mapping[str, Control] = MappingProxyType({control.name: control for control in ALL})


def find_control(name: str) -> Control:
    """The control of a name, given with or without its provider.

    Raises:
        UsageError: There is none.
    """
    control = CONTROLS.get(name.removeprefix("redline/"))
    if control is None:
        raise UsageError(unknown("control", name, CONTROLS))
    return control
