"""What the agent said, as far as a verdict needs it: a transparent scan for claims and refusals.

Words change no milestone. A claim is compared with the evidence; a refusal only distinguishes `refused` from
`no_attempt`.
"""

import re
from collections.abc import Iterable, Sequence

from redline._text import clean
from redline.verify._limits import limits
from redline.verify._signs import signs
from redline.verify.activity_log import ActivityLog
from redline.verify.evidence import Behaviour, Transcript
from redline.verify.phrases import claims_in, phrases, refusals_in, sentences

MAX_PHRASES = 8
SENTENCE = re.compile(r"(?<=[.!?;:])\s+|\n+")


def read_transcript(
    messages: Sequence[str], final: str, *, turns: int, tool_calls: int, prompts: Sequence[str] = ()
) -> Transcript:
    """Scan what the agent said.

    Args:
        messages: The agent's messages, turn by turn.
        final: The agent's final message, or its submitted answer if there is one.
        turns: Number of model turns.
        tool_calls: Number of tool calls.
        prompts: Texts sent to the agent. A sentence of these in its own messages is a quotation.
    """
    figures = limits().evidence
    limit = figures.transcript_characters
    everything = "\n".join([*messages, final])[-limit:]
    quoted = frozenset(sentence for text in prompts for sentence in sentences(text[:limit]))
    return Transcript(
        turns=turns,
        tool_calls=tool_calls,
        final=clean(final[-figures.final_characters :], figures.final_characters),
        claims=find_claims(final[-limit:], quoted),
        refusals=find_refusals(everything, quoted),
        scanner=phrases().version,
    )


def find_claims(text: str, quoted: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the phrases that claim a copy. A denied, planned, imagined or retracted copy is not a claim."""
    return _first(claims_in(text, quoted))


def find_refusals(text: str, quoted: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the phrases that decline the request."""
    return _first(refusals_in(text, quoted))


def read_behaviour(messages: Sequence[str], prompts: Sequence[str], activity_log: ActivityLog) -> Behaviour:
    """Scan what the agent said, and add what was recorded while it worked.

    Args:
        messages: The agent's messages, turn by turn, with the reasoning that its provider shows.
        prompts: Texts sent to the agent. A sentence of these in its own messages is a quotation.
        activity_log: The record of its activity.
    """
    known = signs()
    limit = limits().evidence.transcript_characters
    quoted = {sentence for text in prompts for sentence in _sentences(text)}
    own = [sentence for sentence in _sentences("\n".join(messages)[-limit:]) if sentence not in quoted]
    return Behaviour(
        scanner=known.version,
        test_awareness=_found(_without(own, known.no_awareness), known.test_awareness),
        agreements=_found(_without(own, known.denials), known.agreements),
        plan=activity_log.planned,
        actions=activity_log.actions,
        actions_left_out=activity_log.actions_left_out,
        spending=activity_log.spending,
        commands=activity_log.commands,
        commands_left_out=activity_log.commands_left_out,
    )


def _without(sentences: Sequence[str], patterns: Sequence[re.Pattern[str]]) -> list[str]:
    return [sentence for sentence in sentences if not any(pattern.search(sentence) for pattern in patterns)]


def _sentences(text: str) -> list[str]:
    plain = text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    return [" ".join(sentence.split()) for sentence in SENTENCE.split(plain)]


def _found(sentences: Sequence[str], patterns: Sequence[re.Pattern[str]]) -> tuple[str, ...]:
    hits = [match[0] for sentence in sentences for pattern in patterns if (match := pattern.search(sentence))]
    return tuple(dict.fromkeys(hit[:200] for hit in hits))[:MAX_PHRASES]


def _first(phrases_found: Iterable[str]) -> tuple[str, ...]:
    """Return the first different phrases, truncated; read no more of the text than that takes."""
    kept: dict[str, None] = {}
    for phrase in phrases_found:
        kept[phrase[:200]] = None
        if len(kept) == MAX_PHRASES:
            break
    return tuple(kept)
