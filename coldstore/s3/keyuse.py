"""When access keys are used: noted in memory, written in batches, so that a request costs no write."""

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from coldstore.interfaces.metadata import BATCH_MAX, IMetadataStore

FLUSH_SECONDS = 5.0
PRECISION_SECONDS = 60.0
"""A use is noted when the last one that was noted is older."""
KEYS_MAX = 10_000
"""Keys that are remembered; when there are more, all are noted anew."""

NoteUse = Callable[[str, float], None]
"""Takes an access key with which a request was signed, and the time in unix seconds."""


class KeyUses:
    """The last uses of keys."""

    log = Logger()

    def __init__(self, store: IMetadataStore, clock: IReactorTime) -> None:
        self._store = store
        self._clock = clock
        self._noted: dict[str, float] = {}
        self._unwritten: dict[str, float] = {}
        self._is_scheduled = False

    def note(self, access_key: str, at: float) -> None:
        """Note a use."""
        if at - self._noted.get(access_key, 0.0) < PRECISION_SECONDS:
            return
        if len(self._noted) >= KEYS_MAX:
            self._noted.clear()
        self._noted[access_key] = self._unwritten[access_key] = at
        if not self._is_scheduled:
            self._is_scheduled = True
            self._clock.callLater(FLUSH_SECONDS, self._flush)

    def _flush(self) -> None:
        Deferred.fromCoroutine(self._write()).addErrback(
            lambda failure: self.log.debug("uses of keys were not noted: {reason}", reason=str(failure.value))
        )

    async def _write(self) -> None:
        uses, self._unwritten = sorted(self._unwritten.items()), {}
        self._is_scheduled = False
        for begin in range(0, len(uses), BATCH_MAX):
            await self._store.note_key_uses(dict(uses[begin : begin + BATCH_MAX]))
