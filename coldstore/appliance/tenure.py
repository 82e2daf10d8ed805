"""Finds out whether this appliance is still the one of its library."""

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from coldstore.interfaces.metadata import IMetadataStore
from coldstore.interfaces.tenure import ITenure
from coldstore.model.errors import MetadataUnavailable, TakenOver
from coldstore.model.hosts import taken_over_by
from coldstore.plan.takeover import PROOF_SECONDS, is_proof
from coldstore.util.asynchronous import returns_deferred

ATTEMPTS = 3
"""Answers that came too late to prove anything, until whoever waits is told so."""

Question = Callable[[], "Deferred[str | None]"]
"""Asks whether somebody has taken over; fires with a sentence that names him, or with None."""


@implementer(ITenure)
class Tenure:
    """
    See ``ITenure``. Asks anew for every act: it is begun by machines that take seconds, and an answer takes a millisecond.

    An answer is worth something for a moment after it was *asked* for. A process that was stopped finds one that came long ago, and
    takes it for new.
    """

    def __init__(
        self, *, questions: Sequence[Question], clock: IReactorTime, ticks: Callable[[], float]
    ) -> None:
        """
        :param questions: each is asked, one after the other; one that tells of somebody is enough
        :param clock: for timers: nobody is waited for longer than his answer would count
        :param ticks: seconds of a clock that nobody sets, and that goes on while the machine sleeps
        """
        self._questions = questions
        self._clock = clock
        self._ticks = ticks
        self._lost = ""
        self._waiting: list[Deferred[str]] = []

    @returns_deferred
    async def confirm(self) -> None:
        """See ``ITenure``."""
        for _ in range(ATTEMPTS):
            asked_at = self._ticks()
            try:
                await self._ask()
            except TimeoutError:
                continue
            if is_proof(asked_at=asked_at, now=self._ticks()):
                return
        raise MetadataUnavailable(
            f"{ATTEMPTS} times it took longer than {PROOF_SECONDS:g} s to learn whether another appliance has taken over"
        )

    def when_lost(self) -> "Deferred[str]":
        """Return what fires once an answer was that another appliance has taken over, with a sentence that names it."""
        told: Deferred[str] = Deferred()
        self._waiting.append(told)
        if self._lost:
            self._tell()
        return told

    async def _ask(self) -> None:
        unknown: MetadataUnavailable | None = None
        for question in self._questions:
            if self._lost:
                break
            try:
                said = await question().addTimeout(PROOF_SECONDS, self._clock)
                # Others ask beside us: what they have learnt by now stays true.
                self._lost = self._lost or said or ""
            except TakenOver as taken:
                self._lost = str(taken)
            except MetadataUnavailable as fault:
                unknown = fault
            except OSError as error:
                unknown = MetadataUnavailable(
                    f"whether another appliance has taken over cannot be seen: {error}"
                )
        if self._lost:
            self._tell()
            raise TakenOver(self._lost)
        if unknown is not None:
            raise unknown

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.called:
                each.callback(self._lost)


def later_run(store: IMetadataStore, epoch: int) -> Question:
    """Return the question whether the record knows a later run than ours."""

    def ask() -> "Deferred[str | None]":
        return store.newest_epoch().addCallback(
            lambda newest: (
                None
                if newest is None or newest.number <= epoch
                else taken_over_by(newest.number, newest.host)
            )
        )

    return ask
