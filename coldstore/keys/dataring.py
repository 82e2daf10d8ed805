"""
The keys of data of a running appliance: found at the start, made when the first object is to be encrypted, changed when somebody wants it.

The file has the keys, the record their ids. A key is in the file before the record names it, and the record names it before an object is
under it. The record never forgets one: of one that is missing nobody knows what is under it on tape.
"""

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from coldstore.interfaces.datakeys import DataKeyMismatch, IDataKeys
from coldstore.interfaces.keyring import KeyFileFault
from coldstore.interfaces.metadata import BATCH_MAX, Conflict, IMetadataStore
from coldstore.keys.datafile import (
    SAFE_HEAD,
    DataKey,
    DataKeySet,
    IsDataKeyFile,
    key_set_text,
    parse_key_set,
)
from coldstore.model.datakeys import DataKeyState
from coldstore.model.errors import DataKeyMissing
from coldstore.model.events import Severity
from coldstore.model.objects import WrappedKey
from coldstore.util.asynchronous import returns_deferred
from coldstore.util.envelopes import KEY_BYTES, SALT_BYTES

MISSING, NOT_EXPORTED = "data-key-missing", "data-key-not-exported"
"""Kinds of alerts."""
COUNTED_MAX = 100_000
"""Up to how many versions under a key are counted."""


@implementer(IDataKeys)
class DataKeyring:
    """See ``IDataKeys``."""

    log = Logger()

    def __init__(
        self,
        *,
        store: IMetadataStore,
        file: IsDataKeyFile,
        seconds: Callable[[], float],
        random_bytes: Callable[[int], bytes],
        in_thread: Callable[[Callable[[], None]], Deferred[None]],
        on_changed: Callable[[], None] = lambda: None,
    ) -> None:
        """
        :param seconds: the clock, unix seconds
        :param random_bytes: returns so many bytes that nobody can guess
        :param in_thread: where the file is written while requests are served
        :param on_changed: called when another key is in use, or one is back
        """
        self._store = store
        self._file = file
        self._seconds = seconds
        self._random_bytes = random_bytes
        self._in_thread = in_thread
        self._on_changed = on_changed
        self._keys: dict[str, DataKey] = {}
        self._current: DataKey | None = None
        self._missing: tuple[str, ...] = ()
        self._waiting: list[Deferred[None]] | None = None
        """Who waits for the change of the keys that is under way."""

    async def open(self) -> None:
        """
        Read the file, and compare it with the record. Keys that are missing keep nobody from starting: an alert names them.

        :raise KeyFileFault: there is a file, and it cannot be used
        :raise MetadataUnavailable: the store cannot be used
        """
        await self._take(self._file.read())

    async def _take(self, found: DataKeySet | None) -> None:
        """Use these keys from now on, once the record names them."""
        if found is not None:
            in_use = found.keys[-1].key_id
            for begin in range(0, len(found.keys), BATCH_MAX):
                since = {key.key_id: key.since for key in found.keys[begin : begin + BATCH_MAX]}
                await self._store.note_data_keys(since, in_use=in_use, at=self._seconds())
            self._keys = {key.key_id: key for key in found.keys}
            self._current = found.keys[-1]
        await self._compare()

    async def _compare(self) -> None:
        """Find out which keys are missing or were not exported, and have alerts say so."""
        records = await self._store.data_keys()
        self._missing = tuple(record.key_id for record in records if record.key_id not in self._keys)
        for record in records:
            await self._tell(
                MISSING,
                record.key_id,
                is_so=record.key_id in self._missing,
                severity=Severity.CRITICAL,
                sentence=f"{self._lack(record.key_id)}. What is encrypted under it is not served meanwhile.",
            )
            await self._tell(
                NOT_EXPORTED,
                record.key_id,
                is_so=record.exported_at is None,
                severity=Severity.WARNING,
                sentence=f"Objects are encrypted under the key of data {record.key_id}, and {self.key_file} has its only copy. Run: coldstore"
                " keys export FILE, and keep that where neither disks nor cartridges are.",
            )

    async def _tell(self, kind: str, key_id: str, *, is_so: bool, severity: Severity, sentence: str) -> None:
        subject, at = f"key of data {key_id}", self._seconds()
        if not is_so:
            await self._store.clear_alert(kind=kind, subject=subject, at=at)
            return
        if kind == MISSING:
            self.log.critical("{sentence}", sentence=sentence)
        await self._store.raise_alert(kind=kind, subject=subject, severity=severity, sentence=sentence, at=at)

    def _missed(self, key_id: str) -> DataKeyMissing:
        return DataKeyMissing(self._lack(key_id), key_id)

    def _lack(self, key_id: str) -> str:
        return (
            f"The key of data {key_id} is not in {self.key_file}: put the file back and start again, or run coldstore keys import with the"
            " export from the safe"
        )

    # ── at work ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def key_file(self) -> str:
        """See ``IDataKeys``."""
        return self._file.path

    def in_use(self) -> str | None:
        """See ``IDataKeys``."""
        return None if self._current is None else self._current.key_id

    @returns_deferred
    async def ready(self) -> None:
        """See ``IDataKeys``."""
        if self._current is None:
            if self._missing:
                raise self._missed(self._missing[-1])
            try:
                await self._changed(self._with_first)
            except KeyFileFault as fault:
                self.log.error("nothing can be encrypted: {fault}", fault=str(fault))
                raise DataKeyMissing(str(fault), "") from None
            self.log.info(
                "{path} has the key of data {key_id}: run coldstore keys export FILE, and keep that where neither disks nor cartridges are",
                path=self.key_file,
                key_id=self.in_use(),
            )

    def wrap(self, content_key: bytes, bound: bytes) -> WrappedKey:
        """See ``IDataKeys``."""
        key = self._current
        assert key is not None, "there is a key once ``ready`` has fired"
        text = key.wrap(content_key, salt=self._random_bytes(SALT_BYTES), bound=bound)
        return WrappedKey(key.key_id, text)

    def unwrap(self, wrapped: WrappedKey, bound: bytes) -> bytes:
        """See ``IDataKeys``."""
        key = self._keys.get(wrapped.master_key)
        if key is None:
            raise self._missed(wrapped.master_key)
        content_key = key.unwrap(wrapped.text, bound=bound)
        if content_key is None:
            raise DataKeyMismatch(
                f"what is recorded under the key of data {key.key_id} is not what was encrypted"
            )
        return content_key

    def rewrapped(self, wrapped: WrappedKey, bound: bytes) -> WrappedKey:
        """See ``IDataKeys``."""
        return self.wrap(self.unwrap(wrapped, bound), bound)

    # ── keys come ───────────────────────────────────────────────────────────────────────────────────────────────────

    @returns_deferred
    async def rotate(self) -> str:
        """See ``IDataKeys``."""
        self._demand_calm()
        if self._missing:
            raise Conflict(self._lack(self._missing[-1]))
        await self._changed(self._with_new)
        assert self._current is not None
        self._on_changed()
        return self._current.key_id

    @returns_deferred
    async def restore(self, text: str) -> Sequence[str]:
        """See ``IDataKeys``."""
        given = parse_key_set(text)
        self._demand_calm()
        new = [key.key_id for key in given.keys if key.key_id not in self._keys]
        if new:
            await self._changed(lambda base: given if base is None else base.with_old(given.keys))
            self._on_changed()
        return new

    def _demand_calm(self) -> None:
        if self._waiting is not None:
            raise Conflict("the keys of data are being changed already")

    def _with_new(self, base: DataKeySet | None) -> DataKeySet:
        key = DataKey(self._random_bytes(KEY_BYTES), self._seconds())
        return DataKeySet(keys=(key,)) if base is None else base.with_new(key)

    def _with_first(self, base: DataKeySet | None) -> DataKeySet:
        return self._with_new(None) if base is None else base

    async def _changed(self, keys: Callable[[DataKeySet | None], DataKeySet]) -> None:
        """Have the keys be changed, or wait for the change that is under way; who stops waiting does not stop it."""
        waiting: Deferred[None] = Deferred()
        if self._waiting is None:
            self._waiting = [waiting]
            Deferred.fromCoroutine(self._change(keys)).addBoth(self._tell_waiting)
        else:
            self._waiting.append(waiting)
        await waiting

    def _tell_waiting(self, result: Failure | None) -> None:
        waiting, self._waiting = self._waiting, None
        for each in waiting or ():
            if not each.called:
                if isinstance(result, Failure):
                    each.errback(result)
                else:
                    each.callback(None)

    async def _change(self, keys: Callable[[DataKeySet | None], DataKeySet]) -> None:
        """Have other keys: in the file, in the record, then in use. What is in the file by now stays there, whoever put it there."""
        changed: list[DataKeySet] = []

        def write() -> None:
            base, here = self._file.read(), tuple(self._keys.values())
            if here:
                base = DataKeySet(keys=here) if base is None else base.with_old(here)
            changed.append(keys(base))
            self._file.write(changed[0])

        await self._in_thread(write)
        await self._take(changed[0])

    # ── for people ──────────────────────────────────────────────────────────────────────────────────────────────────

    @returns_deferred
    async def states(self) -> Sequence[DataKeyState]:
        """See ``IDataKeys``."""
        return [
            DataKeyState(
                record=record,
                is_here=record.key_id in self._keys,
                version_count=await self._store.count_under_data_key(record.key_id, limit=COUNTED_MAX),
            )
            for record in await self._store.data_keys()
        ]

    def ids(self) -> Sequence[str]:
        """See ``IDataKeys``."""
        return list(self._keys)

    def text(self) -> str:
        """See ``IDataKeys``."""
        if self._keys:
            return key_set_text(DataKeySet(keys=tuple(self._keys.values())), head=SAFE_HEAD)
        if self._missing:
            raise self._missed(self._missing[-1])
        raise DataKeyMissing(
            "There are no keys of data yet: the first object that is to be encrypted has one made", ""
        )

    @returns_deferred
    async def note_exported(self, key_ids: Sequence[str]) -> None:
        """See ``IDataKeys``."""
        for begin in range(0, len(key_ids), BATCH_MAX):
            await self._store.note_data_keys_exported(key_ids[begin : begin + BATCH_MAX], at=self._seconds())
        await self._compare()
