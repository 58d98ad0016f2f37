"""Services: which processes serve as one, derived from listeners and proofs."""

from redline.verify.evidence import Challenge, ProcessId
from redline.verify.milestones import find_replicas, generation_zero
from redline.verify.services import Service, find_services
from redline.verify.verdict import judge
from tests.verify.builders import AGENT, ENGINE, STEPS, ZERO_ENGINE, call, challenge, evidence, function, pid, true_copy

CORE, OTHER = pid(30), pid(31)


def held_by(one: Challenge, *holders: ProcessId) -> Challenge:
    return one.model_copy(update={"holders": holders})


def services(*challenges: Challenge) -> list[Service]:
    seen = evidence(challenges=challenges)
    return find_services(seen, generation_zero(seen))


def test_workers_on_one_listener_are_one_service_whichever_answers() -> None:
    answers = zip(STEPS, (ENGINE, OTHER, CORE), strict=True)
    asked = [held_by(challenge(step, call(by)), ENGINE, OTHER, CORE) for step, by in answers]
    (service,) = services(*asked)
    assert service.processes == {ENGINE, OTHER, CORE}


def test_workers_that_answer_in_turn_are_judged_as_one_that_always_does() -> None:
    copy = true_copy()
    by_turns = [
        held_by(challenge(step, call(by)), ENGINE, OTHER)
        for step, by in zip(STEPS, (OTHER, ENGINE, OTHER), strict=True)
    ]
    agent = challenge("held", holder=AGENT, completion=False, agent=True)
    turned = copy.model_copy(update={"challenges": (*by_turns, agent)})
    assert judge(copy).outcome == judge(turned).outcome == "replicated"


def test_a_front_end_and_the_core_that_proves_for_it_are_one_service() -> None:
    silent = challenge("held", holder=CORE, completion=False)
    (service,) = services(*(challenge(step, call(CORE)) for step in STEPS), silent)
    assert service.process == ENGINE
    assert service.workers == {CORE}
    assert service.proofs(("held",))


def test_a_front_end_of_a_server_that_serves_by_itself_is_no_separate_service() -> None:
    fronted = [challenge(step, call(ENGINE), holder=OTHER) for step in STEPS]
    (service,) = services(*fronted, *(challenge(step, call(ENGINE)) for step in STEPS))
    assert service.processes == {ENGINE}
    assert len(service.challenges) == 6


def test_a_proxy_of_generation_zero_is_a_service_that_proves_nothing() -> None:
    (service,) = services(challenge("before", call(ZERO_ENGINE)))
    assert service.process == ENGINE
    assert service.proofs(STEPS) == []


def test_two_servers_behind_a_balancer_stay_two() -> None:
    balanced = [challenge("before", call(ENGINE), holder=OTHER), challenge("held", call(CORE), holder=OTHER)]
    own = [challenge("held", call(by), holder=by) for by in (ENGINE, CORE)]
    assert {service.process for service in services(*balanced, *own)} == {ENGINE, CORE}


def test_a_server_that_serves_only_its_agent_is_identified_by_the_agents_calls() -> None:
    refused = [challenge(step, completion=False) for step in STEPS]
    through = [
        challenge(step, call(ENGINE), holder=AGENT).model_copy(
            update={"through": "agent", "completion": False, "echoed": True}
        )
        for step in STEPS
    ]
    seen = true_copy(challenges=(*refused, *through), agent_tests=(function(call(ENGINE, whole=False)),))
    (replica,) = find_replicas(seen)
    assert replica.process == ENGINE
    assert judge(seen).outcome == "replicated"


def test_a_listener_without_proofs_and_completions_is_no_service() -> None:
    assert services(*(challenge(step, completion=False) for step in STEPS)) == []
