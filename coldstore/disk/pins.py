"""Pins: who keeps the bytes of a piece in place, and who waits until nobody does. Lives in the reactor's thread."""

from collections.abc import Sequence

from twisted.internet.defer import Deferred

from coldstore.interfaces.staging import DiskFault


class Pins:
    """Counted pins by address. An address that is being freed cannot be pinned any more."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._waiting: dict[str, list[Deferred[None]]] = {}
        self._being_freed: dict[str, int] = {}

    def pin(self, address: str) -> None:
        """
        Add one.

        :raise DiskFault: the piece is being freed.
        """
        if address in self._being_freed:
            raise DiskFault(f"{address} was discarded")
        self._counts[address] = self._counts.get(address, 0) + 1

    def unpin(self, address: str) -> None:
        """
        Take one off.

        :raise ValueError: there is none.
        """
        count = self._counts.get(address, 0)
        if count == 0:
            raise ValueError(f"{address} is not pinned")
        if count > 1:
            self._counts[address] = count - 1
            return
        del self._counts[address]
        for each in self._waiting.pop(address, []):
            if not each.called:
                each.callback(None)

    def released(self, address: str) -> Deferred[None] | None:
        """Return what fires when the last pin ends, or None when there is none."""
        if address not in self._counts:
            return None
        waiting: Deferred[None] = Deferred(lambda _: None)
        self._waiting.setdefault(address, []).append(waiting)
        return waiting

    def begin_freeing(self, addresses: Sequence[str]) -> None:
        """Refuse pins from now on. The addresses are not pinned."""
        for address in addresses:
            assert address not in self._counts, "pinned pieces are not freed"
            self._being_freed[address] = self._being_freed.get(address, 0) + 1

    def end_freeing(self, addresses: Sequence[str]) -> None:
        """They are freed, or that failed."""
        for address in addresses:
            self._being_freed[address] -= 1
            if not self._being_freed[address]:
                del self._being_freed[address]
