"""A gate that whoever writes passes, and that is closed while there is enough to do."""

from twisted.internet.defer import Deferred, succeed


class Gate:
    """Holds one writer back. ``close`` and ``open`` suit ``IIncoming.on_pressure``."""

    def __init__(self) -> None:
        self._is_open = True
        self._waiting: Deferred[None] | None = None

    def close(self) -> None:
        """Let nobody pass."""
        self._is_open = False

    def open(self) -> None:
        """Let pass again."""
        self._is_open = True
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def passage(self) -> "Deferred[None]":
        """Fire when the gate is open."""
        if self._is_open:
            return succeed(None)
        self._waiting = Deferred()
        return self._waiting
