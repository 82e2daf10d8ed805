"""
What a step touches, so that steps which touch nothing in common may run side by side in one transaction.

Most steps run alone. Those that a busy appliance runs by the thousand declare a footprint: names for all that they read and write.
The answer to whoever asks and the rows in the end are then the same in whatever order steps with disjoint footprints go, even when
the questions of all of them come before the writes of any.

Left out of a footprint is what such steps only read (buckets, bundles, members: steps that change those run alone), and what
each only adds to, whoever else does: the sums, the outbox, the audit trail, reviews, copies that are wanted, the reads that a version had.
"""

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from coldstore.metadata.sql import acts, deletions, telling, uploads, versions
from coldstore.metadata.sql.database import Database
from coldstore.metadata.sql.executor import Step
from coldstore.model.due import Act
from coldstore.model.objects import Piece, VersionFacts

_T = TypeVar("_T")
Footprint = frozenset[tuple[object, ...]]


class BoundStep(Generic[_T]):
    """A step with its arguments, that can be looked at."""

    __slots__ = ("arguments", "function", "named")

    def __init__(
        self,
        function: Callable[..., Coroutine[Any, Any, _T]],
        arguments: tuple[Any, ...],
        named: dict[str, Any],
    ) -> None:
        """
        :param function: called with a database, then with ``arguments``, and ``named`` ones
        """
        self.function = function
        self.arguments = arguments
        self.named = named

    def __call__(self, db: Database) -> Coroutine[Any, Any, _T]:
        return self.function(db, *self.arguments, **self.named)


def footprint_of(step: Step[Any]) -> Footprint | None:
    """Return the names of all that a step touches; None when nobody knows, so that it has to run alone."""
    if not isinstance(step, BoundStep):
        return None
    declared = _DECLARED.get(step.function)
    return None if declared is None else frozenset(declared(*step.arguments, **step.named))


def _publish(
    facts: VersionFacts, *, layout_id: str, pieces: Sequence[Piece], **_: object
) -> Iterable[tuple[object, ...]]:
    yield "key", facts.bucket, facts.key
    yield "layout", layout_id
    for piece in pieces:
        yield "address", piece.address


def _delete_current(bucket: str, keys: Sequence[bytes], **_: object) -> Iterable[tuple[object, ...]]:
    for key in keys:
        yield "key", bucket, key


def _delete_these(
    bucket: str, wanted: Sequence[tuple[bytes, str]], **_: object
) -> Iterable[tuple[object, ...]]:
    for key, _version_id in wanted:
        yield "key", bucket, key


def _carry_out(bucket: str, acts: Sequence[Act], **_: object) -> Iterable[tuple[object, ...]]:
    for act in acts:
        yield "key", bucket, act.version.facts.key


def _put_part(upload_id: str, piece: Piece) -> Iterable[tuple[object, ...]]:
    # The address that it may free is that of a piece until then: whoever wants to name it is refused, before and after.
    yield "part", upload_id, piece.ordinal
    yield "address", piece.address


def _note_reads(reads: Mapping[int, int], *, at: float) -> Iterable[tuple[object, ...]]:
    return ()


def _message_delivered(message_id: int) -> Iterable[tuple[object, ...]]:
    yield "message", message_id


_DECLARED: Mapping[Callable[..., Any], Callable[..., Iterable[tuple[object, ...]]]] = {
    versions.publish: _publish,
    deletions.delete_current: _delete_current,
    deletions.delete_these: _delete_these,
    acts.carry_out: _carry_out,
    versions.note_reads: _note_reads,
    uploads.put_part: _put_part,
    telling.message_delivered: _message_delivered,
}
