"""What other processes of the appliance tell by NOTIFY, as rings of a bell."""

from collections.abc import Callable
from typing import Any

from coldstore.metadata.postgres.client import Address, Connection
from coldstore.metadata.postgres.lasting import LastingConnection, Time


class Listener:
    """
    Rings a bell when somebody else notifies a channel.

    It rings as well whenever its session begins anew, because what was told in between is not told again.
    """

    def __init__(
        self,
        address: Address,
        channel: str,
        rung: Callable[[], None],
        *,
        own: str | None,
        reactor: Any,
        clock: Time,
        answer_seconds: float,
        connect_seconds: float,
    ) -> None:
        """
        :param channel: an SQL name, lower-case letters and ``_``
        :param rung: is called
        :param own: what we say ourselves, and need not be told; None: nothing
        """
        self._channel = channel
        self._rung = rung
        self._own = own
        self.lasting = LastingConnection(
            lambda lost: Connection(
                address, reactor=reactor, answer_seconds=answer_seconds, hear=self._heard, lost=lost
            ),
            clock=clock,
            connect_seconds=connect_seconds,
            begun=self._begun,
            up=rung,
        )

    def start(self) -> None:
        """Listen, for as long as it takes."""
        self.lasting.start()

    async def stop(self) -> None:
        """Listen no more."""
        await self.lasting.stop()

    async def _begun(self, connection: Connection) -> None:
        # It has nothing to do but to be there.
        await connection.run("SET idle_session_timeout = 0")
        await connection.run(f"LISTEN {self._channel}")

    def _heard(self, channel: str, said: str) -> None:
        if said != self._own:
            self._rung()
