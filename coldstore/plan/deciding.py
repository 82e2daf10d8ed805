"""
What lifecycle rules do to a version now, or why not yet.

Of what is due at once a permanent deletion comes first, then a transition, then a delete marker (S3 User Guide, "Conflicts in lifecycle
configurations"). A version under lock is never deleted for good; one with a restored copy keeps its class as long as that lives.
"""

from collections.abc import Callable
from math import inf
from typing import NamedTuple

from coldstore.model.due import Act, ActKind, Candidate, Reason
from coldstore.model.objects import NULL_VERSION_ID, ArchiveState, ObjectVersion, Versioning
from coldstore.plan.classes import ClassRules
from coldstore.plan.dueranges import CompiledRules
from coldstore.plan.lifecycle import DueTransition


class Later(NamedTuple):
    """When (unix seconds) to look again, and why."""

    look_at: float
    reason: Reason


class Decision(NamedTuple):
    """
    What to do now (None: nothing), and when to look again although no range will ask for it (None: never).

    :ivar otherwise: what to do if the act has to wait
    """

    act: Act | None = None
    later: Later | None = None
    otherwise: Act | None = None


class Deciding:
    """
    Decides about versions of one bucket.

    :param kept_until: until when (unix seconds; infinite: nobody knows) a version may not be deleted for good, None when it may
    :param patience_seconds: after how long to look again at what nobody knows the end of
    """

    def __init__(
        self,
        *,
        rules: CompiledRules,
        classes: ClassRules,
        versioning: Versioning,
        kept_until: Callable[[ObjectVersion, float], float | None],
        patience_seconds: float,
    ) -> None:
        self._rules = rules.rules
        self._newer_kept = rules.newer_kept
        self._classes = classes
        self._versioning = versioning
        self._kept_until = kept_until
        self._patience_seconds = patience_seconds

    def of(self, candidate: Candidate, now: float) -> Decision:
        """Return what is due of a version that is not deleted."""
        version = candidate.version
        if version.superseded_at is not None:
            return self._of_noncurrent(candidate, now)
        if version.is_marker:
            return self._of_marker(candidate, now)
        return self._of_current(version, now)

    def _of_current(self, version: ObjectVersion, now: float) -> Decision:
        ended = self._rules.expiration(version)
        is_ended = ended is not None and ended.at <= now
        act = None
        if ended is not None and is_ended:
            act = Act(kind=ActKind.EXPIRE, version=version, rule_id=ended.rule_id)
        if act is not None and not self._leaves_it(version):
            kept = self._kept(version, now)
            if kept is None:
                return Decision(act)
            act, later = None, kept
        else:
            later = None
        move = self._rules.transition(version, now)
        if move is None:
            return Decision(act, later)
        moved = self._moved(version, move, now)
        if act is None:
            return Decision(moved.act, _earlier(later, moved.later))
        if moved.act is None:
            # The marker does not wait for what the class waits for; the version is noncurrent then, and of that other rules speak.
            return Decision(act)
        return Decision(moved.act, Later(now, Reason.MORE), act)

    def _of_noncurrent(self, candidate: Candidate, now: float) -> Decision:
        version, newer = candidate.version, candidate.newer
        later = None
        ended = self._rules.noncurrent_expiration(version, newer)
        if ended is not None and ended.at <= now:
            later = self._kept(version, now)
            if later is None:
                kept = self._newer_kept.get(ended.rule_id, 0)
                return Decision(Act(kind=ActKind.DELETE, version=version, rule_id=ended.rule_id, newer=kept))
        move = self._rules.noncurrent_transition(version, newer, now)
        if move is None:
            return Decision(None, later)
        moved = self._moved(version, move, now)
        return Decision(moved.act, _earlier(later, moved.later))

    def _of_marker(self, candidate: Candidate, now: float) -> Decision:
        if not candidate.is_alone:
            return Decision()
        ended = self._rules.marker_expiration(candidate.version)
        if ended is None or ended.at > now:
            return Decision()
        return Decision(Act(kind=ActKind.DELETE, version=candidate.version, rule_id=ended.rule_id))

    def _moved(self, version: ObjectVersion, move: DueTransition, now: float) -> Decision:
        restore = version.restore
        if restore is not None:
            return Decision(None, self._at(restore.expires_at or inf, now, Reason.RESTORE))
        wanted = self._classes[move.storage_class]
        is_on_its_way = version.archive_state in (ArchiveState.PENDING, ArchiveState.CLAIMED)
        if version.archive_state is ArchiveState.CLAIMED or (wanted.pools and is_on_its_way):
            return Decision(None, self._at(inf, now, Reason.ARCHIVE))
        return Decision(
            Act(
                kind=ActKind.MOVE,
                version=version,
                rule_id=move.rule_id,
                storage_class=move.storage_class,
                pools=wanted.pools,
                needs_disk=wanted.keep_on_disk or not wanted.pools,
            )
        )

    def _leaves_it(self, version: ObjectVersion) -> bool:
        """Whether a version stays when it expires, behind a delete marker."""
        if self._versioning is Versioning.ENABLED:
            return True
        return self._versioning is Versioning.SUSPENDED and version.facts.version_id != NULL_VERSION_ID

    def _kept(self, version: ObjectVersion, now: float) -> Later | None:
        until = self._kept_until(version, now)
        return None if until is None else self._at(until, now, Reason.LOCK)

    def _at(self, until: float, now: float, reason: Reason) -> Later:
        """Look again when something should be over; when that is unknown, or was to be so already, a while from now."""
        return Later(until if now < until < inf else now + self._patience_seconds, reason)


def _earlier(one: Later | None, other: Later | None) -> Later | None:
    """Return when to look first: then all is decided anew."""
    return min((each for each in (one, other) if each is not None), default=None)
