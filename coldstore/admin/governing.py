"""What an operator is shown of lifecycle rules: how far each action was carried out, and what waits, and for what."""

from twisted.internet.interfaces import IReactorTime
from twisted.web.http import Request

from coldstore.admin.asking import argument_of
from coldstore.admin.people import Answerer
from coldstore.admin.views import Row, moment
from coldstore.interfaces.control import IControl
from coldstore.interfaces.metadata import IMetadataStore
from coldstore.model.configurations import ConfigurationKind
from coldstore.model.due import BEGINNING, DueRange, Position, Reason, Subject
from coldstore.model.errors import NoSuchBucket
from coldstore.model.objects import Bucket
from coldstore.plan.dueranges import compiled, cutoff

PAGE = 1000
_SINCE = {
    Subject.CURRENT: "creation",
    Subject.NONCURRENT: "replacement",
    Subject.MARKERS: "deletion",
    Subject.UPLOADS: "beginning",
}


class Governing:
    """Answers questions on rules."""

    def __init__(
        self, *, store: IMetadataStore, control: IControl, clock: IReactorTime, day_seconds: float
    ) -> None:
        self._store = store
        self._control = control
        self._clock = clock
        self._day_seconds = day_seconds

    def answerers(self) -> tuple[tuple[str, str, Answerer], ...]:
        """Return what is answered, by method and path."""
        return (("GET", "/lifecycle", self._lifecycle),)

    async def _lifecycle(self, request: Request) -> object:
        buckets = await self._governed(argument_of(request, "bucket"))
        through = await self._through()
        now = self._clock.seconds()
        ranges: list[Row] = []
        for bucket in buckets:
            text = await self._store.bucket_configuration(
                bucket_uid=bucket.bucket_uid, kind=ConfigurationKind.LIFECYCLE
            )
            if text is not None:
                ranges += [
                    self._range_row(
                        bucket, due, through.get((bucket.bucket_uid, due.range_id), BEGINNING), now
                    )
                    for due in compiled(text, day_seconds=self._day_seconds).ranges
                ]
        names = {bucket.bucket_uid: bucket.name for bucket in buckets}
        standing = self._control.lifecycle()
        return {
            "behind_since": moment(standing.behind_since),
            "acted": dict(standing.acted),
            "ranges": ranges,
            "waiting": [
                {
                    "bucket": names[each.bucket_uid],
                    "reason": "something happened to it"
                    if each.reason is Reason.EVENT
                    else each.reason.value,
                    "versions": each.versions,
                    "first_looked_at": moment(max(0.0, each.first_at)),
                }
                for each in await self._store.reviews_waiting()
                if each.bucket_uid in names
            ],
        }

    async def _governed(self, name: str) -> list[Bucket]:
        """Return the buckets that have rules, or the one that is asked for."""
        if name:
            try:
                bucket = await self._store.bucket(name)
            except NoSuchBucket as missing:
                raise NoSuchBucket(
                    f"there is no bucket {name}; `coldstore bucket list` lists them"
                ) from missing
            return [bucket] if ConfigurationKind.LIFECYCLE in bucket.configurations else []
        found: list[Bucket] = []
        after = 0
        while page := await self._store.configured_buckets(
            kind=ConfigurationKind.LIFECYCLE, after_uid=after, limit=PAGE
        ):
            found += page
            after = page[-1].bucket_uid
        return found

    async def _through(self) -> dict[tuple[int, str], Position]:
        found: dict[tuple[int, str], Position] = {}
        after = (0, "")
        while page := await self._store.lifecycle_ranges(after=after, limit=PAGE):
            found |= {(each.bucket_uid, each.range_id): each.through for each in page}
            after = page[-1].bucket_uid, page[-1].range_id
        return found

    def _range_row(self, bucket: Bucket, due: DueRange, through: Position, now: float) -> Row:
        until = cutoff(due, now, day_seconds=self._day_seconds)
        state = "nothing due yet"
        if until is not None:
            state = "done" if through.at >= until else "behind" if through > BEGINNING else "not begun"
        after = (
            f"from {moment(due.date)}"
            if due.date is not None
            else f"{due.days} days after {_SINCE[due.subject]}"
        )
        return {
            "bucket": bucket.name,
            "rule": due.rule_id,
            "action": due.action,
            "of": due.subject.value,
            "when": after,
            "prefix": due.scope.prefix.decode(),
            "due_up_to": moment(until),
            "gone_through_up_to": moment(through.at) if through > BEGINNING else None,
            "state": state,
        }
