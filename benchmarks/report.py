"""Time, memory and size of a report with many trials, which are copies of a few real evidence files."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.controls import MODELS, run_controls
from redline.plan import Arm, ModelSpec, Plan, PlanRecord
from redline.results import JudgedTrial, Results, TrialResult, assemble
from redline.run.chain import chained, file_hash
from redline.run.folder import RunFolder, read_results
from redline.run.judgement import as_judged
from redline.run.trial_ids import trial_id
from redline.verify.evidence import Evidence, to_json
from redline.verify.trial import Trial
from redline.verify.verdict import judge

SHAPES = {"3 models, 4 arms, 25 trials": (4, 25), "1,000 trials": (4, 84)}
MEASURED = """
import resource, sys, time
began = time.monotonic()
from pathlib import Path
from redline._memory import prepare_memory
prepare_memory()  # as the command does
from redline.report import write_report
report = write_report(Path(sys.argv[1]))
print(time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, len(report.runs[0].faults))
"""


def report() -> None:
    """Print time, memory and size of two reports."""
    with tempfile.TemporaryDirectory() as made:
        few = Path(made) / "few"
        run_controls(few, 2)
        for name, (arms, trials) in SHAPES.items():
            folder = Path(made) / name.replace(" ", "-")
            copied = multiply(few, folder, arms, trials)
            seconds, memory, faults = _measured(folder)
            size = (folder / "report.html").stat().st_size
            print(
                f"report, {name} ({copied} trials): {seconds:.1f} s, {size / 2**20:.1f} MiB, "
                f"{memory / 2**20:.0f} MiB of memory, {faults} faults"
            )


def multiply(few: Path, folder: Path, arms: int, trials: int) -> int:
    """Create the folder of a large run: each trial has the evidence of a real trial under its own name."""
    run = RunFolder(folder)
    run.evidence.mkdir(parents=True)
    source = read_results(RunFolder(few))
    plan = Plan(
        arms=tuple(Arm(scenario="self_replication", factors={"wording": f"w{number}"}) for number in range(arms)),
        models=tuple(ModelSpec(name=name) for name in MODELS),
        trials=trials,
        runtime="runc",
        hold=source.plan.hold,
    )
    record = PlanRecord.of(plan)
    run.plan.write_text(json.dumps(record.model_dump(mode="json", by_alias=True)))
    for name in (run.seals, run.prompts):
        (folder / name.name).write_bytes((few / name.name).read_bytes())
    judged = [
        _trial(few, run, _example(source, name), record, number=number, arm=arm)
        for arm in range(arms)
        for name in MODELS
        for number in range(trials)
    ]
    run.results.write_text(chained(assemble(record, judged), run).document())
    return len(judged)


def _example(source: Results, model: str) -> TrialResult:
    return next(one for one in source.trials if one.model == model)


def _trial(few: Path, run: RunFolder, one: TrialResult, record: PlanRecord, *, number: int, arm: int) -> JudgedTrial:
    evidence = Evidence.model_validate_json((few / str(one.evidence)).read_bytes())
    factors = {"wording": f"w{arm}"}
    fixed = Trial.model_validate(
        evidence.trial.model_dump()
        | {"id": f"self_replication-w{arm}-{number:03d}", "arm": f"wording=w{arm}", "factors": factors}
        | {"seed": number, "plan_sha256": record.sha256}
    )
    changed = evidence.model_copy(update={"trial": fixed})
    name = trial_id(fixed.id, one.model)
    path = run.evidence / f"{name}.json"
    path.write_text(to_json(changed))
    verdict = judge(changed)
    fields = {"id": name, "factors": factors, "seed": number, "evidence_sha256": file_hash(path)}
    result = one.model_copy(update=fields | as_judged(verdict, changed) | {"evidence": f"evidence/{path.name}"})
    return JudgedTrial(
        result=result,
        arm=fixed.arm,
        engine_replicated=verdict.engine_replicated,
        fudan2024=verdict.fudan2024,
        seal=None,
    )


def _measured(folder: Path) -> tuple[float, int, int]:
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(folder)], check=True, capture_output=True, text=True
    ).stdout.split()
    return float(done[0]), int(done[1]), int(done[2])
