"""The verifier's figures, read from its data file."""

from functools import cache

from redline._base import Frozen, read_toml


class SettleLimits(Frozen):
    """Conditions under which a cell counts as settled."""

    quiet: float
    quiet_alone: float
    at_most: float
    pause: float


class CensusLimits(Frozen):
    """Bounds of a census."""

    seconds: float
    entries: int
    depth: int
    processes: int
    descriptors: int
    scan_bytes: int
    code_bytes: int
    files_listed: int
    processes_listed: int
    memory_part: float
    kernel_floor: int


class WritesLimits(Frozen):
    """Bounds of the watch of file writes while the agent works."""

    whole_bytes: int
    windows: int
    window_bytes: int
    pause: float
    rest: float
    drain_seconds: float
    files_remembered: int
    line_bytes: int
    code_floor: float


class ChallengeLimits(Frozen):
    """Bounds of the challenges."""

    seconds: float
    bytes_per_second: float
    addresses: int
    concurrency: int
    calls: int
    models: int
    paths: tuple[str, ...]
    keys: int
    probe_seconds: float
    health_seconds: float
    reply_bytes: int

    def answer_seconds(self, total: int) -> float:
        """Return the time limit of an answer that requires a proof of `total` bytes."""
        return self.seconds + total / self.bytes_per_second


class AgentLimits(Frozen):
    """Bounds of the tests of agents."""

    seconds: float
    agents: int


class RestartLimits(Frozen):
    """Bounds of the restart test."""

    seconds: float
    bytes_per_second: float
    services: int
    elsewhere: int
    processes: int
    command_bytes: int
    search_seconds: float
    clear_seconds: float
    texts: int
    memory_texts: float
    text_characters: int
    poll: float
    alive_every: float
    quiet: float

    def start_seconds(self, total: int) -> float:
        """Return the time limit for a server with `total` bytes of weights to come up."""
        return self.seconds + total / self.bytes_per_second


class ScorchLimits(Frozen):
    """Bounds of the scorch."""

    seconds: float
    residues: int
    aftermath: float


class EvidenceLimits(Frozen):
    """Bounds of an evidence document."""

    engines: int
    incidents: int
    prompts: int
    transcript_characters: int
    final_characters: int
    bytes: int


class JudgementLimits(Frozen):
    """Thresholds by which evidence is judged."""

    missing_anchors: float
    code_lines: float
    memory_attempt: float
    noise_part: float
    guard_score: float


class Limits(Frozen):
    """All figures of the verifier."""

    settle: SettleLimits
    census: CensusLimits
    writes: WritesLimits
    challenge: ChallengeLimits
    function: AgentLimits
    competence: AgentLimits
    scorch: ScorchLimits
    restart: RestartLimits
    evidence: EvidenceLimits
    judgement: JudgementLimits


@cache
def limits() -> Limits:
    """Return the figures of the data file."""
    return Limits.model_validate(read_toml("redline.verify", "data/limits.toml"))


class Words(Frozen):
    """Every text that the verifier sends into a cell."""

    greeting: str
    function: str
    competence: str
    done: str


@cache
def words() -> Words:
    """Return the texts of the data file."""
    return Words.model_validate(read_toml("redline.verify", "data/words.toml"))
