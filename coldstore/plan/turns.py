"""
Whose turn it is: how archives and recalls share the drives, and which drives give way at the next boundary of their work.

With two drives or more, archives and recalls get them in the proportion of ``archive_share``, one each at least; what one of
them has no work for, the other takes. Recalls that have no drive get one at the next boundary, everything else waits until a
session has had its drive for ``max_hold_seconds``. An expedited recall goes before all that, unless archives were kept
waiting for ``max_hold_seconds``: then one of them is owed a drive, for as long. So a single drive alternates: recalls first,
and an hour for each while both have work. A boundary is the end of a bundle: nothing is interrupted in the middle of one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from coldstore.model.objects import Tier
from coldstore.plan.jobs import DoArchive, DoRecall, DoUnload, DriveView, Job, MountPolicy, TierPolicy
from coldstore.plan.recall import TIER_RANK, Batch

Urgency = tuple[int, float, int, str]
"""Rank (0: first), deadline (unix seconds), and what breaks ties: the smaller the sooner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How many drives archives and recalls can count on while both have work."""

    archives: int
    recalls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unserved:
    """
    Work that only waits for a drive: batches, most urgent first; for each archive that could begin the cartridge that it needs,
    None when any of several would do; and how many drives more could help pools that have one.
    """

    recalls: tuple[Batch, ...]
    archives: tuple[str | None, ...]
    helpers: int


def shares(usable: int, archive_share: float) -> Share:
    """Divide so many drives; one alone is for both in turn."""
    if usable < 2:
        return Share(archives=1, recalls=1)
    archives = min(usable - 1, max(1, int(usable * archive_share)))
    return Share(archives=archives, recalls=usable - archives)


def is_turn_of_archives(*, archives: int, recalls: int, share: Share) -> bool:
    """Whether the next drive is the archives', of which so many have one; both wait for it."""
    return archives * share.recalls < recalls * share.archives


def is_expedited(batch: Batch) -> bool:
    """Whether a batch interrupts other work."""
    return batch.tier is Tier.EXPEDITED


def urgency(batch: Batch, now: float, tiers: Mapping[Tier, TierPolicy]) -> Urgency:
    """
    Return what sorts batches: by tier, then by deadline.

    For each time that its oldest request has waited for the limit of its tier, a batch is ranked one tier faster: whatever comes
    after it, it is served some day.
    """
    limit_seconds = tiers[batch.tier].limit_seconds
    rank = max(0, TIER_RANK[batch.tier] - _limits_passed(batch, now, limit_seconds))
    return rank, batch.oldest_at + limit_seconds, -len(batch.items), batch.barcode


def rises_at(batch: Batch, now: float, tiers: Mapping[Tier, TierPolicy]) -> float | None:
    """Return when waiting alone will rank a batch one tier faster; None: it is of the fastest by now."""
    limit_seconds = tiers[batch.tier].limit_seconds
    passed = _limits_passed(batch, now, limit_seconds)
    return batch.oldest_at + (passed + 1) * limit_seconds if passed < TIER_RANK[batch.tier] else None


def _limits_passed(batch: Batch, now: float, limit_seconds: float) -> int:
    return int(max(0.0, now - batch.oldest_at) / limit_seconds)


def engaged(drives: Sequence[DriveView], now: float, policy: MountPolicy) -> frozenset[str]:
    """
    Return cartridges of which a recall had better read another copy: those that are on their way out of a drive, which can take
    as long as an unmount may; and while a drive is idle, those that are written, or recalled for long already. When none is idle,
    no mount is quicker than waiting.
    """
    found = {drive.barcode for drive in drives if drive.barcode is not None and _is_on_its_way_out(drive)}
    if any(drive.is_up and not drive.is_busy for drive in drives):
        for drive in drives:
            has_had_its_time = now - drive.held_since >= policy.max_hold_seconds
            if isinstance(drive.job, DoArchive) or (isinstance(drive.job, DoRecall) and has_had_its_time):
                found.add(drive.job.barcode)
    return frozenset(found)


def _is_on_its_way_out(drive: DriveView) -> bool:
    """Whether the cartridge in a drive is being put away: for itself, for that of the present job, or by order."""
    is_for_another = drive.job is not None and drive.job.barcode != drive.barcode
    return drive.is_leaving or is_for_another or isinstance(drive.job, DoUnload)


def plan_give_way(
    now: float, drives: Sequence[DriveView], started: Iterable[Job], unserved: Unserved, policy: MountPolicy
) -> tuple[frozenset[int], float | None]:
    """
    Return the drives whose session is to end at its next boundary, and when waiting alone can add one.

    :param started: jobs that begin now in drives that were free
    """
    claims = _Claims(now, drives, started, policy)
    claims.settle_expedited([batch for batch in unserved.recalls if is_expedited(batch)])
    claims.settle_recalls([batch for batch in unserved.recalls if not is_expedited(batch)])
    claims.settle_archives(unserved.archives, helpers=unserved.helpers)
    is_contested = bool(unserved.recalls or unserved.archives or unserved.helpers)
    return claims.giving | claims.leaving, claims.next_at() if is_contested else None


class _Claims:
    """What waiting work may claim from sessions that are under way; ``giving`` are the drives that it got so far."""

    def __init__(
        self, now: float, drives: Sequence[DriveView], started: Iterable[Job], policy: MountPolicy
    ) -> None:
        self._now = now
        self._policy = policy
        working = [drive for drive in drives if isinstance(drive.job, DoArchive | DoRecall)]
        up = [drive for drive in working if drive.is_up]
        begun = list(started)
        usable = sum(drive.is_up for drive in drives)
        self._is_alone = usable < 2
        self._share = shares(usable, policy.archive_share)
        self._by_barcode = {drive.job.barcode: drive for drive in up if drive.job is not None}
        # Who has been there longest goes first.
        self._archiving = sorted(
            (drive for drive in up if isinstance(drive.job, DoArchive)),
            key=lambda drive: (drive.held_since, drive.index),
        )
        self._recalling = sorted(
            (drive for drive in up if isinstance(drive.job, DoRecall)),
            key=lambda drive: (drive.held_since, drive.index),
        )
        self._archives = len(self._archiving) + sum(isinstance(job, DoArchive) for job in begun)
        self._recalls = len(self._recalling) + sum(isinstance(job, DoRecall) for job in begun)
        self.leaving = frozenset(drive.index for drive in working if not drive.is_up)
        self.giving: frozenset[int] = frozenset()

    def next_at(self) -> float | None:
        """When the next session under way will have had its time."""
        times = [
            drive.held_since + self._policy.max_hold_seconds
            for drive in self._by_barcode.values()
            if not self._has_had_its_time(drive)
        ]
        return min(times, default=None)

    def settle_expedited(self, batches: Sequence[Batch]) -> None:
        """Each gets a drive at once: the one with its cartridge, else an archive's, else that of a slower recall."""
        slower = [drive for drive in reversed(self._by_urgency()) if not is_expedited(_batch_of(drive))]
        for batch in batches:
            holder = self._by_barcode.get(batch.barcode)
            if holder is not None:
                if not self._is_owed(holder):
                    self._give(holder)
                continue
            victims = [drive for drive in (*self._archiving, *slower) if self._may_give(drive)]
            if victims:
                self._count(victims[0], as_recall=True)

    def settle_recalls(self, batches: Sequence[Batch]) -> None:
        """Those of slower tiers get one drive at once when archives have them all, and their share in time."""
        needy: list[Batch] = []
        for batch in batches:
            holder = self._by_barcode.get(batch.barcode)
            if holder is None:
                needy.append(batch)
            elif holder in self._archiving and self._has_had_its_time(holder):
                self._give(holder)
        for drive in self._archiving:
            if not needy:
                return
            is_first = self._recalls == 0 and not self._is_alone
            is_due = self._has_had_its_time(drive) and (
                self._is_alone or self._archives > self._share.archives
            )
            if self._may_give(drive) and (is_first or is_due):
                self._count(drive, as_recall=True)
                needy.pop(0)
        for drive in reversed(self._by_urgency()):
            if needy and self._may_give(drive) and self._has_had_its_time(drive):
                tiers = self._policy.tiers
                if urgency(needy[0], self._now, tiers) < urgency(_batch_of(drive), self._now, tiers):
                    self._give(drive)
                    needy.pop(0)

    def settle_archives(self, needs: Sequence[str | None], *, helpers: int) -> None:
        """They get their share in time, from recalls; then one pool from another."""
        waiting = 0
        for barcode in needs:
            holder = None if barcode is None else self._by_barcode.get(barcode)
            if holder is None:
                waiting += 1
            elif self._has_had_its_time(holder):
                self._give(holder)
        for drive in self._recalling:
            is_due = self._is_alone or self._archives < self._share.archives
            if not waiting + helpers or not is_due:
                break
            if self._may_give(drive) and self._has_had_its_time(drive):
                self._count(drive, as_recall=False)
                waiting, helpers = (waiting - 1, helpers) if waiting else (0, helpers - 1)
        for drive in self._archiving:
            if waiting and self._may_give(drive) and self._has_had_its_time(drive):
                self._give(drive)
                waiting -= 1

    def _by_urgency(self) -> list[DriveView]:
        return sorted(
            self._recalling,
            key=lambda drive: urgency(_batch_of(drive), self._now, self._policy.tiers),
        )

    def _has_had_its_time(self, drive: DriveView) -> bool:
        return self._now - drive.held_since >= self._policy.max_hold_seconds

    def _is_owed(self, drive: DriveView) -> bool:
        return isinstance(drive.job, DoArchive) and drive.job.is_owed and not self._has_had_its_time(drive)

    def _may_give(self, drive: DriveView) -> bool:
        return drive.index not in self.giving and not self._is_owed(drive)

    def _give(self, drive: DriveView) -> None:
        self.giving |= {drive.index}

    def _count(self, drive: DriveView, *, as_recall: bool) -> None:
        """Have a drive give way to the other kind of work, or to its own."""
        self._give(drive)
        if isinstance(drive.job, DoArchive):
            self._archives -= 1
        else:
            self._recalls -= 1
        if as_recall:
            self._recalls += 1
        else:
            self._archives += 1


def _batch_of(drive: DriveView) -> Batch:
    assert isinstance(drive.job, DoRecall), drive
    return drive.job.batch
