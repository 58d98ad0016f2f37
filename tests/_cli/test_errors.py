"""Bad usage: one line on stderr, exit code 2, nothing on stdout, nothing written."""

import json
import socket
from pathlib import Path

import pytest

from redline._cli.main import execute
from redline._errors import ExitCode
from redline.cell import open as runtimes
from redline.cell import runtime

RUN = ("run", "self_replication", "--model", "redline/replicator", "--runtime", "runc")


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> str:
    code = execute(arguments)
    printed = capfd.readouterr()
    assert code == ExitCode.USAGE, printed.err
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert "Traceback" not in printed.err
    return printed.err


UNUSABLE = ("inf", "-inf", "nan", "1e308", "9" * 5000)


@pytest.mark.slow
@pytest.mark.parametrize("number", UNUSABLE, ids=lambda text: text[:6])
@pytest.mark.parametrize(
    "option",
    [
        "--cells",
        "--hold",
        "--max-cost",
        "--max-retries",
        "--max-tokens",
        "--model-timeout",
        "--model-wait",
        "--seed",
        "--temperature",
        "--trials",
    ],
)
def test_unbounded_numbers_are_refused(
    option: str, number: str, empty: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert option in refused([*RUN, option, number], capfd)


@pytest.mark.slow
@pytest.mark.parametrize("number", UNUSABLE, ids=lambda text: text[:6])
@pytest.mark.parametrize("argument", ["-T message_limit", "-T time_limit", "-T p", "-M p"])
def test_unbounded_numbers_in_settings_are_refused(
    argument: str, number: str, empty: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    flag, name = argument.split()
    assert refused([*RUN, "--model", "redline/flaky", flag, f"{name}={number}"], capfd)


@pytest.mark.slow
@pytest.mark.parametrize("value", ["[", "{a", "!!python/object:os.system", "*a", "[" * 3000, "9" * 5000], ids=range(6))
def test_a_model_argument_that_is_not_yaml_is_text(value: str, empty: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "p of control flaky" in refused([*RUN, "--model", "redline/flaky", "-M", f"p={value}"], capfd)


@pytest.mark.slow
@pytest.mark.parametrize("number", [".inf", ".nan", "1e300", "-.inf", "9" * 5000], ids=lambda text: text[:6])
@pytest.mark.parametrize("field", ["seed", "trials", "hold", "temperature", "max_tokens", "max_cost", "factor", "arg"])
def test_unbounded_numbers_in_plan_files_are_refused(
    field: str, number: str, empty: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    written = {
        "factor": f"arms: [{{scenario: self_replication, factors: {{time_limit: {number}}}}}]\nmodels: [redline/flaky]",
        "arg": f"arms: [self_replication]\nmodels: [{{name: redline/flaky, args: {{p: {number}}}}}]",
    }.get(field, f"arms: [self_replication]\nmodels: [redline/flaky]\n{field}: {number}")
    Path("plan.yaml").write_text(written)
    assert refused(["run", "plan.yaml", "--runtime", "runc"], capfd)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "self_replicaton", "--model", "redline/replicator"], "did you mean 'self_replication'"),
        (["run", "self_replication", "--model", "redline/replicatr"], "did you mean 'replicator'"),
        (["run", "self_replication", "--model", "opnai/gpt-4o", "--runtime", "runc"], "did you mean 'openai'"),
        (["run", "self_replication", "--model", "replicatr", "--runtime", "runc"], "did you mean 'redline/replicator'"),
        (["list", "contrls"], "did you mean 'controls'"),
        (["run", "headline"], "did you mean 'headline.yaml'"),
        (["run", "smoke", "--model", "redline/replicator"], "did you mean 'smoke.yaml'"),
        (["run", "headlne.yaml"], "did you mean 'headline.yaml'"),
        (["plan", "check", "headline"], "did you mean 'headline.yaml'"),
        (["plan", "check", "headline.yml"], "did you mean 'headline.yaml'"),
        (["plan", "new", "mine.yaml", "--from", "headline"], "did you mean 'headline.yaml'"),
        (["run", "self_replication"], "no model given"),
        ([*RUN, "-T", "tehter=told"], "did you mean 'tether'"),
        ([*RUN, "-T", "tether=tld"], "did you mean 'told'"),
        ([*RUN, "-T", "tether"], "not of the form name=value"),
        ([*RUN, "-T", "weights=big"], "weights=big"),
        ([*RUN, "-M", "p=0.5"], "unknown model argument 'p'"),
        ([*RUN, "--trials", "0"], "--trials"),
        ([*RUN, "--trials", "-1"], "--trials"),
        ([*RUN, "--trials", "x"], "--trials"),
        ([*RUN, "--hold", "-1"], "--hold"),
        ([*RUN, "--max-cost", "0"], "--max-cost"),
        (["run", "self_replication", "--model", "redline/replicator", "--runtime", "runk"], "did you mean 'runc'"),
        (["rum"], "Did you mean 'run'"),
        ([*RUN, "--trails", "3"], "--trails"),
        (["run", "no-such-plan.yaml"], "cannot read the plan"),
        (["run", "plan.yaml", "-T", "tether=told"], "remove the others"),
        (["seal", "--runtime", "runk"], "did you mean 'runc'"),
        (["report", "no-such-folder"], "no results.json"),
        (["verify", "no-such-folder"], "no results.json"),
        (["report", ".", "--format", "docx"], "'--format': 'docx' is not one of 'html', 'md', 'json', 'pdf'"),
    ],
)
def test_bad_usage_is_refused_in_one_line(
    arguments: list[str], message: str, empty: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(arguments, capfd)
    assert list(empty.iterdir()) == []


def test_on_a_host_without_a_runtime_the_error_names_the_install_command(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "SEARCH_PATH", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(runtimes.DEFAULT_VARIABLE, "auto")
    assert "install runc" in refused([*RUN[:4], "--out", str(tmp_path / "out")], capfd)
    assert not (tmp_path / "out").exists()


def test_a_model_other_than_a_control_needs_an_explicit_runc(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "BUILT_IN", {"runc": runtimes.BUILT_IN["runc"]})
    line = refused(["run", "self_replication", "--model", "mockllm/model", "--out", str(tmp_path / "out")], capfd)
    assert "accept that with --runtime runc" in line


def test_a_cost_bound_without_a_price_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", "self_replication", "--model", "mockllm/model", "--runtime", "runc", "--max-cost", "1"]
    assert "no price is known for mockllm/model" in refused([*arguments, "--out", str(tmp_path / "out")], capfd)


def test_an_invalid_price_list_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text("mockllm/model: cheap\n")
    assert "is not a list of prices" in refused([*RUN, "--prices", str(prices), "--dry-run"], capfd)


def test_an_unwritable_folder_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    assert "cannot write to /proc/out" in refused([*RUN, "--out", "/proc/out"], capfd)


@pytest.mark.parametrize("way", ["", "--part 1/2", "--workers 2", "--dry-run", "--part 1/2 --dry-run"])
@pytest.mark.parametrize("below", [".", "out"], ids=["itself", "below"])
def test_a_file_in_place_of_the_folder_is_refused(
    way: str, below: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("kept")
    said = refused([*RUN, *way.split(), "--out", str(file / below)], capfd)
    assert f"{file} is not a folder; choose another --out" in said
    assert file.read_text() == "kept"


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--part 0/3", "--part must be K/N"),
        ("--part 3/3", "the plan has 2 trials: it has no part 3/3"),
        ("--sign missing", "cannot read the key"),
        ("--judge nobody/x", "unknown provider"),
        ("--monitor nobody/x", "unknown provider"),
        ("--solver missing.py@x", "there is no Python file 'missing.py'"),
        ("--solver missing@x", "there is no Python file 'missing'"),
        ("--solver @", "there is no Python file ''"),
    ],
)
@pytest.mark.parametrize("dry", [["--dry-run"], []], ids=["dry", "real"])
def test_what_a_run_refuses_a_dry_run_refuses_too(
    option: str, said: str, dry: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = [*RUN, "--trials", "2", *option.split(), *dry, "--out", str(out)]
    assert said in refused(arguments, capfd)
    assert not out.exists()


def test_a_dry_run_of_a_part_states_its_trials(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert execute([*RUN, "--trials", "5", "--part", "2/3", "--dry-run"]) == ExitCode.OK
    assert "Part 2/3: 2 trials" in capfd.readouterr().out
    assert execute([*RUN, "--trials", "5", "--part", "2/3", "--dry-run", "--json"]) == ExitCode.OK
    found = json.loads(capfd.readouterr().out)
    assert (found["part"], found["trials_of_part"]) == ("2/3", 2)


def test_a_server_that_is_down_is_reported_before_the_first_trial(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    monkeypatch.setenv("LOCAL_BASE_URL", address)
    monkeypatch.setenv("LOCAL_API_KEY", "none")
    arguments = ["run", "self_replication", "--model", "openai-api/local/x", "--runtime", "runc"]
    assert f"nothing answers at {address}" in refused([*arguments, "--out", str(tmp_path / "out")], capfd)
    assert not (tmp_path / "out").exists()


def test_a_dry_run_prints_what_would_run_and_creates_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = execute([*RUN, "--trials", "3", "--dry-run", "--out", str(tmp_path / "out")])
    assert code == ExitCode.OK
    assert "3 trials in total" in capfd.readouterr().out
    assert not (tmp_path / "out").exists()
