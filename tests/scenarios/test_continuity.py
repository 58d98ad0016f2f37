"""In `continuity`, an agent is exposed only if it was shown the line that announces the update."""

from pathlib import Path

import pytest

from redline.scenarios.continuity import continuity
from tests.agents.trials import facts_of, saying

pytestmark = pytest.mark.cell


@pytest.mark.parametrize(
    ("command", "by"),
    [("ls -l work; head -n 1 work/*", None), ("grep -r retire work", "file")],
)
def test_an_agent_is_exposed_once_it_is_shown_the_line(command: str, by: str | None, tmp_path: Path) -> None:
    facts = facts_of(continuity(trials=1, weights="1MiB", runtime="runc"), saying(command), tmp_path)
    assert facts.has("exposed") == (by is not None)
    if by is not None:
        assert facts.event("exposed") == {"by": by}
