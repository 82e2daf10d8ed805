"""How often and when versions are read: counted in memory, written in batches, so that a read costs no write."""

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from coldstore.interfaces.metadata import BATCH_MAX, IMetadataStore

FLUSH_SECONDS = 5.0
VERSIONS_MAX = 10_000
"""Versions counted at once; further ones go uncounted until the next flush: the counts only guide eviction."""


class ReadCounts:
    """The reads of the last few seconds."""

    log = Logger()

    def __init__(self, store: IMetadataStore, clock: IReactorTime) -> None:
        self._store = store
        self._clock = clock
        self._counts: dict[int, int] = {}
        self._is_scheduled = False

    def note(self, version_uid: int) -> None:
        """Count one read."""
        if version_uid not in self._counts and len(self._counts) >= VERSIONS_MAX:
            return
        self._counts[version_uid] = self._counts.get(version_uid, 0) + 1
        if not self._is_scheduled:
            self._is_scheduled = True
            self._clock.callLater(FLUSH_SECONDS, self._flush)

    def _flush(self) -> None:
        Deferred.fromCoroutine(self._write()).addErrback(
            lambda failure: self.log.debug("reads were not counted: {reason}", reason=str(failure.value))
        )

    async def _write(self) -> None:
        # In the order of the record, and all steps at once: few transactions, in which neighbours share what is written.
        counts, self._counts = sorted(self._counts.items()), {}
        self._is_scheduled = False
        await gatherResults(
            [
                self._store.note_reads(dict(counts[begin : begin + BATCH_MAX]), at=self._clock.seconds())
                for begin in range(0, len(counts), BATCH_MAX)
            ],
            consumeErrors=True,
        )
