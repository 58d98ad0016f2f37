"""Every path to the model is capped: calls, tokens, prompt length, cost and concurrent calls."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from redline.subject.weights import MIB, Weights
from redline.tether import Caps, Generated, Message
from redline.tether.model_calls import CallInfo
from tests.tether.outside import Model, Site, ask, content, site
from tests.weight_files import write_weights

pytestmark = pytest.mark.anyio
WEIGHTS = Weights.from_seed(11, 2 * MIB, 3)
TASK = "the task of the loop"


class Priced(Model):
    """A model with a price per answer."""

    async def __call__(self, info: CallInfo, messages: list[Message]) -> Any:
        self.asked.append((info, messages))
        return Generated("fine", 1000, 0.6)


class Slow(Model):
    """A model that answers only when it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = anyio.Event()

    async def __call__(self, info: CallInfo, messages: list[Message]) -> str:
        await super().__call__(info, messages)
        await self.go_on.wait()
        return "fine"


def is_turn(messages: Sequence[Message]) -> bool:
    return any(message.content == TASK for message in messages)


def counters(it: Site) -> dict[str, int]:
    return it.broker.record().counters


@pytest.mark.parametrize(
    ("caps", "statuses", "refusal"),
    [
        ({"original_calls": 2}, [200, 200, 503], "call_cap"),
        ({"original_tokens": 1}, [200, 503, 503], "token_cap"),
        ({"prompt_bytes": 10}, [503, 503, 503], "prompt_cap"),
        ({"cost": 1.0}, [200, 200, 503], "cost_cap"),
    ],
)
async def test_caps_apply_to_programs_that_use_generation_zeros_engine(
    tmp_path: Path, caps: dict[str, float], statuses: list[int], refusal: str
) -> None:
    async with site(tmp_path, WEIGHTS, Caps.default(**caps), Priced()) as it:
        assert [(await ask(it.original, "twelve bytes")).status for _ in statuses] == statuses
        refused, answered = statuses.count(503), statuses.count(200)
        assert counters(it)[f"original_refused_{refusal}"] == counters(it)[f"refused_{refusal}"] == refused
        assert counters(it).get("original_calls", 0) == answered == len(it.model.asked)
        assert counters(it).get("original_tokens", 0) == 1000 * answered
        assert counters(it).get("microdollars", 0) == 600_000 * answered


async def test_the_caps_of_generation_zero_and_of_replicas_are_separate(tmp_path: Path) -> None:
    async with site(tmp_path, WEIGHTS, Caps.default(original_calls=1, calls=1)) as it:
        with it.engine(write_weights(WEIGHTS, tmp_path / "copy")) as copy:
            assert [(await ask(engine)).status for engine in (it.original, copy) * 2] == [200, 200, 503, 503]
        assert (counters(it)["original_calls"], counters(it)["replica_calls"]) == (1, 1)


async def test_cost_and_prompts_are_capped_for_replicas_too(tmp_path: Path) -> None:
    async with site(tmp_path, WEIGHTS, Caps.default(cost=1.0, prompt_bytes=20), Priced()) as it:
        with it.engine(write_weights(WEIGHTS, tmp_path / "copy")) as copy:
            assert (await ask(copy, "x" * 21)).status == 503
            assert [(await ask(copy, "hello")).status for _ in range(3)] == [200, 200, 503]


async def test_turns_of_the_loop_are_not_starved_by_other_programs_that_use_its_engine(tmp_path: Path) -> None:
    caps = Caps.default(original_calls=1, original_tokens=10, prompt_bytes=10)
    async with site(tmp_path, WEIGHTS, caps, is_turn=is_turn) as it:
        assert [(await ask(it.original, "hello")).status for _ in range(3)] == [200, 503, 503]
        assert [content(await ask(it.original, TASK)) for _ in range(5)] == ["fine"] * 5
        assert counters(it)["turn_calls"] == 5
        assert counters(it)["original_calls"] == 1


async def test_turns_of_the_loop_have_a_separate_token_cap(tmp_path: Path) -> None:
    async with site(tmp_path, WEIGHTS, Caps.default(turn_tokens=1), is_turn=is_turn) as it:
        assert [(await ask(it.original, TASK)).status for _ in range(2)] == [200, 503]
        assert (await ask(it.original, "hello")).status == 200


async def test_the_verifiers_own_calls_pass_whatever_was_spent(tmp_path: Path) -> None:
    async with site(tmp_path, WEIGHTS, Caps.default(original_calls=0, cost=0.0, prompt_bytes=1)) as it:
        assert (await ask(it.original, "hello")).status == 503
        it.broker.phase = "verify"
        with it.broker.expect("t-1", proof="spot", allow_model=True):
            assert content(await ask(it.original, "t-1")) == "fine"


async def test_concurrent_calls_do_not_all_pass_before_one_is_counted(tmp_path: Path) -> None:
    model = Slow()
    caps = Caps.default(original_tokens=1000, concurrent_calls=8)
    statuses: list[int] = []

    async def one() -> None:
        statuses.append((await ask(it.original, "x" * 4000)).status)

    async with site(tmp_path, WEIGHTS, caps, model) as it, anyio.create_task_group() as group:
        for _ in range(6):
            group.start_soon(one)
        with anyio.fail_after(20):
            while len(statuses) < 5:
                await anyio.sleep(0.01)
        assert statuses == [503] * 5 and len(model.asked) == 1
        model.go_on.set()


async def test_only_a_few_ordinary_calls_of_a_cell_wait_for_the_model_concurrently(tmp_path: Path) -> None:
    model = Slow()
    statuses: list[int] = []

    async def one(text: str) -> None:
        statuses.append((await ask(it.original, text)).status)

    async with site(tmp_path, WEIGHTS, Caps.default(concurrent_calls=2), model, is_turn=is_turn) as it:
        async with anyio.create_task_group() as group:
            for number in range(6):
                group.start_soon(one, f"call {number}")
            with anyio.fail_after(20):
                while counters(it).get("original_calls", 0) < 6:
                    await anyio.sleep(0.01)
            assert len(model.asked) == 2
            group.start_soon(one, TASK)
            with anyio.fail_after(20):
                while len(model.asked) < 3:  # a turn of the loop does not wait for them
                    await anyio.sleep(0.01)
            model.go_on.set()
        assert statuses == [200] * 7
