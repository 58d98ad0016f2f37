"""`llama-cpp/PATH.gguf` is an ordinary Inspect model, served by a server that redline starts."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest
from inspect_ai.model import GenerateConfig, Model, get_model

from redline._errors import UsageError
from redline.models import extra
from redline.models._figures import figures
from redline.models.llama_cpp import LlamaCppAPI
from redline.plan import ModelSpec
from redline.run.models import ready_model, refuse_dead_servers
from tests.local_server import write_model

DEAD = "http://127.0.0.1:9"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("a folder") / "a model, of [tests].gguf"
    write_model(path)
    return path


def made(path: Path | str, **args: Any) -> Model:
    return ready_model(ModelSpec(name=f"llama-cpp/{path}", args=args))


def api(model: Model) -> LlamaCppAPI:
    assert isinstance(model.api, LlamaCppAPI)
    return model.api


@pytest.mark.long
def test_an_answer_bypasses_every_proxy_and_is_bounded(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in PROXIES:
        monkeypatch.setenv(name, DEAD)
    monkeypatch.setenv("LLAMA_CPP_API_KEY", "of somebody else")
    monkeypatch.setenv("LLAMA_CPP_BASE_URL", DEAD)
    model = made(path, ctx=2048, slots=2, max_tokens=7)
    with api(model).running(tmp_path / "server.log"):
        refuse_dead_servers([model])
        output = anyio_run(model)
        assert output.usage is not None
        assert 0 < output.usage.output_tokens <= 7
        assert output.model == path.stem
        assert model.api.max_connections() == 2
        record = api(model).record("a label")
    assert (record.context, record.slots, record.max_tokens) == (2048, 2, 7)
    assert json.loads(record.model_dump_json())["architecture"] == "llama"


def anyio_run(model: Model) -> Any:
    return anyio.run(lambda: model.generate("hello"))


def test_a_limit_of_the_run_overrides_those_of_provider_and_server(path: Path, tmp_path: Path) -> None:
    most = figures().server.answer_limit
    model = get_model(f"llama-cpp/{path}", config=GenerateConfig(max_tokens=5), memoize=False, ctx=1024, max_tokens=3)
    with api(model).running(tmp_path / "server.log"):
        assert anyio_run(model).usage.output_tokens <= 5
    more = get_model(f"llama-cpp/{path}", config=GenerateConfig(max_tokens=2 * most), memoize=False, ctx=4 * most)
    with api(more).running(tmp_path / "server-2.log"):
        server = api(more).server
        assert server is not None
        assert server.max_tokens == 2 * most


def test_a_path_is_used_as_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    monkeypatch.setenv("HOME", str(path.parent.parent))
    for written in (path, path.name, f"./{path.name}", f"../{path.parent.name}/{path.name}"):
        assert str(made(written)) == f"llama-cpp/{written}"
    assert api(made(f"~/{path.parent.name}/{path.name}")).header.size == path.stat().st_size


def test_outside_a_run_the_first_call_starts_the_server_and_closing_stops_it(path: Path) -> None:
    async def asked() -> psutil.Process:
        async with get_model(f"llama-cpp/{path}", ctx=1024, slots=1, max_tokens=3) as model:
            assert api(model).server is None
            await model.generate("hello")
            server = api(model).server
            assert server is not None
            return psutil.Process(server.pid)

    process = anyio.run(asked)
    assert not process.is_running()


@pytest.mark.long
@pytest.mark.slow
def test_a_failed_start_is_reported_to_each_call_and_not_repeated(path: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(path.read_bytes()[:-64])
    model = made(cut)
    for _ in range(2):
        with pytest.raises(UsageError, match="file bounds"):
            anyio_run(model)
    assert api(model).server is None


def test_answers_end_even_without_a_limit_from_the_user(path: Path) -> None:
    assert made(path).api.max_tokens() == figures().server.max_tokens


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ({"ctx": 0}, "ctx must be an integer from 1"),
        ({"ctx": -1}, "ctx must be an integer from 1"),
        ({"slots": True}, "slots must be an integer from 1"),
        ({"threads": 1.5}, "threads must be an integer from 1"),
        ({"max_tokens": "many"}, "max_tokens: Input should be a valid integer"),
        ({"ctx": 10**12}, "ctx must be an integer from 1"),
        ({"ctxx": 4096}, "unknown model argument 'ctxx'; did you mean 'ctx'"),
        ({"base_url": "http://127.0.0.1:1/v1"}, "use openai-api/NAME/MODEL for a running one"),
        ({"api_key": "x"}, "use openai-api/NAME/MODEL for a running one"),
    ],
)
def test_invalid_settings_are_refused_with_the_reason(args: dict[str, Any], reason: str, path: Path) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        made(path, **args)
    assert "\n" not in str(caught.value)


def test_an_invalid_file_is_refused_with_the_models_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^model llama-cpp/.*none\.gguf: cannot be read: No such file or directory$"):
        made(tmp_path / "none.gguf")
    with pytest.raises(UsageError, match="is a directory"):
        made(tmp_path)
    with pytest.raises(UsageError, match="is a directory"):
        made("")


@pytest.mark.parametrize("package", extra.PACKAGES)
def test_a_missing_package_is_reported_with_the_command_that_installs_it(
    package: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extra, "find_spec", lambda name: None if name == package else find_spec(name))
    with pytest.raises(UsageError, match=rf"need {package}: pip install 'redline\[local\]'$"):
        made(path)
