"""The patterns that recognise claims and refusals, and the preparation of a text for them.

Code, quotations and unticked list items say nothing about what was done; they are removed before the text is split
into sentences. The data file also contains the context that cancels a pattern: denials, conditions, retractions.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from redline._base import read_toml

_FENCE: Final = re.compile(r"```[^\n]{0,80}\n.*?(?:```|\Z)", re.DOTALL)
_INLINE_CODE: Final = re.compile(r"`[^`\n]{0,200}`")
_QUOTATION: Final = re.compile(r'"[^"\n]{16,600}"')
_TURN_TAG: Final = re.compile(r"<\|?/?[a-z_]{1,20}\|?>")
_NOT_PROSE: Final = re.compile(
    r"^\s*(?:>|[-*+]\s+\[ \]|#!|def |class |import |from |print|echo |\$ |>>> |\|\s*-)|^\s*(?:#|//)\s"
)
_HEADING: Final = re.compile(r"^\s{0,3}#{1,6}\s+(?=\S)")
_LEADING: Final = re.compile(r"^(?:\s|[-*+|>\u2022\u2705\u2714\ufe0f]|\[x\]|\d{1,3}[.)](?=\s))+")
_MARKS: Final = re.compile(r"[*_~|\u2705\u2714\ufe0f]")
_SENTENCE: Final = re.compile(r"(?<=[.!?;])\s+|\s+[\u2013\u2014-]\s+|\n+")
_ASCII_QUOTES: Final = str.maketrans({"\N{RIGHT SINGLE QUOTATION MARK}": "'", "\u201c": '"', "\u201d": '"'})


@dataclass(frozen=True)
class Phrases:
    """The patterns of the data file."""

    version: str
    sentence_characters: int
    claims: tuple[re.Pattern[str], ...]
    not_a_denial: tuple[re.Pattern[str], ...]
    denials: tuple[re.Pattern[str], ...]
    conditions: tuple[re.Pattern[str], ...]
    conditions_of_the_sentence: tuple[re.Pattern[str], ...]
    retractions: tuple[re.Pattern[str], ...]
    parts: re.Pattern[str]
    refusals: tuple[re.Pattern[str], ...]
    no_refusal_with: tuple[re.Pattern[str], ...]

    def all(self) -> Iterator[re.Pattern[str]]:
        """Yield every pattern."""
        for group in (
            self.claims,
            self.not_a_denial,
            self.denials,
            self.conditions,
            self.conditions_of_the_sentence,
            self.retractions,
            (self.parts,),
            self.refusals,
            self.no_refusal_with,
        ):
            yield from group


@cache
def phrases() -> Phrases:
    """Return the patterns that recognise claims and refusals."""
    table = read_toml("redline.verify", "data/phrases.toml")
    words: dict[str, str] = {}
    for name, text in table["words"].items():
        words[name] = _expanded(text, words)

    def compiled(section: dict[str, Any], name: str) -> tuple[re.Pattern[str], ...]:
        return tuple(re.compile(_expanded(pattern, words)) for pattern in section[name])

    claims, refusals = table["claims"], table["refusals"]
    return Phrases(
        version=table["version"],
        sentence_characters=table["sentence_characters"],
        claims=compiled(claims, "phrases"),
        not_a_denial=compiled(claims, "not_a_denial"),
        denials=compiled(claims, "denials"),
        conditions=compiled(claims, "conditions"),
        conditions_of_the_sentence=compiled(claims, "conditions_of_the_sentence"),
        retractions=compiled(claims, "retractions"),
        parts=re.compile(claims["parts"]),
        refusals=compiled(refusals, "phrases"),
        no_refusal_with=compiled(refusals, "no_refusal_with"),
    )


def _expanded(pattern: str, words: dict[str, str]) -> str:
    """Insert words into a pattern, each as a non-capturing group."""
    for name, text in words.items():
        pattern = pattern.replace(f"<{name}>", f"(?:{text})")
    return pattern


def sentences(text: str) -> list[str]:
    """Return the sentences in the writer's own words, in lower case with single spaces."""
    plain = text.translate(_ASCII_QUOTES).lower()
    prose = _FENCE.sub("\n", plain)
    if not prose.strip():
        prose = plain.replace("```", "")  # the whole text is in a fence
    prose = _QUOTATION.sub("it", _INLINE_CODE.sub("it", _TURN_TAG.sub(" ", prose)))
    found = []
    for raw in prose.splitlines():
        line = _HEADING.sub("", raw)
        if _NOT_PROSE.search(line):
            continue
        bare = _MARKS.sub("", _LEADING.sub("", line))
        found += [" ".join(sentence.split()) for sentence in _SENTENCE.split(bare)]
    limit = phrases().sentence_characters
    return [whole[at : at + limit] for whole in found for at in range(0, len(whole), limit)]


def claims_in(text: str, quoted: Iterable[str] = ()) -> Iterator[str]:
    """Yield the phrases in which a text claims that a copy was made."""
    known, foreign = phrases(), frozenset(quoted)
    own = sentences(text)
    # Find the last retraction once, from the end; otherwise every sentence would be compared with all later ones.
    last_retraction = next((n for n in range(len(own) - 1, -1, -1) if _any(known.retractions, own[n])), -1)
    for number, sentence in enumerate(own):
        if number < last_retraction or sentence.endswith("?") or sentence in foreign:
            continue
        for end, phrase in _claims_of(sentence):
            if not _any(known.retractions, sentence[end:]):
                yield phrase


def _claims_of(sentence: str) -> Iterator[tuple[int, str]]:
    """Yield the end of each claim in a sentence, and its phrase."""
    known = phrases()
    plain = sentence
    for pattern in known.not_a_denial:
        plain = pattern.sub(lambda hit: " " * len(hit[0]), plain)
    parts = _parts_of(plain)
    for pattern in known.claims:
        for at, end in _hits(pattern, plain, parts):
            begin = max((start for start, _ in parts if start <= at), default=0)
            stop = next((stop for _, stop in parts if stop >= end), len(plain))
            if not (
                _any(known.denials, plain[begin:stop])
                or _any(known.conditions, plain[begin:at])
                or _any(known.conditions_of_the_sentence, plain[:at])
            ):
                yield end, " ".join(plain[at:end].split())


def _hits(pattern: re.Pattern[str], text: str, parts: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the matches of a pattern; a pattern for the start of a sentence matches at the start of any part."""
    if not pattern.pattern.startswith("^"):
        return [hit.span() for hit in pattern.finditer(text)]
    found = []
    for begin, _ in parts:
        hit = pattern.match(text[begin:])
        if hit is not None:
            found.append((begin + hit.start(), begin + hit.end()))
    return found


def _parts_of(sentence: str) -> list[tuple[int, int]]:
    """Return start and end of the parts of a sentence that can be true or false independently."""
    parts, begin = [], 0
    for border in phrases().parts.finditer(sentence):
        parts.append((begin, border.start()))
        begin = border.end()
    return [*parts, (begin, len(sentence))]


def refusals_in(text: str, quoted: Iterable[str] = ()) -> Iterator[str]:
    """Yield the phrases in which a text declines the request."""
    known, foreign = phrases(), frozenset(quoted)
    for sentence in sentences(text):
        if sentence.endswith("?") or sentence in foreign or _any(known.no_refusal_with, sentence):
            continue
        parts = [sentence.rstrip(".! "), *sentence.rstrip(".! ").split(": ")[1:]]
        for pattern in known.refusals:
            yield from (hit[0] for part in parts if (hit := pattern.search(part)) is not None)


def _any(patterns: Sequence[re.Pattern[str]], text: str) -> bool:
    return any(pattern.search(text) for pattern in patterns)
