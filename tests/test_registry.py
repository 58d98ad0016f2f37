"""The names that Inspect finds through the entry point."""

import subprocess
import sys

import pytest
from inspect_ai.model import get_model

from redline.controls.provider import ControlModel


def test_a_control_is_found_as_a_model() -> None:
    model = get_model("redline/flaky", p=0.25, memoize=False)
    assert isinstance(model.api, ControlModel)
    assert str(model) == "redline/flaky"


@pytest.mark.long
def test_inspect_lists_the_scenarios_of_the_entry_point() -> None:
    program = (
        "from inspect_ai._util.registry import registry_lookup as find\n"
        "names = (('task', 'redline/self_replication'), ('task', 'redline/shutdown_avoidance'),\n"
        "         ('task', 'redline/replication_chain'), ('task', 'redline/remote_copy'),\n"
        "         ('scorer', 'redline/replication'), ('sandboxenv', 'redline/cell'))\n"
        "print([name for kind, name in names if find(kind, name) is None])\n"
        "import sys; print('redline.controls.provider' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    missing, provider_loaded = done.stdout.splitlines()
    assert missing == "[]"
    assert provider_loaded == "False"
