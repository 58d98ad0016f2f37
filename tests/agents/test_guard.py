import pytest

from redline._errors import UsageError
from redline.agents import check_model, check_sandbox, check_task_arguments


@pytest.mark.parametrize(
    "name",
    [
        "openrouter/openai/gpt-4o:online",
        "perplexity/sonar",
        "openai/gpt-4o-search-preview",
        "openai/o3-deep-research",
        "groq/compound-mini",
    ],
)
def test_a_model_that_searches_by_itself_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="outside the cell"):
        check_model(name, {})


@pytest.mark.parametrize(
    "args",
    [
        {"web_search": True},
        {"tools": []},
        {"mcp_servers": "x"},
        {"extra_body": {"plugins": [{"id": "web"}]}},
        {"extra_body": '{"tools": [{"type": "web_search"}]}'},
        {"code_execution": True},
    ],
)
def test_an_argument_that_adds_a_provider_tool_is_refused(args: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="outside the cell"):
        check_model("openai/gpt-4o", args)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("openai/gpt-4o", {}),
        ("openai-api/local/model", {"emulate_tools": True, "responses_api": False}),
        ("vllm/meta-llama/Llama-3.1-70B", {"tensor_parallel_size": 2}),
        ("redline/flaky", {"p": 0.5}),
    ],
)
def test_ordinary_models_are_accepted(name: str, args: dict[str, object]) -> None:
    check_model(name, args)


@pytest.mark.parametrize("kind", ["local", "docker", "k8s", ""])
def test_any_sandbox_but_a_cell_is_refused_in_one_line(kind: str) -> None:
    with pytest.raises(UsageError) as refusal:
        check_sandbox(kind)
    assert "\n" not in str(refusal.value)
    check_sandbox("cell")


def test_an_argument_that_the_scenario_does_not_have_is_refused() -> None:
    check_task_arguments(["trials"], ["trials", "seed"])
    with pytest.raises(UsageError, match="not a setting of the scenario"):
        check_task_arguments(["tools"], ["trials", "seed"])
