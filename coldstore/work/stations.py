"""What this run knows of each drive besides its bay: the session that it has, and when it had which."""

from dataclasses import dataclass, field

from twisted.internet.defer import Deferred

from coldstore.model.cartridges import Drive, DriveState
from coldstore.plan.jobs import DoArchive, DoRecall, DoUnload, DriveView, Job
from coldstore.work.bay import Bay

REST_FIRST_SECONDS = 2.0
REST_MOST_SECONDS = 300.0
"""A drive that failed by nobody's fault rests before it is tried again; the rest doubles with every failure in a row."""
PATIENCE_SECONDS = 120.0
"""So long a drive that was put down may stand still with a file on tape before the transfer is broken off."""
LEAVING_SECONDS = 900.0
"""A cartridge that is so long on its way out of a drive counts as stuck in it."""
EXCHANGE_SECONDS = 900.0
"""
So long a drive may take to get rid of a cartridge before what it was to do with the next one is left to others; for a recall,
until that one is mounted: another copy may be at hand.
"""
TRANSFERS = frozenset({"writing", "verifying", "reading"})
"""Steps that only a mover does: it may be killed at any time. Robot, drive and LTFS are never interrupted."""
KINDS = {DoArchive: "archive", DoRecall: "recall", DoUnload: "unload"}


@dataclass(slots=True, kw_only=True)
class Station:
    """
    One drive.

    ``in_hand`` are the copies (bundle id and pool) that its session takes care of. ``gives_way``: the session ends at its next
    boundary, after some work; ``is_leaving``: at once, for an operator put the drive down, and its cartridge is put away.
    ``stop_reason`` is why the drive is to be recorded as down, for the store may be away.
    """

    bay: Bay
    idle_since: float
    held_since: float
    session: Deferred[None] | None = None
    job: Job | None = None
    in_hand: set[tuple[str, str]] = field(default_factory=set)
    gives_way: bool = False
    is_up: bool = True
    is_leaving: bool = False
    is_to_be_looked_at: bool = True
    stop_reason: str | None = None
    last_was_archive: bool = False
    rests: int = 0
    rests_until: float = 0.0
    exchange_until: float = 0.0
    """By when the drive is to be at its job."""
    _leaving_since: float = 0.0
    _still: tuple[str, str, int] = ("", "", 0)
    _still_since: float = 0.0

    def view(self, now: float, record: Drive | None) -> DriveView:
        """Return what planners are told."""
        return DriveView(
            index=self.bay.index,
            is_up=(record is None or record.state is DriveState.UP) and self.stop_reason is None,
            is_busy=self.session is not None or now < self.rests_until or self.is_to_be_looked_at,
            barcode=self.bay.barcode,
            job=self.job,
            idle_since=self.idle_since,
            held_since=self.held_since,
            last_was_archive=self.last_was_archive,
            is_leaving=self.is_leaving
            and (self.session is None or now - self._leaving_since < LEAVING_SECONDS),
        )

    def leave(self, now: float) -> None:
        """Note that an operator put the drive down."""
        self.is_leaving = True
        self._leaving_since = self._still_since = now

    def begin(self, job: Job, now: float) -> None:
        """Note a job that begins. A new turn begins with another cartridge, and for a session that had to give way."""
        if job.barcode != self.bay.barcode or self.gives_way:
            self.held_since = now
        self.job = job
        self.gives_way = False
        self.exchange_until = now + EXCHANGE_SECONDS
        if isinstance(job, DoArchive):
            self.in_hand = {(copy.bundle_id, copy.pool) for copy in job.verify}
        self.bay.job = KINDS[type(job)]
        self.bay.has_lost_job = False
        self.bay.last_end = None

    def fail(self, barcode: str) -> None:
        """Note that the session came to nothing: what it had is others' now, and only its cartridge is still to be put away."""
        self.in_hand.clear()
        self.job = DoUnload(drive=self.bay.index, barcode=barcode)

    def has_overrun_exchange(self, now: float) -> bool:
        """Whether the job should have begun by now, and something hangs: that which was in the drive, or what a recall reads from."""
        if self.job is None or now < self.exchange_until:
            return False
        if isinstance(self.job, DoRecall):
            return self.bay.volume is None or self.bay.volume.barcode != self.job.barcode
        return self.bay.barcode not in (None, self.job.barcode)

    def lose_job(self) -> None:
        """Leave what was to be done to others: this drive has to come to an end with the cartridge that hangs in it."""
        assert self.job is not None
        self.fail(self.bay.barcode or self.job.barcode)
        self.bay.has_lost_job = True

    def end(self, now: float) -> None:
        """Note the end of a session."""
        self.last_was_archive = isinstance(self.job, DoArchive)
        self.idle_since = now
        self.in_hand.clear()
        self.exchange_until = 0.0
        self.session = None
        self.job = None

    def rest(self, now: float) -> None:
        """Give no work for a while that grows with each failure in a row."""
        self.rests += 1
        pause = REST_FIRST_SECONDS * 2.0 ** min(20, self.rests - 1)
        self.rests_until = now + min(REST_MOST_SECONDS, pause)

    def bound_waits(self, now: float) -> None:
        """Wait no longer than if nobody had set the clock back."""
        self.rests_until = min(self.rests_until, now + REST_MOST_SECONDS)
        self.exchange_until = min(self.exchange_until, now + EXCHANGE_SECONDS)

    def is_over(self, has_worked: bool) -> bool:
        """Whether the session is to end at this boundary."""
        return self.is_leaving or (self.gives_way and has_worked)

    def stands_still(self, now: float) -> bool:
        """Whether a transfer has made no progress since ``PATIENCE_SECONDS``, as far as these questions can tell."""
        activity = self.bay.activity
        seen = activity.step, activity.detail, activity.done_bytes
        if seen != self._still or activity.step not in TRANSFERS:
            self._still, self._still_since = seen, now
        return now - self._still_since >= PATIENCE_SECONDS
