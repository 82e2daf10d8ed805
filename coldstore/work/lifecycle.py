"""Carries out lifecycle rules: looks for what is due, decides, acts in batches, and notes how far it came."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from coldstore.interfaces.bell import IBell
from coldstore.interfaces.metadata import BATCH_MAX, Conflict, IMetadataStore
from coldstore.model.configurations import ConfigurationKind
from coldstore.model.due import (
    ABORT,
    ACTS_MAX,
    BEGINNING,
    LAST_UID,
    Act,
    ActKind,
    Candidate,
    DueRange,
    Outcome,
    Position,
    RangeProgress,
    Reason,
    Review,
    Subject,
    Waiting,
)
from coldstore.model.errors import NoSuchBucket, NoSuchUpload
from coldstore.model.objects import Bucket, ObjectVersion, Versioning
from coldstore.plan.classes import ClassRules
from coldstore.plan.deciding import Deciding, Later
from coldstore.plan.dueranges import CompiledRules, compiled, cutoff, is_done, taken_back
from coldstore.util.asynchronous import all_of

PAGE = 1_000
STEPS_TOGETHER = 50
"""Steps that are under way at once, so that they share commits."""
_WHY = {
    Outcome.NOT_ARCHIVED: Reason.ARCHIVE,
    Outcome.NOT_ON_DISK: Reason.DISK,
    Outcome.LOCKED: Reason.LOCK,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LifecyclePolicy:
    """
    When to look, and how much at once.

    :ivar interval_seconds: between two looks, when nothing is left to do
    :ivar turn_versions: versions that are looked at before others have their turn
    :ivar day_seconds: the length of a day
    """

    interval_seconds: float
    turn_versions: int
    day_seconds: float

    @property
    def rest_seconds(self) -> float:
        """How long to rest: of a day that is shortened for trials a part."""
        return max(0.25, min(self.interval_seconds, self.day_seconds / 96))

    @property
    def patience_seconds(self) -> float:
        """After how long to look again at what waits for something whose end nobody knows."""
        return self.day_seconds / 24


@dataclass(frozen=True, slots=True, kw_only=True)
class _Governed:
    """A bucket with rules."""

    bucket: Bucket
    revision: int
    rules: CompiledRules


class _RulesChanged(Exception):
    """A bucket does not have the rules any more by which it was acted: begin anew."""


class Lifecycle:
    """
    One round looks at what is to be reviewed, then goes through every range that is due, a page of each in turn.

    Without anything due it asks the store a fixed number of questions, however many objects there are.

    :ivar acted: how often each kind of act was carried out in this run
    :ivar behind_since: since when there is something due that was not done yet (unix seconds); None when all is done
    """

    log = Logger()

    def __init__(
        self,
        *,
        store: IMetadataStore,
        clock: IReactorTime,
        classes: ClassRules,
        policy: LifecyclePolicy,
        region: str,
        events: Collection[str],
        new_version_id: Callable[[], str],
        kept_until: Callable[[ObjectVersion, float], float | None],
        packer_bell: IBell,
        evictor_bell: IBell,
        janitor_bell: IBell,
        messages_bell: IBell,
    ) -> None:
        """
        :param events: those of ``plan.messages.LIFECYCLE_EVENTS`` that somebody wants to be told of
        :param new_version_id: makes ids of delete markers
        :param kept_until: as of ``Deciding``
        """
        self._store = store
        self._clock = clock
        self._classes = classes
        self._policy = policy
        self._region = region
        self._events = frozenset(events)
        self._new_version_id = new_version_id
        self._kept_until = kept_until
        self._packer_bell = packer_bell
        self._evictor_bell = evictor_bell
        self._janitor_bell = janitor_bell
        self._messages_bell = messages_bell
        self._compiled: dict[int, _Governed] = {}
        self._watched: dict[tuple[int, str], float] = {}
        """Up to which times ranges are watched, for all that is known."""
        self._last = (0, "")
        self.acted: Counter[str] = Counter()
        self.behind_since: float | None = None

    async def one_round(self) -> float:
        """Do a part of what is due; return how long to rest."""
        now = self._clock.seconds()
        before = self.acted.copy()
        try:
            has_more = await self._turn(now)
        except _RulesChanged:
            has_more = True
        finally:
            acted = self.acted - before
            self._ring(acted)
        # What was done may have made others due.
        has_more = has_more or bool(acted)
        if not has_more:
            self.behind_since = None
            return self._policy.rest_seconds
        if self.behind_since is None:
            self.behind_since = now
        return 0.0

    async def _turn(self, now: float) -> bool:
        """Do as much as belongs to a turn; tell whether there is more."""
        governed = await self._governed()
        recorded = await self._recorded(governed)
        left = self._policy.turn_versions
        looked_at, has_more = await self._review(governed, now)
        left -= looked_at
        await self._take_back(governed, recorded, now)
        for each, due, until in self._due(governed, recorded, now):
            if left <= 0:
                return True
            name = each.bucket.bucket_uid, due.range_id
            looked_at, is_last = await self._go_through(each, due, recorded[name], until, now)
            self._last = name
            left -= max(1, looked_at)
            has_more = has_more or not is_last
        return has_more

    async def _take_back(
        self,
        governed: Mapping[int, _Governed],
        recorded: dict[tuple[int, str], RangeProgress],
        now: float,
    ) -> None:
        """See that no range counts as gone through beyond what is due."""
        for each in governed.values():
            for due in each.rules.ranges:
                name = each.bucket.bucket_uid, due.range_id
                back = taken_back(recorded[name], cutoff(due, now, day_seconds=self._policy.day_seconds))
                if back is not None:
                    await self._store.advance_lifecycle_range(*name, through=back.through)
                    recorded[name] = back

    def _due(
        self,
        governed: Mapping[int, _Governed],
        recorded: Mapping[tuple[int, str], RangeProgress],
        now: float,
    ) -> list[tuple[_Governed, DueRange, float]]:
        """Return the ranges of which something may be due, up to which time; first those behind the one that had its turn last."""
        found = [
            (each, due, until)
            for each in governed.values()
            for due in each.rules.ranges
            if (until := cutoff(due, now, day_seconds=self._policy.day_seconds)) is not None
            and not is_done(recorded[each.bucket.bucket_uid, due.range_id], until)
        ]

        def turn(entry: tuple[_Governed, DueRange, float]) -> tuple[bool, tuple[int, str]]:
            name = entry[0].bucket.bucket_uid, entry[1].range_id
            return name <= self._last, name

        return sorted(found, key=turn)

    def _ring(self, acted: Counter[str]) -> None:
        if not acted:
            return
        self.log.info(
            "lifecycle: {acts}", acts=", ".join(f"{kind} {count}" for kind, count in sorted(acted.items()))
        )
        self._evictor_bell.ring()
        self._janitor_bell.ring()
        self._messages_bell.ring()

    # ── which rules there are ───────────────────────────────────────────────────────────────────────────────────────

    async def _governed(self) -> dict[int, _Governed]:
        """Return the buckets that have rules, by uid."""
        found: dict[int, _Governed] = {}
        after = 0
        while True:
            page = await self._store.configured_buckets(
                kind=ConfigurationKind.LIFECYCLE, after_uid=after, limit=PAGE
            )
            for bucket in page:
                rules = await self._rules_of(bucket)
                if rules is not None:
                    found[bucket.bucket_uid] = rules
            if len(page) < PAGE:
                break
            after = page[-1].bucket_uid
        self._compiled = found
        return found

    async def _rules_of(self, bucket: Bucket) -> _Governed | None:
        revision = bucket.configurations[ConfigurationKind.LIFECYCLE]
        known = self._compiled.get(bucket.bucket_uid)
        if known is not None and known.revision == revision:
            return (
                known
                if known.bucket == bucket
                else _Governed(bucket=bucket, revision=revision, rules=known.rules)
            )
        text = await self._store.bucket_configuration(
            bucket_uid=bucket.bucket_uid, kind=ConfigurationKind.LIFECYCLE
        )
        if text is None:
            return None
        rules = compiled(text, day_seconds=self._policy.day_seconds)
        return _Governed(bucket=bucket, revision=revision, rules=rules)

    async def _recorded(self, governed: Mapping[int, _Governed]) -> dict[tuple[int, str], RangeProgress]:
        """Return how far ranges were gone through, after new ones were begun and others ended."""
        found: dict[tuple[int, str], RangeProgress] = {}
        after = (0, "")
        while True:
            page = await self._store.lifecycle_ranges(after=after, limit=PAGE)
            found |= {(each.bucket_uid, each.range_id): each for each in page}
            if len(page) < PAGE:
                break
            after = page[-1].bucket_uid, page[-1].range_id
        wanted = {(uid, due.range_id): due for uid, each in governed.items() for due in each.rules.ranges}
        ended = found.keys() - wanted.keys()
        begun = wanted.keys() - found.keys()
        for uid in sorted({uid for uid, _ in ended | begun}):
            await self._change_ranges(
                uid,
                begun={range_id: wanted[at, range_id].subject for at, range_id in sorted(begun) if at == uid},
                ended=[range_id for at, range_id in sorted(ended) if at == uid],
                counts_newer=uid in governed and governed[uid].rules.newer_max > 0,
            )
        for uid, range_id in begun:
            subject = wanted[uid, range_id].subject
            found[uid, range_id] = RangeProgress(uid, range_id, subject, BEGINNING)
        return found

    async def _change_ranges(
        self, bucket_uid: int, *, begun: Mapping[str, Subject], ended: Sequence[str], counts_newer: bool
    ) -> None:
        self._watched.clear()
        new = list(begun.items())
        for start in range(0, max(len(new), len(ended)), BATCH_MAX):
            await self._store.change_lifecycle_ranges(
                bucket_uid,
                begun=dict(new[start : start + BATCH_MAX]),
                ended=ended[start : start + BATCH_MAX],
                counts_newer=counts_newer,
            )

    # ── what is due ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _go_through(
        self, each: _Governed, due: DueRange, progress: RangeProgress, until: float, now: float
    ) -> tuple[int, bool]:
        """Look at the next page of a range; return how many versions were on it, and whether it was the last."""
        if due.subject is Subject.UPLOADS:
            return await self._abort(each, due, until, now)
        bucket_uid = each.bucket.bucket_uid
        await self._watch(bucket_uid, due.range_id, until)
        page = await self._store.due_versions(
            bucket_uid,
            due.subject,
            due.scope,
            after=progress.through,
            until=until,
            newer_max=each.rules.newer_max,
            limit=min(PAGE, self._policy.turn_versions),
        )
        waiting = await self._act(each, page.candidates, now)
        await self._keep(done=[], waiting=waiting)
        await self._store.advance_lifecycle_range(bucket_uid, due.range_id, through=page.through)
        return len(page.candidates), page.is_last

    async def _watch(self, bucket_uid: int, range_id: str, until: float) -> None:
        """Have nothing come in unnoticed behind a page that is about to be read."""
        if self._watched.get((bucket_uid, range_id)) != until:
            await self._store.watch_lifecycle_range(bucket_uid, range_id, until=until)
            self._watched[bucket_uid, range_id] = until

    async def _abort(self, each: _Governed, due: DueRange, until: float, now: float) -> tuple[int, bool]:
        found = await self._store.due_uploads(each.bucket.bucket_uid, due.scope, until=until, limit=PAGE)
        for upload in found:
            ended = each.rules.rules.abortion(upload.key, upload.created_at)
            assert ended is not None and ended.at <= now, upload.upload_id
            try:
                await self._store.abort_due_upload(
                    upload, revision=each.revision, rule_id=ended.rule_id, at=now
                )
            except NoSuchUpload:
                continue
            except (Conflict, NoSuchBucket) as change:
                raise _RulesChanged from change
            self.acted[ABORT] += 1
        is_last = len(found) < PAGE
        if is_last:
            await self._store.advance_lifecycle_range(
                each.bucket.bucket_uid, due.range_id, through=Position(until, LAST_UID)
            )
        return len(found), is_last

    async def _review(self, governed: Mapping[int, _Governed], now: float) -> tuple[int, bool]:
        """Look at what is to be reviewed; return how many versions that were, and whether there is more."""
        page = await self._store.due_reviews(now=now, limit=PAGE)
        by_bucket: dict[int, list[Review]] = {}
        for review in page:
            by_bucket.setdefault(review.bucket_uid, []).append(review)
        for bucket_uid, reviews in by_bucket.items():
            waiting: list[Waiting] = []
            if bucket_uid in governed:
                each = governed[bucket_uid]
                waiting = await self._act(each, await self._reviewed(each, reviews), now)
            await self._keep(done=[review.review_id for review in reviews], waiting=waiting)
        return len(page), len(page) == PAGE

    async def _reviewed(self, each: _Governed, reviews: Sequence[Review]) -> list[Candidate]:
        """Return whose reviews these are, each once, with those that may have enough newer versions now."""
        found: dict[int, Candidate] = {}
        for review in reviews:
            if review.candidate is None:
                continue
            version = review.candidate.version
            found[version.version_uid] = review.candidate
            if each.rules.newer_max and review.reason is Reason.EVENT and version.superseded_at is not None:
                for other in await self._store.noncurrent_of_key(version.version_uid, limit=PAGE):
                    found.setdefault(other.version.version_uid, other)
        return list(found.values())

    # ── acting ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _act(self, each: _Governed, candidates: Sequence[Candidate], now: float) -> list[Waiting]:
        """
        Do what is due of these; return what is to be looked at again.

        :raise _RulesChanged: not all of it was done
        """
        deciding = Deciding(
            rules=each.rules,
            classes=self._classes,
            versioning=each.bucket.versioning,
            kept_until=self._kept_until,
            patience_seconds=self._policy.patience_seconds,
        )
        acts: list[Act] = []
        otherwise: dict[int, Act] = {}
        later: dict[int, Later] = {}
        for candidate in candidates:
            decision = deciding.of(candidate, now)
            if decision.act is not None:
                acts.append(self._marked(each.bucket, decision.act))
            if decision.later is not None:
                later[candidate.version.version_uid] = decision.later
            if decision.otherwise is not None:
                otherwise[candidate.version.version_uid] = self._marked(each.bucket, decision.otherwise)
        put_off = await self._carry_out_all(each, acts, later, now)
        await self._carry_out_all(each, [otherwise[uid] for uid in put_off if uid in otherwise], later, now)
        return [Waiting(each.bucket.bucket_uid, uid, *wish) for uid, wish in later.items()]

    def _marked(self, bucket: Bucket, act: Act) -> Act:
        if act.kind is not ActKind.EXPIRE or bucket.versioning is Versioning.UNSET:
            return act
        return replace(act, marker_id=self._new_version_id())

    async def _carry_out_all(
        self, each: _Governed, acts: Sequence[Act], later: dict[int, Later], now: float
    ) -> list[int]:
        """Do all this, a part at a time; return of which versions it has to wait."""
        put_off: list[int] = []
        for start in range(0, len(acts), ACTS_MAX * STEPS_TOGETHER):
            put_off += await self._carry_out(
                each, acts[start : start + ACTS_MAX * STEPS_TOGETHER], later, now
            )
        return put_off

    async def _carry_out(
        self, each: _Governed, acts: Sequence[Act], later: dict[int, Later], now: float
    ) -> list[int]:
        batches = [acts[start : start + ACTS_MAX] for start in range(0, len(acts), ACTS_MAX)]
        try:
            outcomes = await all_of(
                self._store.carry_out(
                    each.bucket.name,
                    batch,
                    revision=each.revision,
                    at=now,
                    owner_id=each.bucket.owner_id,
                    region=self._region,
                    events=self._events,
                )
                for batch in batches
            )
        except (Conflict, NoSuchBucket) as change:
            raise _RulesChanged from change
        put_off: list[int] = []
        for act, outcome in zip(acts, (one for batch in outcomes for one in batch), strict=True):
            if outcome is Outcome.DONE:
                self.acted[act.kind.value] += 1
            elif outcome is Outcome.MOVED:
                later[act.version.version_uid] = Later(now, Reason.MORE)
            else:
                later[act.version.version_uid] = Later(now + self._policy.patience_seconds, _WHY[outcome])
                put_off.append(act.version.version_uid)
                self._packer_bell.ring()
        return put_off

    async def _keep(self, *, done: Sequence[int], waiting: Sequence[Waiting]) -> None:
        """Record what is to be looked at again, before what was done is forgotten."""
        half = BATCH_MAX // 2
        for start in range(0, len(waiting), half):
            await self._store.keep_reviews(done=[], waiting=waiting[start : start + half])
        for start in range(0, len(done), BATCH_MAX):
            await self._store.keep_reviews(done=done[start : start + BATCH_MAX], waiting=[])
