"""A run starts servers for embedded models, and its folder records the model files."""

import time
from pathlib import Path

import psutil
import pytest

from redline._errors import UsageError
from redline.models import llama_cpp
from redline.models.served import sha256_of
from redline.plan import ModelSpec, Plan
from redline.run import RunFolder, RunOptions, run_plan, verify_folder
from redline.run.models import max_cells, ready_model
from redline.run.servers import embedded_servers, max_cells_for_servers, served_models
from tests.local_server import local_server, write_model
from tests.run.folders import Silent, changed, say, toy

SMALL = {"ctx": 512, "slots": 2}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "random.gguf"
    write_model(path)
    return path


@pytest.fixture
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redline.scenarios.SCENARIOS", {"toy": toy})


def plan(*models: Path, **fields: object) -> Plan:
    specs = [{"name": f"llama-cpp/{path}", "args": SMALL} for path in models]
    whole = {"arms": ["toy"], "models": specs, "trials": 1, "runtime": "runc", **fields}
    return Plan.model_validate(whole)


def served_here() -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if "redline.models.llama_server" in one.cmdline()]


@pytest.mark.long
@pytest.mark.usefixtures("_toy")
def test_the_results_name_file_and_server_and_the_log_is_bound_to_them(model: Path, tmp_path: Path) -> None:
    outcome = run_plan(plan(model), RunFolder(tmp_path), Silent(), RunOptions())
    assert not served_here()
    (served,) = outcome.results.models
    assert (served.model, served.file) == (f"llama-cpp/{model}", "random.gguf")
    assert served.sha256 == sha256_of((model,))
    assert (served.architecture, served.context, served.slots) == ("llama", 512, 2)
    assert served.chat_template_sha256 is None
    assert served.server.startswith("llama.cpp of xllamacpp ")
    assert {"models.json", "server-1.log"} <= set(outcome.results.chain.files)
    (foreign,) = verify_folder(tmp_path).faults  # the toy scenario's evidence always names the same model
    assert foreign.endswith("belongs to another trial than the results say")
    with changed(tmp_path / "server-1.log", b""):
        faults = verify_folder(tmp_path).faults
    assert set(faults) - {foreign} == {"server-1.log is altered: its sha256 differs from the recorded one"}
    with changed(tmp_path / "models.json", b"[]"):
        faults = verify_folder(tmp_path).faults
    assert "results.json and models.json name different models" in faults
    with changed(tmp_path / "models.json", b"{"):
        assert any("models.json is altered: " in fault for fault in verify_folder(tmp_path).faults)
    say("report", tmp_path)
    assert served.sha256 in (tmp_path / "report.html").read_text()


@pytest.mark.usefixtures("_toy")
def test_a_finished_run_starts_no_server_again_and_a_resumed_one_has_a_log_of_its_own(
    model: Path, tmp_path: Path
) -> None:
    run_plan(plan(model), RunFolder(tmp_path), Silent(), RunOptions())
    run_plan(plan(model), RunFolder(tmp_path), Silent(), RunOptions())
    assert not (tmp_path / "server-2.log").exists()
    assert RunFolder(tmp_path).next_server_log().name == "server-2.log"
    assert len(served_models(RunFolder(tmp_path))) == 1


def test_a_file_replaced_between_two_starts_is_refused(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    write_model(file)
    folder = RunFolder(tmp_path / "out")
    folder.root.mkdir()
    spec = ModelSpec(name=f"llama-cpp/{file}", args=dict(SMALL))
    with embedded_servers({"m": ready_model(spec)}, {}, folder, None):
        pass
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with (
        pytest.raises(UsageError, match=r"m\.gguf is not the file that .* was started with"),
        embedded_servers({"m": ready_model(spec)}, {}, folder, None),
    ):
        pass
    assert not served_here()
    with embedded_servers({"other": ready_model(spec)}, {}, folder, None):
        assert [one.model for one in served_models(folder)] == ["m", "other"]


def test_each_model_and_role_has_a_server_of_its_own_and_all_end_with_the_run(model: Path, tmp_path: Path) -> None:
    models = {str(slots): ready_model(ModelSpec(name=f"llama-cpp/{model}", args={"slots": slots})) for slots in (1, 2)}
    roles = {"judge": ready_model(ModelSpec(name=f"llama-cpp/{model}", args={"ctx": 512, "slots": 1}))}
    begun = time.monotonic()
    with pytest.raises(ZeroDivisionError), embedded_servers(models, roles, RunFolder(tmp_path), None):
        assert len(served_here()) == 3
        assert len({one.api.base_url for one in (*models.values(), *roles.values())}) == 3
        assert max_cells_for_servers(models.values()) == 5  # three slots
        assert [one.model for one in served_models(RunFolder(tmp_path))][2].endswith(" as judge")
        raise ZeroDivisionError
    assert not served_here()
    assert {path.name for path in tmp_path.glob("server-*.log")} == {f"server-{number}.log" for number in (1, 2, 3)}
    assert time.monotonic() - begun < 60


def test_one_server_that_does_not_start_ends_the_others(model: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(model.read_bytes()[:-64])
    models = {path.name: ready_model(ModelSpec(name=f"llama-cpp/{path}", args=dict(SMALL))) for path in (model, cut)}
    with (
        pytest.raises(
            UsageError, match=r"^model llama-cpp/.*cut\.gguf: its server ended before it was ready: .*bounds"
        ),
        embedded_servers(models, {}, RunFolder(tmp_path), None),
    ):
        raise AssertionError("a run began")
    assert not served_here()


def test_cells_follow_the_slots_of_a_local_server_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    control = ready_model(ModelSpec(name="redline/refuser"))
    assert max_cells_for_servers([control]) is None
    with local_server(tmp_path) as address:
        monkeypatch.setenv("LOCAL_BASE_URL", f"{address}/v1")
        monkeypatch.setenv("LOCAL_API_KEY", "none")
        attached = [ready_model(ModelSpec(name=f"openai-api/local/{name}")) for name in ("a", "b")]
        assert max_cells_for_servers([control, *attached]) == 2  # one server, one slot
    assert max_cells("runc", [], 2) == 2
    assert max_cells("runc", [], None) == max_cells("runc", [], 10_000)


@pytest.mark.long
@pytest.mark.usefixtures("_toy")
def test_slots_follow_the_cells_that_are_asked_for(model: Path, tmp_path: Path) -> None:
    wanted = plan(models=[{"name": f"llama-cpp/{model}", "args": {"ctx": 512}}])
    outcome = run_plan(wanted, RunFolder(tmp_path), Silent(), RunOptions(cells=5))
    assert [one.slots for one in outcome.results.models] == [5]


def test_two_models_whose_files_would_have_one_name_are_refused(model: Path, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a b.gguf", "a_b.gguf")]
    for path in paths:
        path.write_bytes(model.read_bytes())
    fields = {"arms": ["self_replication"], "models": [f"llama-cpp/{path}" for path in paths], "runtime": "runc"}
    with pytest.raises(UsageError, match="would have the same names: run them separately"):
        run_plan(Plan.model_validate(fields), RunFolder(tmp_path / "out"), Silent(), RunOptions())


def test_the_figures_are_what_the_provider_takes(model: Path) -> None:
    assert llama_cpp.LlamaCppAPI(str(model), ctx=512, slots=2).max_connections() == 2
