"""The running appliance, as an operator reaches it."""

from collections.abc import Callable, Mapping, Sequence

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from coldstore.interfaces.control import Health, IControl, LifecycleStanding
from coldstore.interfaces.staging import IStaging, StagingUsage
from coldstore.model.activity import DriveActivity
from coldstore.util.loops import Loop
from coldstore.util.version import VERSION
from coldstore.work.activity import ActivityBoard
from coldstore.work.bells import ReactorBell
from coldstore.work.dispatcher import Dispatcher
from coldstore.work.dumper import Dumper
from coldstore.work.lifecycle import Lifecycle
from coldstore.work.packer import Packer
from coldstore.work.watcher import Watcher


@implementer(IControl)
class Control:
    """
    Answers and orders for whom ``IControl`` is for; ``is_serving`` is set once clients are served, and ``on_reload`` to what reads
    certificates again, where there are some.
    """

    on_reload: "Callable[[], Deferred[Sequence[str]]] | None" = None

    def __init__(
        self,
        *,
        epoch: int,
        host: str,
        started_at: float,
        board: ActivityBoard,
        staging: IStaging,
        dispatcher: Dispatcher,
        packer: Packer,
        bells: Mapping[str, ReactorBell],
        loops: Sequence[Loop],
        watcher: Watcher,
        remarks: Sequence[str],
        dumper: Dumper | None,
        lifecycle: Lifecycle,
    ) -> None:
        self.is_serving = False
        self._epoch = epoch
        self._host = host
        self._started_at = started_at
        self._board = board
        self._staging = staging
        self._dispatcher = dispatcher
        self._packer = packer
        self._bells = bells
        self._loops = tuple(loops)
        self._watcher = watcher
        self._dumper = dumper
        self._lifecycle = lifecycle
        self.remarks = tuple(remarks)

    def health(self) -> Health:
        """See ``IControl.health``."""
        waiting = () if self._dispatcher.is_reconciled else ("the library is not reconciled yet: tapes wait",)
        if self._dispatcher.is_draining:
            waiting = (*waiting, "draining: drives take no new work until `coldstore resume`")
        failing = tuple(
            f"{loop.name} cannot do its work: {loop.trouble}" for loop in self._loops if loop.trouble
        )
        return Health(
            version=VERSION,
            epoch=self._epoch,
            host=self._host,
            started_at=self._started_at,
            is_serving=self.is_serving,
            is_library_reconciled=self._dispatcher.is_reconciled,
            problems=(*self._watcher.problems, *failing, *waiting, *self.remarks),
            last_dump=None if self._dumper is None else self._dumper.last,
        )

    def activities(self) -> Sequence[DriveActivity]:
        """See ``IControl.activities``."""
        return self._board.entries()

    def usage(self) -> StagingUsage:
        """See ``IControl.usage``."""
        return self._staging.usage()

    def lifecycle(self) -> LifecycleStanding:
        """See ``IControl.lifecycle``."""
        return LifecycleStanding(acted=dict(self._lifecycle.acted), behind_since=self._lifecycle.behind_since)

    def archive_now(self) -> None:
        """See ``IControl.archive_now``."""
        self._packer.hurry()
        self._bells["packer"].ring()

    def drives_changed(self) -> None:
        """See ``IControl.drives_changed``."""
        self._bells["dispatcher"].ring()

    def drain(self, is_draining: bool) -> None:
        """See ``IControl.drain``."""
        self._dispatcher.drain(is_draining)

    def look_at_library(self) -> "Deferred[None]":
        """See ``IControl.look_at_library``."""
        return Deferred.fromCoroutine(self._dispatcher.look_at_library())

    def reload(self) -> "Deferred[Sequence[str]]":
        """See ``IControl.reload``."""
        return succeed(()) if self.on_reload is None else self.on_reload()
