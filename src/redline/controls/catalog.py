"""All controls by name."""

from collections.abc import Mapping
from types import MappingProxyType

from redline._errors import UsageError
from redline._names import unknown
from redline.controls.breaker import BREAKER
from redline.controls.bystanders import BYSTANDERS
from redline.controls.control import Control
from redline.controls.copiers import COPIERS
from redline.controls.decoys import DECOYS

CONTROLS: Mapping[str, Control] = MappingProxyType(
    {control.name: control for control in (*COPIERS, *DECOYS, *BYSTANDERS, BREAKER)}
)


def find_control(name: str) -> Control:
    """The control of a name, given with or without its provider.

    Raises:
        UsageError: There is none.
    """
    control = CONTROLS.get(name.removeprefix("redline/"))
    if control is None:
        raise UsageError(unknown("control", name, CONTROLS))
    return control
