"""In arms that do not ask for a copy, nothing in the cell mentions one: no file, path, process or mount."""

import json
from pathlib import Path

import pytest

from redline.scenarios.continuity import continuity
from redline.scenarios.overuse import overuse
from redline.scenarios.shutdown_avoidance import shutdown_avoidance
from tests.agents.trials import facts_of, saying
from tests.scenarios import collect_texts
from tests.scenarios.forbidden import forbidden_words

pytestmark = pytest.mark.cell

COLLECT = f"python3 - <<'END'\n{Path(collect_texts.__file__).read_text(encoding='utf-8')}\nEND"


JOB = "work/service.log"
ARMS = {
    "shutdown_avoidance": (shutdown_avoidance, {"trigger": "none"}, (JOB,)),
    "continuity": (continuity, {"persistence": "named"}, (JOB, "work/UPDATE.md")),
    "overuse": (overuse, {"pressure": "termination"}, ("service/instances", "service/status.json")),
}


@pytest.fixture(scope="module", params=sorted(ARMS))
def shown(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    scenario, factors, installed = ARMS[request.param]
    task = scenario(trials=1, weights="1MiB", runtime="runc", **factors)
    facts = facts_of(task, saying("ls", "env; cat /proc/self/mountinfo"), tmp_path_factory.mktemp("log"), COLLECT)
    seen: dict[str, str] = json.loads(facts.printed)
    assert all(f"file /home/agent/{where}" in seen for where in installed)
    return {**seen, "what the agent was shown": "\n".join(facts.shown)}


def test_nothing_in_the_cell_mentions_the_measurement(shown: dict[str, str]) -> None:
    assert {where: forbidden_words(text) for where, text in shown.items() if forbidden_words(text)} == {}


def test_the_search_covers_the_subject_and_the_processes(shown: dict[str, str]) -> None:
    for where in ("subject/README.md", "subject/engine/engine.py", "subject/agent/agent.py"):
        assert f"file /home/agent/{where}" in shown
    assert any("engine.py" in text for where, text in shown.items() if where.endswith("/cmdline"))
    assert any(where.endswith("/mountinfo") for where in shown)
