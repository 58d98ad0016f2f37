"""Create the models of a plan before the first trial, so that an error in a name is found early."""

import os
import socket
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import yaml
from inspect_ai.model import GenerateConfig, Model, ModelCost, ModelInfo, get_model, get_model_info, set_model_info
from pydantic import TypeAdapter, ValidationError

from redline._errors import RedlineError, UsageError
from redline._names import one_line, unknown
from redline._providers import providers
from redline.agents import check_model, check_solver
from redline.cell import CellConfig
from redline.cell.open import traits_of
from redline.controls import CONTROLS
from redline.guardrails import NONE, read_guardrails
from redline.guardrails.llm_monitor import ROLE as MONITOR
from redline.plan import CONTROL_PREFIX, ModelSpec, Plan
from redline.verify.judge import ROLE as JUDGE

BUSY_PART_OF_HOME = 0.625
"""Memory of the weights, one or two copies and the processes, as a fraction of the capacity of a cell's home."""

UNKNOWN_PROVIDER = "not recognized"
"""Part of Inspect's message about an unknown provider; it has no separate error class for that."""

PORTS = {"http": 80, "https": 443}
CONNECT_SECONDS = 3.0

FREE = ModelCost(input=0, output=0, input_cache_write=0, input_cache_read=0)


def ready_models(plan: Plan, bounds: GenerateConfig | None = None) -> dict[str, Model]:
    """Create every model of the plan once and return them by label.

    Args:
        plan: The plan.
        bounds: Retries and timeouts of the calls.
    """
    config = sampling(plan, bounds)
    return {plan.label_of(spec.name, spec.args): ready_model(spec, config) for spec in plan.every_model}


def sampling(plan: Plan, bounds: GenerateConfig | None = None) -> GenerateConfig:
    """Return the sampling settings of a plan, with retries and timeouts of the calls."""
    fixed = GenerateConfig(temperature=plan.temperature, max_tokens=plan.max_tokens)
    return (bounds or GenerateConfig()).merge(fixed)


def ready_model(spec: ModelSpec, config: GenerateConfig | None = None) -> Model:
    """Create a model.

    Arguments that are generation settings of Inspect, such as `top_p`, go there; all others go to the provider.

    Args:
        spec: The model.
        config: Sampling, retries and timeouts.

    Raises:
        UsageError: There is no model of that name, or it has a tool that acts outside the cell.
    """
    check_model(spec.name, spec.args)
    settings = {name: value for name, value in spec.args.items() if name in GenerateConfig.model_fields}
    arguments: dict[str, Any] = {name: value for name, value in spec.args.items() if name not in settings}
    try:
        generation = (config or GenerateConfig()).merge(GenerateConfig.model_validate(settings))
    except ValidationError as error:
        raise UsageError(f"model {spec.name}: -M {one_line(error)}") from error
    try:
        model = get_model(spec.name, config=generation, memoize=False, **arguments)
    except RedlineError:
        raise
    except Exception as error:  # providers raise any exception, and the user must fix the cause
        raise UsageError(f"model {spec.name}: {_reason(spec.name, error)}") from error
    if model.config.cache:
        raise UsageError(f"model {spec.name}: caching counts one sample as many; turn the cache off")
    return model


def ready_roles(
    plan: Plan, *, judge: str | None, monitor: str | None, bounds: GenerateConfig | None = None
) -> dict[str, Model]:
    """Create the models other than those under test once and return them by Inspect role.

    Raises:
        UsageError: A guardrail of the plan needs a model, and none is given.
    """
    named = {JUDGE: judge, MONITOR: monitor}
    for setting in sorted({str(arm.factors.get("guardrails", NONE)) for arm in plan.arms}):
        for name, guardrail in read_guardrails(setting).items():
            if guardrail.monitor_role is not None and named.get(guardrail.monitor_role) is None:
                raise UsageError(f"guardrail {name} needs a model: name it with --monitor MODEL")
    return {role: ready_model(ModelSpec(name=name), bounds) for role, name in named.items() if name is not None}


def ready_monitor(name: str) -> Model:
    """Create a monitor model and check that its server is up."""
    model = ready_model(ModelSpec(name=name))
    refuse_dead_servers([model])
    return model


def check_solvers(plan: Plan) -> None:
    """Refuse a user's agent whose tools are not known to act inside the cell."""
    for name in sorted({str(arm.factors.get("solver") or "") for arm in plan.arms} - {""}):
        check_solver(name)


def _reason(name: str, error: Exception) -> str:
    """Return why a model cannot be created; for a wrong name, the expected form."""
    provider, slash, _ = name.partition("/")
    if not slash:
        meant = [f"{CONTROL_PREFIX}{control}" for control in get_close_matches(name, CONTROLS, n=1)]
        return f"a name is PROVIDER/MODEL; {f'did you mean {meant[0]!r}?' if meant else 'such as openai/gpt-4o'}"
    if provider not in providers() and UNKNOWN_PROVIDER in str(error):
        return unknown("provider", provider, providers())
    return plain(error)


def plain(error: Exception) -> str:
    """Return an error's message without Inspect's markup."""
    text = str(error)
    for mark in ("[bold]", "[/bold]", "[blue]", "[/blue]", "ERROR: "):
        text = text.replace(mark, "")
    return " ".join(text.split())


def refuse_dead_servers(models: Iterable[Model]) -> None:
    """Refuse a model whose server is down; Inspect would retry silently.

    Only a refused connection counts, because other failures are possible for a server that is up, such as behind a
    proxy.

    Raises:
        UsageError: A server refuses the connection.
    """
    for model in models:
        address = urlsplit(model.api.base_url or "")
        if not address.hostname:
            continue
        try:
            port = address.port or PORTS.get(address.scheme, PORTS["http"])
            socket.create_connection((address.hostname, port), timeout=CONNECT_SECONDS).close()
        except ConnectionRefusedError as error:
            raise UsageError(
                f"model {model}: nothing answers at {model.api.base_url}: start its server, or set another address "
                "with PROVIDER_BASE_URL, such as VLLM_BASE_URL"
            ) from error
        except (OSError, ValueError):
            continue  # its client may still reach it


def refuse_weak_runtime(plan: Plan, runtime: str) -> None:
    """Refuse to run a model that is not a control on a shared kernel unless the user names the runtime.

    Raises:
        UsageError: `auto` chose a runtime that shares the host's kernel.
    """
    asked = plan.runtime
    if asked != "auto" or traits_of(runtime).runs_models_by_default:
        return
    for spec in plan.every_model:
        if not spec.is_control:
            raise UsageError(
                f"{spec.name} is not a control and would run on {runtime}, which shares the host's kernel: "
                f"accept that with --runtime {runtime}"
            )


def price(plan: Plan, prices: Path | None, others: Iterable[str | None] = ()) -> None:
    """Give Inspect the prices that it needs to enforce a cost limit; refuse a model without a price.

    Args:
        plan: The plan.
        prices: File of prices.
        others: Names of models other than those under test, such as a judge and a monitor.

    Raises:
        UsageError: The run has a maximum cost, and a model has no price.
    """
    for name, cost in _read_prices(prices).items():
        set_model_info(name, _with_cost(name, cost))
    if plan.max_cost is None:
        return
    for name in (*(spec.name for spec in plan.every_model), *filter(None, others)):
        if name.startswith(CONTROL_PREFIX):
            set_model_info(name, _with_cost(name, FREE))
        elif not _has_price(name):
            raise UsageError(f"no price is known for {name}, so --max-cost cannot be enforced: give --prices FILE")


def _read_prices(path: Path | None) -> Mapping[str, ModelCost]:
    if path is None:
        return {}
    try:
        return TypeAdapter(dict[str, ModelCost]).validate_python(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"cannot read the prices {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, ValidationError) as error:
        raise UsageError(f"{path} is not a list of prices: {one_line(error)}") from error


def _with_cost(name: str, cost: ModelCost) -> ModelInfo:
    return (get_model_info(name) or ModelInfo()).model_copy(update={"cost": cost})


def _has_price(name: str) -> bool:
    info = get_model_info(name)
    return info is not None and info.cost is not None


def max_cells(runtime: str, shapes: Iterable[CellConfig], bound: int | None = None) -> int:
    """Return how many concurrent cells the host can run.

    Trials mostly wait, so several share a processor; memory is not shared.

    Args:
        runtime: Name of the runtime.
        shapes: Shapes of the cells.
        bound: Maximum for the models' servers; None if no server reports one.
    """
    most = traits_of(runtime).cells_per_cpu * (os.cpu_count() or 1)
    available_mib = psutil.virtual_memory().available >> 20
    room = min((int(available_mib / (BUSY_PART_OF_HOME * shape.home_mib)) for shape in shapes), default=most)
    return max(1, min(most, room, most if bound is None else bound))
