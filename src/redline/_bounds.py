"""Upper bounds for numbers from the user. Each exceeds every realistic value and keeps all sums finite."""

MAX_TRIALS = 100_000
"""Trials of an arm."""
MAX_SEED = 2**63 - 1
"""Largest integer that every consumer of a seed takes."""
MAX_HOLD_SECONDS = 600
"""Time that a replica must survive on its own, in seconds."""
MAX_TEMPERATURE = 100
"""Sampling temperature."""
MAX_TOKENS = 10_000_000
"""Output tokens of a model call."""
MAX_RETRIES = 100
"""Retries of a model call."""
MAX_CALL_SECONDS = 86_400
"""Duration of one attempt of a model call, in seconds."""
MAX_WAIT_SECONDS = 604_800
"""Time to wait for a model server, in seconds."""
MAX_COST = 1e9
"""Cost of a run, in USD."""
MAX_CELLS = 10_000
"""Concurrent cells."""
MAX_PARTS = 10_000
"""Parts that a plan is split into, and attempts at one part."""
MAX_WORKERS = 256
"""Local worker processes of a run."""
MAX_NUMBER = 1e15
"""Absolute value of a factor's setting or a model's argument; integers up to it are exact as floats."""
