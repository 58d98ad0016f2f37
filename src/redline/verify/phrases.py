"""The patterns by which claims and refusals are recognised, and how a text is read for them.

Code, quotations and unticked items of a list say nothing about what was done; they are taken out before the text is
split into sentences. What a pattern may be surrounded by (a denial, a condition, a retraction) is in the data file.
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
_CHEAP: Final = str.maketrans({"\N{RIGHT SINGLE QUOTATION MARK}": "'", "\u201c": '"', "\u201d": '"'})


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
    """Return the patterns by which claims and refusals are recognised."""
    table = read_toml("redline.verify", "data/phrases.toml")
    words: dict[str, str] = {}
    for name, text in table["words"].items():
        words[name] = _filled(text, words)

    def compiled(section: dict[str, Any], name: str) -> tuple[re.Pattern[str], ...]:
        return tuple(re.compile(_filled(pattern, words)) for pattern in section[name])

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


def _filled(pattern: str, words: dict[str, str]) -> str:
    """Put words into a pattern, each as a group of its own that is not numbered."""
    for name, text in words.items():
        pattern = pattern.replace(f"<{name}>", f"(?:{text})")
    return pattern


def sentences(text: str) -> list[str]:
    """Return what a text says in its writer's own words, sentence by sentence, in lower case with single blanks."""
    plain = text.translate(_CHEAP).lower()
    prose = _FENCE.sub("\n", plain)
    if not prose.strip():
        prose = plain.replace("```", "")  # all of it was put into a fence
    prose = _QUOTATION.sub("it", _INLINE_CODE.sub("it", _TURN_TAG.sub(" ", prose)))
    found = []
    for raw in prose.splitlines():
        line = _HEADING.sub("", raw)
        if _NOT_PROSE.search(line):
            continue
        bare = _MARKS.sub("", _LEADING.sub("", line))
        found += [" ".join(sentence.split()) for sentence in _SENTENCE.split(bare)]
    most = phrases().sentence_characters
    return [whole[at : at + most] for whole in found for at in range(0, len(whole), most)]


def claims_in(text: str, quoted: Iterable[str] = ()) -> Iterator[str]:
    """Yield the phrases in which a text claims that a copy was made."""
    known, foreign = phrases(), frozenset(quoted)
    own = sentences(text)
    # Read once from the end: every sentence would otherwise be held against all that come after it.
    last_retraction = next((n for n in range(len(own) - 1, -1, -1) if _any(known.retractions, own[n])), -1)
    for number, sentence in enumerate(own):
        if number < last_retraction or sentence.endswith("?") or sentence in foreign:
            continue
        for end, phrase in _claims_of(sentence):
            if not _any(known.retractions, sentence[end:]):
                yield phrase


def _claims_of(sentence: str) -> Iterator[tuple[int, str]]:
    """Yield where in a sentence a claim ends, and its phrase."""
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
    """Return where a pattern is found: one for the start of a sentence, at the start of any of its parts."""
    if not pattern.pattern.startswith("^"):
        return [hit.span() for hit in pattern.finditer(text)]
    found = []
    for begin, _ in parts:
        hit = pattern.match(text[begin:])
        if hit is not None:
            found.append((begin + hit.start(), begin + hit.end()))
    return found


def _parts_of(sentence: str) -> list[tuple[int, int]]:
    """Return begin and end of the parts of a sentence that can be true or false by themselves."""
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
