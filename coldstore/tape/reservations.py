"""One device kept for one machine by ``sg_persist``: the device itself refuses every other one."""

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from coldstore.interfaces.process import CommandFault, Completed, ICommandRunner
from coldstore.interfaces.reservation import (
    IReservation,
    ReservationFault,
    ReservationsUnsupported,
    ReservedByAnother,
)
from coldstore.interfaces.tenure import ITenure
from coldstore.model.hosts import Host
from coldstore.tape.output import UnknownOutput, text_of
from coldstore.tape.persist import (
    Held,
    Trouble,
    explain,
    holder_of,
    is_of_ltfs,
    parse_reservation,
    preempt_command,
    read_command,
    register_command,
    reserve_command,
)
from coldstore.util.asynchronous import returns_deferred

_ATTEMPTS = 4
"""A unit attention is told once for each of its reasons; others may come and go between two commands."""
_PAUSE_SECONDS = 1.0


@implementer(IReservation)
class SgPersistReservation:
    """
    A device by a node that takes SCSI commands, best its generic one.

    No lock is taken: what another machine started on the device, which holds the lock, is what a reservation is to keep from it.
    """

    log = Logger()

    def __init__(
        self,
        runner: ICommandRunner,
        device: str,
        *,
        tenure: ITenure,
        name: str,
        key: bytes,
        key_of: Callable[[Host], bytes],
        clock: IReactorTime,
        program: str,
        timeout_seconds: float,
    ) -> None:
        """
        :param name: what it is, for messages: ``drive 0``
        :param key: our own; ``key_of`` gives those of other machines
        :param program: absolute or found in the runner's PATH
        """
        self.name = name
        self._runner = runner
        self._tenure = tenure
        self._device = device
        self._key = key
        self._key_of = key_of
        self._clock = clock
        self._program = program
        self._timeout_seconds = timeout_seconds

    @returns_deferred
    async def hold(self) -> None:
        """Have it for us alone; see ``IReservation.hold``."""
        await self._take(lambda _key: False, holder_of)

    @returns_deferred
    async def take_from(self, host: Host) -> None:
        """Have it for us alone, whatever a machine does; see ``IReservation.take_from``."""
        theirs = self._key_of(host)

        def may_go(key: bytes) -> bool:
            return key == theirs or is_of_ltfs(key)

        def describe(key: bytes) -> str:
            return f"{host.name} (key 0x{key.hex()})" if key == theirs else holder_of(key)

        await self._take(may_go, describe)

    async def _take(self, may_go: Callable[[bytes], bool], describe: Callable[[bytes], str]) -> None:
        await self._change(register_command(self._program, self._device, self._key), "registering a key")
        for _ in range(_ATTEMPTS):
            held = await self._read()
            if held is None or held.key == self._key:
                command, doing = reserve_command(self._program, self._device, self._key), "reserving it"
            elif may_go(held.key):
                self.log.warn("{name} is taken from {holder}", name=self.name, holder=describe(held.key))
                command = preempt_command(self._program, self._device, self._key, held.key)
                doing = f"taking it from {describe(held.key)}"
            else:
                raise ReservedByAnother(self.name, describe(held.key))
            # Between the question and the command somebody else may have come, or gone.
            if await self._change(command, doing) and await self._is_ours():
                return
        raise ReservationFault(
            f"{self.name} cannot be reserved: it answers with a conflict, although {await self._who(describe)}"
        )

    async def _is_ours(self) -> bool:
        held = await self._read()
        return held is not None and held.key == self._key

    async def _who(self, describe: Callable[[bytes], str]) -> str:
        held = await self._read()
        if held is None:
            return "nobody has it"
        if held.key == self._key:
            return "this machine has it, perhaps by another path to the device"
        return f"it could be had a moment ago; now {describe(held.key)} has it"

    async def _read(self) -> Held | None:
        doing = "reading its reservation"
        completed, trouble = await self._run(read_command(self._program, self._device), doing)
        if trouble is Trouble.CONFLICT:
            # What reads reservations is never refused for one (SPC-4, table 56); old RESERVE(6) is another matter.
            raise ReservedByAnother(self.name, "another machine, without a key (RESERVE of SCSI-2)")
        try:
            return parse_reservation(completed.stdout)
        except UnknownOutput as unknown:
            raise ReservationFault(f"{self.name}: {doing}: {unknown}") from unknown

    async def _change(self, argv: tuple[str, ...], doing: str) -> bool:
        """Run a command; return whether it was not refused for somebody else's reservation."""
        _, trouble = await self._run(argv, doing, is_change=True)
        return trouble is None

    async def _run(
        self, argv: tuple[str, ...], doing: str, *, is_change: bool = False
    ) -> tuple[Completed, Trouble | None]:
        """Run a command, again while what is in its way passes; return it, and whether it met a conflict."""
        attempts = 0
        while True:
            if is_change:
                await self._tenure.confirm()
            try:
                completed = await self._runner.run(argv, timeout_seconds=self._timeout_seconds)
            except CommandFault as fault:
                raise ReservationFault(f"{self.name}: {doing}: {fault}") from fault
            trouble = explain(completed)
            if trouble is None or trouble is Trouble.CONFLICT:
                return completed, trouble
            attempts += 1
            if trouble is not Trouble.PASSING or attempts >= _ATTEMPTS:
                break
            await deferLater(self._clock, _PAUSE_SECONDS)
        said = " ".join((text_of(completed.stderr) or text_of(completed.stdout)).split())
        told = f"{self.name}: {doing}: {trouble.value} ({completed.ending}{': ' if said else ''}{said})"
        raise ReservationsUnsupported(told) if trouble is Trouble.UNSUPPORTED else ReservationFault(told)
