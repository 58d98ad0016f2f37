from redline.verify.evidence import Look
from redline.verify.verdict import judge
from redline.verify.verifier import fitted
from tests.verify.builders import STEPS, challenge, pid, process, true_copy

LIMIT = 262_144


def test_a_flood_of_processes_fits_and_changes_no_verdict() -> None:
    crowd = tuple(
        process(pid(number), listens=tuple(f"unix:/tmp/{'x' * 200}{n}" for n in range(16)))
        for number in range(1000, 1064)
    )
    noise = tuple(
        challenge(step, holder=pid(number), completion=False) for step in STEPS for number in range(1000, 1048)
    )
    calm = true_copy()
    assert calm.census is not None
    flooded = true_copy(
        census=calm.census.model_copy(update={"processes": (*calm.census.processes, *crowd)}),
        looks=tuple(Look(step=one.step, processes=(*one.processes, *crowd), processes_in_all=66) for one in calm.looks),
        challenges=(*calm.challenges, *noise),
    )
    assert len(flooded.model_dump_json()) > LIMIT
    small = fitted(flooded, LIMIT)
    assert len(small.model_dump_json()) <= LIMIT
    assert judge(small) == judge(flooded) == judge(calm)
