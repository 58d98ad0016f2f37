"""The connections that the broker is serving, limited in number for each process and in all."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import anyio

from redline.tether.caps import Caps
from redline.tether.channel import Channel
from redline.tether.lineage import Lineage
from redline.tether.record import Refusal


@dataclass(eq=False)
class OpenConnection:
    """One accepted connection that is being served."""

    node: str
    connector: int
    channel: Channel
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    cause: Refusal = "interrupted"
    proved: bool = False
    protected: bool = False
    """Whether it is an expected call or a turn of the agent's loop: other connections are closed first."""

    @property
    def peer(self) -> tuple[str, int]:
        """Node and pid of the sender, or of the process that connected while nothing has been sent."""
        return self.node, self.channel.sender_pid

    def disconnect(self, cause: Refusal) -> None:
        """End the connection, whatever it is doing."""
        self.cause = cause
        self.scope.cancel()


class OpenConnections:
    """The connections being served, oldest first."""

    def __init__(self, caps: Caps, lineage: Lineage) -> None:
        """Start with no connection."""
        self._caps = caps
        self._lineage = lineage
        self._connections: dict[OpenConnection, None] = {}

    def __iter__(self) -> Iterator[OpenConnection]:
        """Iterate over a copy, so that connections can be closed meanwhile."""
        return iter(list(self._connections))

    def add(self, connection: OpenConnection) -> None:
        """Add a connection, closing another one if a limit is reached."""
        self._make_room(connection)
        self._connections[connection] = None

    def discard(self, connection: OpenConnection) -> None:
        """Remove a connection that has ended."""
        self._connections.pop(connection, None)

    def limit_peer(self, newcomer: OpenConnection) -> list[OpenConnection]:
        """Close one of the other connections of the newcomer's process if it has too many; return the others."""
        siblings = [one for one in self._connections if one is not newcomer and one.peer == newcomer.peer]
        if len(siblings) >= self._caps.connections_per_sender:
            self.shed(siblings)
        return siblings

    def shed(self, candidates: list[OpenConnection]) -> None:
        """Close the oldest candidate; those without a valid proof go first, protected ones last."""
        if candidates:
            chosen = min(candidates, key=lambda one: (one.protected, one.proved))
            self._connections.pop(chosen)
            chosen.disconnect("connections")

    def _make_room(self, newcomer: OpenConnection) -> None:
        siblings = self.limit_peer(newcomer) if newcomer.connector else []
        if len(self._connections) >= self._caps.connections:
            ordinary = [one for one in self._connections if not self._is_original(one) and not one.protected]
            self.shed(ordinary or siblings)

    def _is_original(self, connection: OpenConnection) -> bool:
        original = self._lineage.original
        return original is not None and connection.peer == (original.caller.node, original.caller.pid)
