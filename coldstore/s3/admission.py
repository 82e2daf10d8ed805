"""
Who may send bytes now: decided before the client is asked for them, and held until they have a record.

Three questions, in this order. Is it fair: does the user leave room for others? Does it fit into the quotas of the user
and the bucket, with everything counted that is arriving? Has the disk room? What waiting helps is answered by ``SlowDown``
(503, which SDKs repeat), as the disk is drained to tape all the time; what no waiting helps, because it is held by objects
that stay on the disk, by ``QuotaExceeded`` (403, which they do not), the code that other S3 servers with quotas use.
"""

from collections import Counter
from collections.abc import Callable
from types import TracebackType

from coldstore.interfaces.metadata import IMetadataStore, StagingUse
from coldstore.interfaces.staging import IIncoming, IStaging
from coldstore.model.errors import StagingFull
from coldstore.model.objects import Bucket, StorageClass
from coldstore.model.precedence import Precedence
from coldstore.model.quotas import UNLIMITED, QuotaKind
from coldstore.plan.classes import ClassRules, evictable_classes
from coldstore.plan.quota import DefaultQuotas, Fit, Held, fit, is_fair
from coldstore.s3.call import Caller
from coldstore.s3.errors import S3Error
from coldstore.s3.quotas import Holder, exceeded, holders

RETRY_AFTER_SECONDS = 30

_Key = tuple[str | None, str | None]
"""Of a holder of quotas."""


class Admitted:
    """
    Bytes that may come. Counts against quotas until it is left, which must not be before they have their record.

    ``size_bytes`` 0 is let pass without being counted.
    """

    def __init__(
        self,
        admission: "Admission",
        *,
        of: tuple[Holder, ...],
        size_bytes: int,
        storage_class: StorageClass,
        precedence: Precedence,
    ) -> None:
        self._admission = admission
        self._storage_class = storage_class
        self._precedence = precedence
        self.size_bytes = size_bytes
        self.of = of

    def receive(self, algorithms: frozenset[str]) -> IIncoming:
        """
        Have the disk take the bytes.

        :raise StagingFull: it has no room; whoever can make some was told
        """
        return self._admission.receive(
            self.size_bytes,
            algorithms,
            storage_class=self._storage_class,
            precedence=self._precedence,
        )

    def __enter__(self) -> "Admitted":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._admission.end(self, self._storage_class)


class Admission:
    """Knows what is arriving, for whom. ``room_wanted`` is told how many bytes somebody waits for."""

    def __init__(
        self,
        *,
        store: IMetadataStore,
        staging: IStaging,
        rules: ClassRules,
        defaults: DefaultQuotas,
        room_wanted: Callable[[int], None],
    ) -> None:
        self._store = store
        self._staging = staging
        self._passing = evictable_classes(rules)
        self._defaults = defaults
        self._room_wanted = room_wanted
        self._arriving: Counter[tuple[_Key, bool]] = Counter()
        """Bytes by the quota they count against, and whether they leave the disk by themselves."""

    async def admit(
        self,
        *,
        caller: Caller,
        bucket: Bucket,
        size_bytes: int,
        storage_class: StorageClass,
        precedence: Precedence = Precedence.NEW_UPLOAD,
    ) -> Admitted:
        """
        Let a number of bytes come.

        :raise S3Error: SlowDown, QuotaExceeded
        """
        of = holders(caller, bucket, self._defaults)
        if size_bytes:
            self._check_fair(of[0], size_bytes, precedence)
        admitted = Admitted(
            self, of=of, size_bytes=size_bytes, storage_class=storage_class, precedence=precedence
        )
        await self._count_in(admitted, storage_class)
        return admitted

    async def admit_restore(
        self, *, caller: Caller, bucket: Bucket, size_bytes: int, storage_class: StorageClass
    ) -> Admitted:
        """
        Let a number of bytes be promised to come back from tape; to be left once the promise is recorded.

        :raise S3Error: SlowDown, QuotaExceeded
        """
        admitted = Admitted(
            self,
            of=holders(caller, bucket, self._defaults),
            size_bytes=size_bytes,
            storage_class=storage_class,
            precedence=Precedence.RECALL,
        )
        await self._count_in(admitted, storage_class)
        return admitted

    async def _count_in(self, admitted: Admitted, storage_class: StorageClass) -> None:
        if not admitted.size_bytes:
            return
        # What arrives is read before, and counted in before, the record is read: whatever ends meanwhile is then
        # counted twice, and never not at all; and of two that come together the later one sees the earlier.
        limits = [
            (holder, self._held_by(holder))
            for holder in admitted.of
            if holder.quota(QuotaKind.STAGED) < UNLIMITED
        ]
        self._count(admitted, storage_class, admitted.size_bytes)
        try:
            for holder, held in limits:
                await self._check_quota(holder, held, admitted.size_bytes)
        except BaseException:
            self.end(admitted, storage_class)
            raise

    def receive(
        self,
        size_bytes: int,
        algorithms: frozenset[str],
        *,
        storage_class: StorageClass,
        precedence: Precedence,
    ) -> IIncoming:
        """See ``Admitted.receive``."""
        try:
            return self._staging.receive(
                size_bytes=size_bytes,
                algorithms=algorithms,
                precedence=precedence,
                is_kept=storage_class not in self._passing,
            )
        except StagingFull:
            self._room_wanted(size_bytes)
            raise

    def end(self, admitted: Admitted, storage_class: StorageClass) -> None:
        """What was admitted has a record now, or will not come."""
        self._count(admitted, storage_class, -admitted.size_bytes)

    def _count(self, admitted: Admitted, storage_class: StorageClass, change_bytes: int) -> None:
        is_passing = storage_class in self._passing
        for holder in admitted.of:
            counted = holder.key, is_passing
            self._arriving[counted] += change_bytes
            if not self._arriving[counted]:
                del self._arriving[counted]

    def _held_by(self, holder: Holder) -> Held:
        """Return what is arriving that counts against a quota."""
        return Held(
            lasting_bytes=self._arriving[holder.key, False], passing_bytes=self._arriving[holder.key, True]
        )

    def _held(self, storage_class: StorageClass, size_bytes: int) -> Held:
        if storage_class in self._passing:
            return Held(passing_bytes=size_bytes)
        return Held(lasting_bytes=size_bytes)

    def _check_fair(self, of_user: Holder, size_bytes: int, precedence: Precedence) -> None:
        arriving_bytes = self._arriving[of_user.key, False] + self._arriving[of_user.key, True]
        room_bytes = self._staging.room_bytes(precedence)
        if not is_fair(wanted=size_bytes, held=arriving_bytes, room=room_bytes):
            self._room_wanted(size_bytes)
            raise _slow_down(
                f"The staging disk has room for {room_bytes} bytes more, and {arriving_bytes} are arriving from "
                f"{of_user.whose} already. Please try again when some of these are through."
            )

    async def _check_quota(self, holder: Holder, arriving: Held, size_bytes: int) -> None:
        quota_bytes = holder.quota(QuotaKind.STAGED)
        used = await self._store.staging_use(owner_id=holder.owner_id, bucket=holder.bucket)
        held = sum((self._of(use) for use in used), arriving)
        match fit(quota_bytes, held=held, wanted_bytes=size_bytes):
            case Fit.NEVER:
                raise exceeded(holder, QuotaKind.STAGED, used=held.lasting_bytes, wanted=size_bytes)
            case Fit.LATER:
                self._room_wanted(0)
                raise _slow_down(
                    f"The {holder.whose} may have {quota_bytes} bytes on the staging disk and has "
                    f"{held.lasting_bytes + held.passing_bytes}. Please try again when some of these are on tape."
                )
            case Fit.NOW:
                return

    def _of(self, use: StagingUse) -> Held:
        return self._held(use.storage_class, use.used_bytes + use.promised_bytes)


def _slow_down(message: str) -> S3Error:
    return S3Error("SlowDown", message, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})
