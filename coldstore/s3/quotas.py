"""
What may come into being: versions and restores, within the quotas of the user and the bucket on what they keep.

Asked before a body is asked for, and held until the record counts it. The appliance is the only writer of its record and asks here
for everything that it makes, so what is recorded and what is on its way never exceed a quota together; steps of the record compare
nothing. ``coldstore.s3.admission`` asks about the staging disk, where waiting may help; here nothing is answered that clients repeat.
"""

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import NamedTuple

from coldstore.interfaces.metadata import IMetadataStore
from coldstore.model.objects import Bucket, ObjectVersion
from coldstore.model.quotas import NO_QUOTAS, UNLIMITED, QuotaKind, Quotas, Use
from coldstore.plan.quota import DefaultQuotas, in_force
from coldstore.s3.call import Caller
from coldstore.s3.errors import S3Error

Replaced = Callable[[], Awaitable[ObjectVersion | None]]
"""Tells which version goes when the one that is asked for comes."""

_KINDS = (QuotaKind.KEPT, QuotaKind.OBJECTS, QuotaKind.RESTORES)
_WHAT = {
    QuotaKind.STAGED: "bytes on the staging disk",
    QuotaKind.KEPT: "bytes of objects, on disk or tape, all versions counted",
    QuotaKind.OBJECTS: "objects, all versions counted",
    QuotaKind.RESTORES: "bytes of restored copies and of restores under way",
}
_HELP = {
    QuotaKind.STAGED: "Delete objects",
    QuotaKind.KEPT: "Delete versions",
    QuotaKind.OBJECTS: "Delete versions",
    QuotaKind.RESTORES: "Ask again when some of these have expired",
}


class Holder(NamedTuple):
    """Who has quotas that apply to a request: its user, or its bucket; ``quotas`` are those in force."""

    noun: str
    name: str
    quotas: Quotas
    owner_id: str | None = None
    bucket: str | None = None

    @property
    def whose(self) -> str:
        """The holder as messages call him."""
        return f"{self.noun} {self.name}"

    @property
    def key(self) -> tuple[str | None, str | None]:
        """Under which what is on its way is counted."""
        return self.owner_id, self.bucket

    def quota(self, kind: QuotaKind) -> int:
        """Return the quota of a kind; ``UNLIMITED`` where there is none."""
        found = self.quotas.of(kind)
        return UNLIMITED if found is None else found


def holders(caller: Caller, bucket: Bucket, defaults: DefaultQuotas) -> tuple[Holder, Holder]:
    """Return the user and the bucket."""
    return (
        Holder("user", caller.name, in_force(caller.quotas, defaults.user), owner_id=caller.user_id),
        Holder("bucket", bucket.name, in_force(bucket.quotas, defaults.bucket), bucket=bucket.name),
    )


def exceeded(holder: Holder, kind: QuotaKind, *, used: int, wanted: int) -> S3Error:
    """Return the refusal of what no waiting helps: which quota, how much of it is used, and who can raise it."""
    quota = holder.quota(kind)
    return S3Error(
        "QuotaExceeded",
        f"The quota of {holder.whose} is {quota} {_WHAT[kind]}: {used} are used, and this request wants {wanted} more. "
        f"{_HELP[kind]}, or have an operator raise it: coldstore {holder.noun} quota {holder.name} --{kind.value}",
        details={
            "QuotaOf": holder.whose,
            "QuotaKind": kind.value,
            "Quota": str(quota),
            "Used": str(used),
            "Wanted": str(wanted),
        },
    )


class Reserved:
    """What is on its way. Counts against quotas until it is left, which must not be before the record counts it."""

    def __init__(self, leave: Callable[[], None]) -> None:
        self._leave = leave

    def __enter__(self) -> "Reserved":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()


_NOTHING = Reserved(lambda: None)


class Reservations:
    """Knows what is on its way, for whom."""

    def __init__(self, *, store: IMetadataStore, defaults: DefaultQuotas) -> None:
        self._store = store
        self._defaults = defaults
        self._has_defaults = defaults != DefaultQuotas()
        self._coming: dict[tuple[str | None, str | None], Use] = {}

    async def reserve(
        self, *, caller: Caller, bucket: Bucket, wanted: Use, replaced: Replaced | None = None
    ) -> Reserved:
        """
        Let something come into being.

        :param wanted: what of ``KEPT``, ``OBJECTS`` and ``RESTORES`` it will count
        :param replaced: asked when there is too much, as what is replaced will count no longer
        :raise S3Error: QuotaExceeded
        """
        if not self._has_defaults and caller.quotas == NO_QUOTAS and bucket.quotas == NO_QUOTAS:
            return _NOTHING
        bounded = [
            (holder, kinds)
            for holder in holders(caller, bucket, self._defaults)
            if (kinds := [kind for kind in _KINDS if wanted.of(kind) and holder.quota(kind) < UNLIMITED])
        ]
        # As in ``Admission``: whatever ends meanwhile is counted twice rather than not at all, and of two that come together the later
        # one sees the earlier.
        coming = [self._coming.get(holder.key, Use()) for holder, _ in bounded]
        self._count([holder for holder, _ in bounded], wanted)
        try:
            for (holder, kinds), before in zip(bounded, coming, strict=True):
                await self._check(holder, kinds, before, wanted, replaced)
        except BaseException:
            self._uncount([holder for holder, _ in bounded], wanted)
            raise
        return Reserved(lambda: self._uncount([holder for holder, _ in bounded], wanted))

    async def _check(
        self, holder: Holder, kinds: list[QuotaKind], coming: Use, wanted: Use, replaced: Replaced | None
    ) -> None:
        recorded = await self._store.quota_use(owner_id=holder.owner_id, bucket=holder.bucket)
        used = recorded.plus(coming)
        leaving: Use | None = None
        for kind in kinds:
            if used.of(kind) + wanted.of(kind) <= holder.quota(kind):
                continue
            if leaving is None:
                leaving = await _leaving(holder, replaced)
            if used.of(kind) - leaving.of(kind) + wanted.of(kind) > holder.quota(kind):
                raise exceeded(holder, kind, used=used.of(kind), wanted=wanted.of(kind))

    def _count(self, of: list[Holder], wanted: Use) -> None:
        for holder in of:
            self._coming[holder.key] = self._coming.get(holder.key, Use()).plus(wanted)

    def _uncount(self, of: list[Holder], wanted: Use) -> None:
        self._count(of, Use(*(-amount for amount in wanted)))
        for holder in of:
            if self._coming[holder.key] == Use():
                del self._coming[holder.key]


async def _leaving(holder: Holder, replaced: Replaced | None) -> Use:
    """Return what a holder has less of when something is replaced."""
    version = None if replaced is None else await replaced()
    if version is None or holder.owner_id not in (None, version.facts.owner_id):
        return Use()
    return Use(kept=version.facts.content_bytes, objects=1)
