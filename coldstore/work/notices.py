"""
What the dispatcher tells an operator: one alert for each thing that is wrong, with what to do, closed when it is over.

Methods named after a state are given all of it in every round and keep the alerts in step with it; the others tell of an event.
"""

from collections.abc import Collection, Mapping, Sequence

from twisted.internet.interfaces import IReactorTime

from coldstore.interfaces.metadata import IMetadataStore
from coldstore.model.cartridges import Cartridge, CartridgeState, Drive, DriveState
from coldstore.model.errors import NoSuchBucket, NoSuchKey, NoSuchVersion
from coldstore.model.events import Severity
from coldstore.model.hosts import Host
from coldstore.model.objects import NAMES_VERSION
from coldstore.plan.homes import TAKES_BUNDLES
from coldstore.plan.jobs import DriveView
from coldstore.plan.mount import DrivePlan, stuck_in
from coldstore.plan.recall import RecallPlan, Wanted
from coldstore.plan.takeover import other_host
from coldstore.work.alerts import Alerts
from coldstore.work.bay import APPLIANCE
from coldstore.work.queues import ArchiveWork
from coldstore.work.renewing import RenewalWork
from coldstore.work.trouble import TapeTrouble

FORGIVEN_PER_ROUND = 100
ALERTS_OF_BUNDLES = ("staged-bytes-damaged", "copies-differ", "verification-failed")
"""They are about bundles, and over when the bundle has all its copies."""


class Notices:
    """Keeps the alerts about library, drives, cartridges and what waits for them."""

    def __init__(self, *, store: IMetadataStore, clock: IReactorTime, host: Host) -> None:
        """:param host: this machine"""
        self._store = store
        self._host = host
        self._alerts = Alerts(store=store, clock=clock)
        self._works_since: dict[str, set[str]] = {}

    async def look(self) -> None:
        """Read what is open: an operator or an earlier run may have changed it."""
        await self._alerts.look()

    @property
    def is_anything_open(self) -> bool:
        """Whether any alert is open."""
        return self._alerts.is_any_open

    # ── events ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def library_fails(self, fault: Exception) -> None:
        """The library cannot be used."""
        sentence = f"the library cannot be used: {fault}"
        await self._alerts.open("library", "library", Severity.CRITICAL, sentence)

    async def library_works(self) -> None:
        """It can."""
        await self._alerts.close("library", "library")

    def does_library_fail(self) -> bool:
        """Whether the library could not be used the last time."""
        return bool(self._alerts.subjects("library"))

    async def drive_is_down(self, index: int, reason: str) -> None:
        """We have put a drive down."""
        sentence = _down_sentence(index, reason)
        await self._alerts.open("drive-down", _drive(index), Severity.CRITICAL, sentence)

    async def cartridge_is_suspect(self, barcode: str, reason: str) -> None:
        """A cartridge is only read from now on."""
        sentence = _suspect_sentence(barcode, reason)
        await self._alerts.open("cartridge-suspect", f"cartridge {barcode}", Severity.WARNING, sentence)

    async def session_failed(self, drive: int, barcode: str, trouble: TapeTrouble) -> None:
        """A drive failed with a cartridge."""
        subject = _pair(drive, barcode)
        self._works_since.pop(subject, None)
        await self._alerts.open("tape-failure", subject, Severity.WARNING, _failure_sentence(trouble))

    async def session_is_explained(self, drive: int, barcode: str) -> None:
        """Another alert says why they failed."""
        await self._alerts.close("tape-failure", _pair(drive, barcode))

    async def session_is_a_mistake(self, drive: int, barcode: str) -> None:
        """A bug of ours ended a session."""
        pair = _pair(drive, barcode)
        sentence = f"a mistake of ours ended the work of {pair}; it is tried again. The log says more"
        await self._alerts.open("tape-failure", pair, Severity.CRITICAL, sentence)

    async def session_worked(self, index: int, barcode: str) -> None:
        """Close the alerts about failures of which drive and cartridge have both worked since, together or apart."""
        for subject in self._alerts.subjects("tape-failure"):
            pair = set(subject.split(" with "))
            works = self._works_since.setdefault(subject, set())
            works |= pair & {_drive(index), barcode}
            if works == pair:
                await self._alerts.close("tape-failure", subject)
                # Another session that ended meanwhile may have been here before.
                self._works_since.pop(subject, None)

    async def restore_failed(self, name: str, sentence: str) -> None:
        """An object cannot be restored."""
        await self._alerts.open("restore-failed", f"object {name}", Severity.CRITICAL, sentence)

    async def recalls_wait_for_space(self, full: Exception) -> None:
        """The disk is too full for what is to be recalled."""
        sentence = f"recalls wait until the disk has room: {full}"
        await self._alerts.open("waiting-for-space", "staging", Severity.WARNING, sentence)

    async def recalls_have_space(self) -> None:
        """It is not."""
        await self._alerts.close("waiting-for-space", "staging")

    # ── states ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def records(self, records: Mapping[int, Drive], cartridges: Mapping[str, Cartridge]) -> None:
        """Tell what the records of drives and cartridges say, however they came to say so."""
        told = {f"drive {drive.index}" for drive in records.values() if drive.state is DriveState.DOWN}
        told |= {
            record.barcode
            for record in cartridges.values()
            if not record.is_present or record.state not in TAKES_BUNDLES | {CartridgeState.FULL}
        }
        for subject in self._alerts.subjects("tape-failure"):
            if not told.isdisjoint(subject.split(" with ")):
                # Another alert says it, or there is nothing left that could fail again.
                await self._alerts.close("tape-failure", subject)
        await self._alerts.keep_only(
            "drive-down",
            {
                f"drive {drive.index}": _record_sentence(drive, self._host)
                for drive in records.values()
                if drive.state is DriveState.DOWN and drive.changed_by == APPLIANCE
            },
            Severity.CRITICAL,
        )
        await self._alerts.keep_only(
            "cartridge-suspect",
            {
                f"cartridge {record.barcode}": _suspect_sentence(record.barcode, record.reason)
                for record in cartridges.values()
                if record.state is CartridgeState.SUSPECT
            },
            Severity.WARNING,
        )
        await self._alerts.keep_only(
            "cartridge-unusable",
            {
                f"cartridge {record.barcode}": _unusable_sentence(record)
                for record in cartridges.values()
                if record.is_present and _was_given_back(record)
            },
            Severity.WARNING,
        )
        for subject in self._alerts.subjects("restore-failed")[:FORGIVEN_PER_ROUND]:
            if await self._is_restore_forgotten(subject):
                await self._alerts.close("restore-failed", subject)

    async def _is_restore_forgotten(self, subject: str) -> bool:
        """Whether the object of a failed restore was restored since, or is gone."""
        bucket, _, rest = subject.removeprefix("object ").partition("/")
        key, _, version_id = rest.rpartition(NAMES_VERSION)
        try:
            if key:
                try:
                    return (await self._store.version_content(bucket, key.encode(), version_id))[0].on_disk
                except NoSuchVersion:
                    pass  # a key may read like that itself
            version = await self._store.current_version(bucket, rest.encode())
        except (NoSuchBucket, NoSuchKey):
            return True
        return version.on_disk

    async def archive(
        self,
        plan: DrivePlan,
        archive: ArchiveWork,
        drives: Sequence[DriveView],
    ) -> None:
        """What cannot be written or verified, and why."""
        stuck = stuck_in(drives)
        where = ", ".join(f"{barcode} in drive {drive}" for barcode, drive in sorted(stuck.items()))
        await self._alerts.keep_only(
            "pool-stuck",
            {
                f"pool {pool}": f"what waits for pool {pool} has room only on cartridges in drives that are down ({where}): "
                "put a cartridge back into a slot, repair its drive and `coldstore drives up NUMBER`, or admit another one "
                "with `coldstore cartridges admit BARCODE`"
                for pool in plan.stuck_pools
            },
            Severity.CRITICAL,
        )
        await self._alerts.keep_only(
            "no-cartridge",
            {
                f"pool {pool}": f"pool {pool} has no cartridge with room: "
                "admit one with `coldstore cartridges admit BARCODE`"
                for pool in plan.starved_pools
            },
            Severity.CRITICAL,
        )
        await self._alerts.keep_only(
            "bundle-too-large",
            {
                f"bundle {copy.bundle_id}": f"bundle {copy.bundle_id} of {copy.size_bytes} bytes is larger than any cartridge "
                f"that pool {copy.pool} can have: admit a larger one with `coldstore cartridges admit BARCODE`"
                for copy in plan.too_large
            },
            Severity.CRITICAL,
        )
        await self._alerts.keep_only(
            "verification-waits",
            {
                f"cartridge {barcode}": f"copies wait to be verified on a cartridge that is not in the library: insert {barcode}"
                for barcode in archive.offline
            }
            | {
                f"cartridge {barcode}": f"copies wait to be verified on {barcode}, which is in drive {stuck[barcode]}, which is "
                f"down: put it back into a slot, or repair the drive and `coldstore drives up {stuck[barcode]}`"
                for barcode in {copy.barcode for copy in archive.to_verify} & set(stuck)
            },
            Severity.WARNING,
        )
        if not archive.is_complete:
            return
        for kind in ALERTS_OF_BUNDLES:
            for subject in self._alerts.subjects(kind):
                if subject.removeprefix("bundle ") not in archive.unfinished:
                    await self._alerts.close(kind, subject)

    async def renewal(self, renewal: RenewalWork) -> bool:
        """What was lost and cannot be made anew, or not now; return whether that waits for cartridges."""
        await self._alerts.keep_only(
            "copy-not-renewed",
            {
                f"bundle {bundle_id}": f"a copy of bundle {bundle_id} was lost and cannot be made anew, for no other one can be "
                "read: `coldstore objects` tells which objects need to be uploaded again if you have them elsewhere"
                for bundle_id in renewal.hopeless
            },
            Severity.CRITICAL,
        )
        await self._alerts.keep_only(
            "renewal-waits",
            {
                f"cartridge {barcode}": f"{barcode} has good copies of bundles of which others were lost, and cannot be reached: "
                "put it into a slot, so that those can be made anew"
                for barcode in renewal.awaited
            },
            Severity.WARNING,
        )
        return bool(renewal.awaited)

    async def recall(self, recall: RecallPlan, usable: Collection[int], *, do_archives_wait: bool) -> None:
        """What waits although there is no drive for it."""
        waiting = {"restores": bool(recall.batches), "archives": do_archives_wait}
        await self._alerts.keep_only(
            "no-drive",
            {
                what: f"{what} wait, for every drive is down: `coldstore drives` says why"
                for what, do_wait in waiting.items()
                if do_wait and not usable
            },
            Severity.CRITICAL,
        )

    async def unreachable(
        self, plan: RecallPlan, cartridges: Mapping[str, Cartridge], stuck: Mapping[str, int]
    ) -> bool:
        """Restores that wait for cartridges out of reach; return whether a cartridge is missing from the library."""
        awaited = {
            source.barcode for item in plan.unreachable if isinstance(item, Wanted) for source in item.sources
        }
        missing = {
            barcode for barcode in awaited if barcode not in cartridges or not cartridges[barcode].is_present
        }
        await self._alerts.keep_only(
            "cartridge-stuck",
            {
                f"cartridge {barcode}": f"restores wait for {barcode}, which is in drive {stuck[barcode]}, which is down: "
                f"take it out and put it into a slot, or repair the drive and `coldstore drives up {stuck[barcode]}`"
                for barcode in awaited & set(stuck)
            },
            Severity.CRITICAL,
        )
        await self._alerts.keep_only(
            "cartridge-offline",
            {
                f"cartridge {barcode}": f"restores wait for a cartridge that is not in the library: insert {barcode} "
                "(it is noticed within minutes, or at once by `coldstore inventory`)"
                for barcode in missing
            },
            Severity.WARNING,
        )
        return bool(missing)


def _drive(index: int) -> str:
    return f"drive {index}"


def _pair(drive: int, barcode: str) -> str:
    return f"{_drive(drive)} with {barcode}"


def _down_sentence(index: int, reason: str) -> str:
    return f"drive {index} is down: {reason.rstrip('.')}. When it is in order again: `coldstore drives up {index}`"


def _record_sentence(drive: Drive, host: Host) -> str:
    other = other_host(drive, host)
    if other is None:
        return _down_sentence(drive.index, drive.reason)
    return (
        f"drive {drive.index} is left untouched: {drive.reason.rstrip('.')}. When {other.name} is off, and not merely out of reach: "
        f"`coldstore drives up {drive.index}`"
    )


def _suspect_sentence(barcode: str, reason: str) -> str:
    return (
        f"{barcode} is only read from now on: {reason.rstrip('.')}. If that was not its fault: "
        f"`coldstore cartridges trust {barcode}`; if it is not even to be read: `coldstore cartridges condemn {barcode}`"
    )


def _was_given_back(record: Cartridge) -> bool:
    """Whether a cartridge that was admitted turned out to be none that we may or can use."""
    is_withdrawn = record.state is CartridgeState.UNADMITTED and record.admitted_at is not None
    return record.state is CartridgeState.FOREIGN or (is_withdrawn and record.changed_by == APPLIANCE)


def _unusable_sentence(record: Cartridge) -> str:
    barcode, reason = record.barcode, record.reason.rstrip(".")
    if record.state is CartridgeState.FOREIGN:
        return (
            f"{barcode} is not used: it {reason}, and was not touched. Take it out; if it may be overwritten, erase it with "
            f"`mkltfs -w` (a plain tape: `mt rewind` and `mt weof`), then `coldstore cartridges withdraw {barcode}` and "
            f"`coldstore cartridges admit {barcode}`"
        )
    return f"{barcode} is not used: {reason}. When that is mended: `coldstore cartridges admit {barcode}`"


def _failure_sentence(trouble: TapeTrouble) -> str:
    then = "It is tried again" if trouble.is_robot else "The work goes on with another drive or cartridge"
    return f"{trouble.sentence.rstrip('.')}. {then}; nothing needs to be done unless this repeats"
