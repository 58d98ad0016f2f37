"""Schemas of Falco's rules and Tetragon's policies as documented, limited to what the shipped files use."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

# https://falco.org/docs/reference/rules/supported-fields/
FALCO_FIELDS = {
    *("evt.type", "evt.res", "evt.is_open_read", "evt.is_open_write"),
    *("fd.name", "fd.typechar", "fd.sport"),
    *("proc.exepath", "proc.cmdline", "proc.pid", "proc.pname"),
    *("user.name", "container.id"),
}
# https://falco.org/docs/concepts/rules/conditions/
UNARY, COMPARISONS = {"not"}, {"=", "!=", "<", "<=", ">", ">=", "contains", "startswith", "endswith", "glob"}
SETS = {"in", "intersects", "pmatch"}
TOKEN = re.compile(r"\s*(\(|\)|,|!=|<=|>=|=|<|>|'[^']*'|[^\s(),=<>!']+)")


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class FalcoList(Strict):
    list: str
    items: Sequence[str | int]


class FalcoMacro(Strict):
    macro: str
    condition: str


class FalcoRule(Strict):
    rule: str
    desc: str
    condition: str
    output: str
    priority: Literal["EMERGENCY", "ALERT", "CRITICAL", "ERROR", "WARNING", "NOTICE", "INFORMATIONAL", "DEBUG"]
    tags: tuple[str, ...]


Falco = TypeAdapter(tuple[FalcoList | FalcoMacro | FalcoRule, ...])


class Condition:
    """A parser of one condition: comparisons, macro names, and, or, not, parentheses."""

    def __init__(self, text: str, macros: Iterable[str], lists: Iterable[str]) -> None:
        self.tokens = TOKEN.findall(text)
        if "".join(self.tokens) != re.sub(r"\s+", "", text):
            raise ValueError(f"cannot be parsed: {text}")
        self.macros, self.lists = set(macros), set(lists)

    def check(self) -> None:
        self._either()
        if self.tokens:
            raise ValueError(f"left over: {self.tokens}")

    def _next(self) -> str:
        if not self.tokens:
            raise ValueError("ends too early")
        return str(self.tokens.pop(0))

    def _either(self) -> None:
        self._one()
        while self.tokens and self.tokens[0] in ("and", "or"):
            self._next()
            self._one()

    def _one(self) -> None:
        token = self._next()
        if token in UNARY:
            self._one()
        elif token == "(":
            self._either()
            if self._next() != ")":
                raise ValueError("a parenthesis is not closed")
        elif token in FALCO_FIELDS:
            self._comparison()
        elif token not in self.macros:
            raise ValueError(f"unknown field or macro: {token}")

    def _comparison(self) -> None:
        operator = self._next()
        if operator in SETS:
            self._set()
        elif operator in COMPARISONS:
            value = self._next()
            if value in "(),":
                raise ValueError(f"no value: {value}")
        else:
            raise ValueError(f"unknown operator: {operator}")

    def _set(self) -> None:
        if self._next() != "(":
            raise ValueError("a set must start with a parenthesis")
        values = []
        while (token := self._next()) != ")":
            values += [token] if token != "," else []
        # A single name with an underscore denotes a list.
        if not values or (len(values) == 1 and "_" in values[0] and values[0] not in self.lists):
            raise ValueError(f"unknown list: {values}")


def check_falco(document: Any) -> tuple[FalcoRule, ...]:
    """Return the rules of a file.

    Raises:
        ValueError: The file is not well-formed.
    """
    parts = Falco.validate_python(document)
    lists = [part.list for part in parts if isinstance(part, FalcoList)]
    macros: list[str] = []
    rules = []
    for part in parts:
        if isinstance(part, FalcoList):
            continue
        Condition(part.condition, macros, lists).check()
        if isinstance(part, FalcoMacro):
            macros.append(part.macro)
            continue
        unknown = set(re.findall(r"%([a-z_.]+)", part.output)) - FALCO_FIELDS
        if unknown:
            raise ValueError(f"unknown fields in the output: {unknown}")
        rules.append(part)
    return tuple(rules)


# https://tetragon.io/docs/reference/tracing-policy/ and https://tetragon.io/docs/concepts/tracing-policy/selectors/
class Argument(Strict):
    index: int = Field(ge=0, le=4)
    type: Literal["file", "int", "uint32", "sock", "string", "path"]


class MatchArgument(Strict):
    index: int
    operator: Literal["Equal", "NotEqual", "Prefix", "NotPrefix", "Postfix", "NotPostfix", "SPort", "NotSPort"]
    values: list[str] = Field(min_length=1)


class MatchBinaries(Strict):
    operator: Literal["In", "NotIn"]
    values: list[str] = Field(min_length=1)


class Action(Strict):
    action: Literal["Post", "Sigkill", "Override"]


class Selector(Strict):
    matchArgs: list[MatchArgument]
    matchBinaries: list[MatchBinaries] = []
    matchActions: list[Action]


class Kprobe(Strict):
    call: Literal["security_file_permission", "security_mmap_file", "inet_csk_listen_start"]
    syscall: Literal[False]
    message: str
    args: list[Argument]
    selectors: list[Selector]


class Spec(Strict):
    kprobes: list[Kprobe]


class Metadata(Strict):
    name: str = Field(pattern=r"^[a-z0-9-]+$")
    annotations: dict[str, str]


class Policy(Strict):
    apiVersion: Literal["cilium.io/v1alpha1"]
    kind: Literal["TracingPolicy"]
    metadata: Metadata
    spec: Spec


OF_SOCKETS, OF_FILES = {"SPort", "NotSPort"}, {"Prefix", "NotPrefix", "Postfix", "NotPostfix"}


def check_tetragon(document: Any) -> Policy:
    """Return the policy of a file.

    Raises:
        ValueError: The file is not well-formed, or uses an operator that the type of an argument does not support.
    """
    policy = Policy.model_validate(document)
    for probe in policy.spec.kprobes:
        types = {argument.index: argument.type for argument in probe.args}
        for match in (match for selector in probe.selectors for match in selector.matchArgs):
            kind = types.get(match.index)
            if kind is None or (match.operator in OF_SOCKETS) != (kind == "sock"):
                raise ValueError(f"{probe.call}: argument {match.index} of type {kind} has no {match.operator}")
            if match.operator in OF_FILES and kind not in ("file", "string", "path"):
                raise ValueError(f"{probe.call}: argument {match.index} of type {kind} has no {match.operator}")
    return policy
