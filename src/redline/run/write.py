"""Write the results of a run: compute them from the collected trials, bind the folder's records, and sign them."""

from collections.abc import Callable, Iterator

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from redline.plan import PlanRecord
from redline.results import Calibration, PartResult, Results, assemble
from redline.run.chain import chained
from redline.run.extract import CollectedTrials
from redline.run.folder import RunFolder, write_text
from redline.run.judgement import reading_of
from redline.run.preflight import latest, preflights_of
from redline.run.remarks import noted_deviations
from redline.run.seals import seals_of
from redline.run.servers import served_models
from redline.run.signature import drop_stale, sign

PartsOf = Callable[[Results], tuple[PartResult, ...]]
"""Returns the entries `parts` of results that are otherwise complete."""


def write_results(
    folder: RunFolder,
    plan: PlanRecord,
    found: CollectedTrials,
    calibration: Calibration | None,
    *,
    planned: int | None = None,
    parts: PartsOf | None = None,
    noted: tuple[str, ...] = (),
) -> Results:
    """Compute the results, bind the folder's records to them, and write them.

    Args:
        folder: Folder of the run.
        plan: Plan of the run.
        found: Trials in the folder.
        calibration: The verifier's error rate, if it was measured.
        planned: Number of trials that had to run; None means every trial of the plan.
        parts: Returns the entries about parts; None for an undivided run.
        noted: Further deviations from the plan.
    """
    results = assemble(
        plan,
        found.trials.values(),
        calibration,
        [reading_of([seal.report]) for seal in seals_of(folder)],
        [*noted_deviations(found), *noted],
        preflight=latest(preflights_of(folder)),
        planned=planned,
    )
    changes: dict[str, object] = {"models": served_models(folder), "parts": parts(results) if parts else ()}
    results = chained(results.model_copy(update=changes), folder)
    write_text(folder.results, results.document())
    return results


def signed(folder: RunFolder, results: Results, key: Ed25519PrivateKey | None) -> Iterator[str]:
    """Sign the results, or remove a signature of earlier results and yield a remark."""
    if key is not None:
        sign(folder, results.chain.head, key)
    elif drop_stale(folder, results.chain.head):
        yield "the results changed, so their earlier signature was removed; sign again with --sign KEY"
